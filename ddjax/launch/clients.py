"""The parts of a comparison of federated learning: clients, public inputs, what is measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ddjax import artifact, checks, coresets, figures, networks, predictions, report
from ddjax.data import Dataset, load
from ddjax.federated import Client, Labelled, Phase, Protocol, enrolled, together
from ddjax.judge import Evaluation
from ddjax.launch.choices import in_form, load_data, random_inits
from ddjax.launch.directory import inputs_of
from ddjax.launch.flags import DATASET, FILE, flag, listed
from ddjax.launch.kept import each_seed
from ddjax.launch.settings import DataChoice, Where
from ddjax.types import InitDistribution, Network

ALONE, CONTROL, PUBLIC = "no collaboration", "private epochs alone", "public images"
"""The names of scores: before the first round, after rounds without agreement, with drawn public images."""


@dataclasses.dataclass(frozen=True)
class Federated(Where, DataChoice):
    """The settings of federated learning; `--dataset` is the private one."""

    public: str = flag("mnist", "the public data, as --dataset, of the same classes", path=True, role=DATASET)
    networks: str = flag(
        "mlp:widths=128x128,mlp:widths=64x,mlp:widths=256x128x64,mlp:widths=512x", "one for each client"
    )
    per_class: int = flag(3, "private examples of each class, for each client", low=1)
    num_public: int = flag(5000, "public images, drawn", low=1)
    per_round: int = flag(2000, "of them drawn for each round's agreement", low=1)
    consensus: str | None = flag(
        None, "agree on the images of this artifact too, a distilled.npz", path=True, role=FILE
    )
    consensus_images: int | None = flag(None, "agree on so many fixed random public images too", low=1)
    rounds: int = flag(10, "of agreement", low=1)
    public_epochs: int = flag(20, "passes over the public set before", low=1)
    private_epochs: int = flag(25, "passes over private examples before", low=1)
    revisit_epochs: int = flag(4, "passes over private examples in each round", low=1)
    train_lr: float = flag(1e-3, "rate of Adam", positive=True)
    num_seeds: int = flag(5, "draws of private examples, public images and initial weights", low=1)

    def protocol(self) -> Protocol:
        """The trainings that the settings ask for.

        Returns:
            The settings of all phases.
        """
        lr = self.train_lr
        return Protocol(
            Phase(self.public_epochs, 128, lr),
            Phase(self.private_epochs, 32, lr),
            Phase(1, 128, lr),
            Phase(self.revisit_epochs, 16, lr),
        )


class Federation(NamedTuple):
    """Data and networks of federated learning.

    Attributes:
        public: the public data.
        private: the private data, on whose test split clients are tested.
        members: each client's network and p(θ0).
        fixed: fixed public inputs to agree on, by name, each `[m, *input_shape]`.
    """

    public: Dataset
    private: Dataset
    members: list[tuple[Network, InitDistribution]]
    fixed: dict[str, np.ndarray]

    @classmethod
    def of(cls, config: Federated) -> Federation:
        """The data and networks that the settings ask for.

        Args:
            config: the settings.

        Returns:
            The parts.

        Raises:
            ValueError: the settings do not fit each other, the data or the artifact.
            FileNotFoundError: the data or the artifact are missing.
        """
        private = load_data(config)
        public = in_form(load(config.public, data_dir=config.data_dir, seed=config.seed), config)
        for what, one, other in (
            ("input shape", public.input_shape, private.input_shape),
            ("classes", public.num_classes, private.num_classes),
        ):
            checks.equal(f"public: {what}", one, other, remedy="Give data of the same form, or --resize.")
        coresets.check_enough(
            private.train, config.per_class * len(listed("networks", config.networks)), private.num_classes
        )
        built = [
            networks.by_text(text, private.input_shape, private.num_classes)
            for text in listed("networks", config.networks)
        ]
        members = [(one, random_inits(config, one)) for one in built]
        fixed: dict[str, np.ndarray] = {}
        if config.consensus is not None:
            phi = np.asarray(artifact.load(config.consensus).schedule.inputs)
            checks.equal(
                "consensus: input shape", phi.shape[2:], public.input_shape, remedy="Distil the public data."
            )
            fixed["distilled images"] = phi.reshape(-1, *phi.shape[2:])
        if config.consensus_images is not None:
            rows = np.random.default_rng(config.seed).permutation(len(public.train))[
                : config.consensus_images
            ]
            fixed[f"{len(rows)} fixed images"] = public.train.at(rows).encoded()
        return cls(public, private, members, fixed)

    def inputs(self, config: Federated) -> dict[str, Any]:
        """The identity of what is read: the private data, the files, and the public data.

        Args:
            config: the settings.

        Returns:
            What `inputs_of` says of the private data, and of the public ones as `public`.
        """
        return {**inputs_of(config, self.private), "public": inputs_of(config, self.public)["data"]}

    def measured(self, config: Federated, workdir: Path) -> dict[str, Any]:
        """All scores over the seeds, for a record.

        Args:
            config: the settings.
            workdir: the directory where each seed is kept as soon as it is known.

        Returns:
            `scores`: the mean over the clients of the test accuracy, over the seeds, for each way, as
            `clients` those of each client; `rounds`: the mean accuracy after each round, from 0, the start,
            `[seeds][rounds + 1]` for each way.
        """

        def kept(seed: int) -> dict[str, Any]:
            found = self._one(config, seed)
            shown = ", ".join(f"{name} {curve[-1].mean():.1f}" for name, curve in found.items())
            print(f"seed {seed}: {shown}", flush=True)
            return {name: curve.tolist() for name, curve in found.items()}

        runs = each_seed(workdir, range(config.seed, config.seed + config.num_seeds), kept)
        curves = {name: np.stack([run[name] for run in runs]) for name in runs[0]}
        scores = {
            ALONE: next(iter(curves.values()))[:, 0],
            **{name: one[:, -1] for name, one in curves.items()},
        }
        return {
            "networks": [network.name for network, _ in self.members],
            "floats_per_round": {
                name: int(count) * self.public.num_classes
                for name, count in (
                    (PUBLIC, min(config.per_round, config.num_public)),
                    *((name, len(one)) for name, one in self.fixed.items()),
                )
            },
            "scores": {
                name: {**Evaluation.of(one.mean(1)).as_dict(), "clients": one.tolist()}
                for name, one in scores.items()
            },
            "rounds": {name: one.mean(2).tolist() for name, one in curves.items()},
        }

    def _one(self, config: Federated, seed: int) -> dict[str, np.ndarray]:
        """`[rounds + 1, clients]`, the test accuracies before and after each round, for each way."""
        rng, keys = np.random.default_rng(seed), jax.random.split(jax.random.key(seed), 2)
        public = self.public.train.at(rng.permutation(len(self.public.train))[: config.num_public])
        inputs, protocol = public.encoded(), config.protocol()
        clients = enrolled(
            self.members,
            Labelled(inputs, self._one_hot(public.labels)),
            self._private(config.per_class, seed),
            keys[0],
            protocol=protocol,
        )
        drawn = [rng.permutation(len(inputs))[: config.per_round] for _ in range(config.rounds)]
        ways: dict[str, Callable[[int], np.ndarray] | None] = {
            CONTROL: None,
            PUBLIC: lambda number: inputs[drawn[number]],
            **{name: (lambda number, one=one: one) for name, one in self.fixed.items()},
        }
        start = self._tested(clients)

        def along(consult: Callable[[int], np.ndarray] | None) -> np.ndarray:
            found = [start]
            how = {"rounds": config.rounds, "protocol": protocol}
            together(
                clients, consult, keys[1], **how, watch=lambda number, one: found.append(self._tested(one))
            )
            return np.stack(found)

        return {name: along(consult) for name, consult in ways.items()}

    def _private(self, per_class: int, seed: int) -> list[Labelled]:
        """Each client's own examples; no two clients have one in common."""
        split, count = self.private.train, len(self.members)
        rows = coresets.random_real(
            split, per_class=per_class * count, num_classes=split.num_classes, seed=seed
        )
        parts = [split.at(rows[:, i::count].ravel()) for i in range(count)]
        return [Labelled(one.encoded(), self._one_hot(one.labels)) for one in parts]

    def _one_hot(self, labels: np.ndarray) -> np.ndarray:
        return np.eye(self.private.num_classes, dtype=np.float32)[labels]

    def _tested(self, clients: Sequence[Client]) -> np.ndarray:
        return np.array([predictions.accuracy(one.network, one.params, self.private.test) for one in clients])


def table(result: Mapping[str, Any]) -> str:
    """A row for each way of working together.

    Args:
        result: the content of `result.json`.

    Returns:
        The table as text.
    """
    sent = result["floats_per_round"]
    rows = [
        (
            name,
            report.format_score(one),
            *(f"{value:.1f}" for value in np.mean(one["clients"], 0)),
            sent.get(name, 0),
        )
        for name, one in result["scores"].items()
    ]
    clients = (f"{name} {i}" for i, name in enumerate(result["networks"]))
    return report.table(rows, ("test accuracy, %", "mean of clients", *clients, "floats a round"))


def draw(path: Path, result: Mapping[str, Any]) -> None:
    """Draw the mean accuracy of the clients over the rounds.

    Args:
        path: the file of the figure.
        result: the content of `result.json`.
    """
    series = [
        figures.Line(name, range(len(runs[0])), np.mean(runs, 0).tolist(), np.std(runs, 0).tolist())
        for name, runs in result["rounds"].items()
    ]
    figures.lines(
        path, series, x_label="rounds", y_label="test accuracy, mean of clients, %", title=result["dataset"]
    )
