"""Evaluate any `distilled.npz`: any network, any p(θ0), any number of unseen initial weights, with baselines.

Claim: none: it measures what other experiments claim.
Cost: not recorded; training on the images is most of it, `--nobaselines` leaves the rest out.

    python -m experiments.evaluate --artifact=runs/random_init-mnist/distilled.npz --network=mlp
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddjax import artifact, checks, coresets, files, inits, networks, report
from ddjax import pool as pools
from ddjax.data import Dataset, load
from ddjax.evaluate import evaluate
from ddjax.launch import DataChoice, Keys, Launcher, Where, flag, flag_like, results
from ddjax.launch.choices import build_network, choose_network, in_form, runs_at_once
from ddjax.types import Distilled, InitDistribution, Network

LARGEST = 65_536
"""The most units of a layer that the metadata of an artifact may ask for."""

FROM_ELSEWHERE = ("name", "image_shape", "num_classes", "conv_form")
"""The arguments of a network that are not read from an artifact.

The first three follow from the data, and the last does not change what the network is.
"""


@dataclasses.dataclass(frozen=True)
class Config(DataChoice):
    """The settings of an evaluation."""

    artifact: str = flag("", "the distilled.npz to evaluate")
    dataset: str | None = flag(None, "what to test on; by default the artifact's own")
    data_dir: str | None = flag_like(Where, "data_dir")
    num_eval_inits: int = flag(20, "unseen initial weights behind the score", low=1)
    seed: int = flag_like(Where, "seed", help="of the initial weights")
    pool: str | None = flag(None, "start from the held-out members of this pool.npz, each once")
    fixed: bool = flag(False, "evaluate at the one θ0 of a fixed_init run with this seed and init")
    baselines: bool = flag(True, "measure the baselines too")
    output: str | None = flag(None, "write the result to this JSON file too")


def prepare(config: Config) -> tuple[Distilled, Dataset]:
    """The artifact and the data to test it on, before anything is computed or written.

    Args:
        config: the settings.

    Returns:
        The artifact, and the data.

    Raises:
        FileNotFoundError: there is no artifact, no data, or no directory for the output.
        ValueError: the images or classes of the artifact are not those of the data.
    """
    if not config.artifact:
        raise ValueError(
            "artifact: expected a distilled.npz; got none. Give --artifact=path/to/distilled.npz."
        )
    if config.output:
        check_output(Path(config.output))
    distilled = artifact.load(config.artifact)
    data = in_form(real_data(config, distilled), config)
    schedule = distilled.schedule
    for what, got, expected in (
        ("the artifact's image shape (H, W, C)", schedule.inputs.shape[2:], data.image_shape),
        ("the artifact's number of classes", schedule.labels.shape[2], data.num_classes),
    ):
        checks.equal(what, got, expected, remedy=f"Test on the data it was distilled from, not {data.name}.")
    if config.baselines:
        steps, images = schedule.inputs.shape[:2]
        coresets.check_enough(data.train, steps * max(1, images // data.num_classes), data.num_classes)
    return distilled, data


def check_output(path: Path) -> None:
    """Check before the evaluation, and not after it, that the result can be written.

    Args:
        path: the file to write.

    Raises:
        ValueError: there is a directory at this path.
        OSError: the directory of the file is missing or cannot be written.
    """
    if path.is_dir():
        raise ValueError(f"output: expected a file to write; {path} is a directory. Give another --output.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"output: expected a directory; there is none at {path.parent}. Make it.")
    files.check_room(path.parent, 2**16)


def real_data(config: Config, distilled: Distilled) -> Dataset:
    """The data that the flags name, or else the artifact.

    Args:
        config: the settings.
        distilled: the artifact.

    Returns:
        The data.

    Raises:
        FileNotFoundError: the data are not prepared.
        ValueError: neither names data that `ddjax.data.load` knows.
    """
    if config.dataset:
        return load(config.dataset, data_dir=config.data_dir)
    name = distilled.metadata.get("dataset", "")
    remedy = "Give --dataset=..., the data to test on."
    if not name or name.endswith(".npz"):  # a file from elsewhere does not say what is opened here
        raise ValueError(
            f"{config.artifact}: dataset: expected the name of a data set; got {name[:80]!r}. {remedy}"
        )
    try:
        return load(name, data_dir=config.data_dir)
    except ValueError as error:
        raise ValueError(f"{error} The name is the artifact's. {remedy}") from error


def own_network(config: Config, distilled: Distilled) -> tuple[str, Mapping[str, Any]] | None:
    """The name and settings of the network that φ was distilled with.

    Args:
        config: the settings.
        distilled: the artifact.

    Returns:
        The name and the settings, the latter empty where the flags name another network; None where the
        artifact names no network.

    Raises:
        ValueError: the flags name no network, and the artifact's cannot be built from its name and settings.
    """
    name, own = distilled.metadata.get("network", ""), distilled.metadata.get("network_settings", {})
    if not name:
        return None
    if config.network not in (None, name):
        return name, {}
    remedy = "Give --network=..., one to evaluate on."
    checks.choice(f"{config.artifact}: network", name, networks.NAMES, remedy=remedy)
    for setting, value in own.items():
        listed = value if isinstance(value, list) else [value]
        plain = all(isinstance(one, str) or (type(one) is int and 0 < one <= LARGEST) for one in listed)
        if setting in FROM_ELSEWHERE or len(listed) > LARGEST or not plain:
            raise ValueError(
                f"{config.artifact}: network_settings: expected the network's own, names or numbers "
                f"from 1 to {LARGEST:,}; got {setting[:80]!r}: {str(value)[:80]}. {remedy}"
            )
    return name, own


def initial_weights(config: Config, network: Network) -> InitDistribution:
    """p(θ0) of the flags: fresh draws, a pool's held-out members, or the θ0 of `fixed_init` with this seed.

    Args:
        config: the settings.
        network: the network that the weights belong to.

    Returns:
        The distribution.

    Raises:
        ValueError: the flags name both a pool and a fixed θ0, or a pool of another network.
        FileNotFoundError: there is no pool.
    """
    if config.pool and config.fixed:
        raise ValueError("pool: expected it alone; got --fixed too. Give one of them.")
    if config.pool:
        return inits.pretrained(pools.load(config.pool).fit(network), split="held_out")
    if config.fixed:
        theta_key = Keys.of(config.seed).theta
        return inits.fixed(network, theta_key, scheme=config.init, gain=config.init_gain)
    return inits.random(network, scheme=config.init, gain=config.init_gain)


def run(config: Config) -> dict[str, Any]:
    """Train unseen initial weights on the artifact, test them, print and return the scores.

    Args:
        config: the settings.

    Returns:
        The scores of the artifact and of the baselines.

    Raises:
        ValueError: the settings do not fit each other, the artifact or the data.
        FileNotFoundError: the artifact, the data or the pool is missing.
    """
    distilled, data = prepare(config)
    otherwise = own_network(config, distilled)
    network = build_network(choose_network(config, data, otherwise=otherwise), data)
    distribution = initial_weights(config, network)
    keys = Keys.of(config.seed)
    score = evaluate(
        distilled,
        network,
        distribution,
        data.test,
        key=keys.test,
        num_inits=config.num_eval_inits,
        runs_per_chunk=runs_at_once(config.num_eval_inits),
    )
    result = {"artifact": config.artifact, "dataset": data.name, "network": network.name}
    result |= {"init": distribution.name, "test_accuracy": score.as_dict(), "baselines": None}
    if config.baselines:
        steps, images = distilled.schedule.inputs.shape[:2]
        lrs = distilled.schedule.lrs
        result["baselines"] = results.measure_baselines(
            data,
            network,
            distribution,
            distilled.recipe,
            layout=(steps, 1 if lrs is None else len(lrs), max(1, images // data.num_classes)),
            num_inits=len(score.values),
            seed=config.seed,
            key=keys.baselines,
        )
    print(f"{config.artifact} on {data.name}, {network.name} from {distribution.name}\n")
    print(results.table(result))
    if config.output:
        report.write_json(Path(config.output), result | results.made_on())
    return result


LAUNCHER = Launcher("evaluate", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()
