"""Federated learning by agreement on a public set (FedMD): networks of different shapes share logits alone.

Clients have a few private examples each. They train on the public set, then on their own examples, and then
agree, round by round, on the mean of their logits for public inputs. `--consensus` puts distilled images in
the place of these inputs, `--consensus_images` as many random real ones, so that less is sent. Beside them
stand the clients before they agree, and after the same private trainings without agreeing.

Claim: public MNIST, private USPS, three images of each class for each of four MLPs, 20 rounds, five draws:
76.1 ± 0.5 over the clients, 73.2 ± 1.0 after the same private epochs without agreement, 67.4 ± 0.6 before. A
hundred fixed public images give 75.5 ± 0.7, a hundred images distilled by the unrolled method 74.8 ± 0.5;
after 10 rounds a hundred of DM 74.9 ± 0.8, fixed ones 74.8 ± 0.9.
Cost: two CPU cores beside other runs: 349 s.
Records: results/federated-usps.json, results/federated-usps-dm.json

    python -m experiments.federated --dataset=path/to/usps.npz --resize=28 --public=mnist --rounds=10
    python -m experiments.federated --dataset=path/to/usps.npz --resize=28 --public=mnist \
        --consensus=runs/distribution_matching-mnist/distilled.npz --consensus_images=100

References:
    Li and Wang 2019, FedMD: Heterogenous Federated Learning via Model Distillation, arXiv 1910.03581.
"""

from __future__ import annotations

from typing import Any

from ddjax.launch import Launcher, recorded_once
from ddjax.launch import clients as parts
from ddjax.launch.clients import Federated as Config


def run(config: Config) -> dict[str, Any]:
    """Let clients train, agree and train, print and return the scores; or find them measured."""
    federation = parts.Federation.of(config)
    private, public = federation.private, federation.public.name
    return recorded_once(
        "federated",
        config,
        private,
        lambda scores: federation.measured(config, scores.workdir),
        what=f"{len(federation.members)} clients of {private.name} agree on {public}",
        inputs=federation.inputs(config),
        written="seeds.json, result.json",
        table=parts.table,
        pictures={"federated.png": parts.draw},
    )


LAUNCHER = Launcher("federated", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()
