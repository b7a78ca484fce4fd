"""The tables of Wang et al. 2018 and one of our own: which runs each cell comes from, and what the paper has.

The paper's numbers are percent, mean and standard deviation over held-out initial weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.linear_bound import Config, distributions
from experiments.regenerate import Cell, Flags, Published, Run, Table, names_of


class Request(NamedTuple):
    """What a table is asked for.

    Attributes:
        dataset: a name that `ddjax.data.load` knows; the source or target where a table is of pairs.
        budget: one of `experiments.regenerate.BUDGETS`.
        root: of the runs' directories.
        usps: path of an `.npz` of USPS; None where there is none.
        svhn: name or path of SVHN; None where there is none.
    """

    dataset: str
    budget: str
    root: Path
    usps: str | None = None
    svhn: str | None = None

    @property
    def is_full(self) -> bool:
        """Whether the paper's own budget is asked for."""
        return self.budget == "full"

    @property
    def num_inits(self) -> int:
        """Unseen initial weights behind each score."""
        return 200 if self.is_full else 50


FIXED_SEEDS = (0, 1, 2)
"""Of the θ0 that are distilled for one by one."""

OUTER_STEPS = {"mnist": 23_600, "cifar10": 19_600}
"""Of the paper, 400 epochs."""

TRAINED = ("random real", "optimized real", "k-means", "class mean")
"""The baselines that train a network."""

FEWER_CANDIDATES: Flags = {
    "learning_rates": "0.02,0.03,0.05,0.07,0.1,0.15",
    "num_tuning_inits": 20,
    "num_candidates": 50,
    "num_selection_inits": 10,
}
"""What an hour affords of the baselines' choices."""

START: Flags = {"initial_images": "k_means", "label_confidence": 0.9}
"""What all of ours start from: k-means centroids, and labels that are learned too."""

KNOWN: Flags = {
    "inner_epochs": 10,
    "inner_optimizer": "momentum",
    "inner_lr": 0.01,
    "batch_size": 512,
    "outer_lr": 0.03,
}
"""100 images for one known θ0."""

KNOWN_FEW: Flags = KNOWN | {"inner_steps": 1, "inner_epochs": 30, "outer_lr": 0.05}
"""Ten images for one known θ0."""

UNSEEN: Flags = {
    "inner_epochs": 20,
    "inner_optimizer": "adam",
    "inner_lr": 0.002,
    "window": 30,
    "horizon": "random",
    "batch_size": 256,
    "num_inits": 2,
    "outer_lr": 0.03,
    "num_val_inits": 8,
}
"""100 images for initial weights never seen before."""

PRETRAINED: Flags = {
    "inner_lr": 0.03,
    "batch_size": 512,
    "num_inits": 2,
    "outer_lr": 0.03,
    "num_val_inits": 8,
}
"""100 images for pretrained networks never seen before."""

CIFAR_KNOWN: Flags = {
    "inner_epochs": 3,
    "inner_lr": 0.003,
    "num_outer_steps": 1200,
    "batch_size": 256,
    "validate_every": 50,
    "record_every": 5,
}
"""What differs from `KNOWN` for CIFAR-10 on two cores: 30 inner steps."""

CIFAR_UNSEEN: Flags = {
    "inner_epochs": 10,
    "inner_lr": 0.001,
    "window": 20,
    "num_inits": 1,
    "num_outer_steps": 600,
    "validate_every": 50,
    "record_every": 5,
    "num_val_inits": 4,
}
"""What differs from `UNSEEN` there: 100 inner steps, of which 20 are differentiated, one network at once."""

FEW_REAL: Flags = {"augment": "scale+rotate", "num_outer_steps": 1000}
"""For one known network and few real images, such as USPS's 6,694, which φ otherwise learns by heart."""

POISON: Flags = START | {"batch_size": 512, "outer_lr": 0.1, "validate_every": 50, "num_val_inits": 8}
"""100 images that bend well-trained networks in one step."""

BASIC = {
    "mnist": {
        "fixed init": Published(96.6),
        "fixed init, 1 step": Published(93.8),
        "random init": Published(79.5, 8.1),
        "random real": Published(68.6, 9.8),
        "optimized real": Published(73.0, 7.6),
        "k-means": Published(76.4, 9.5),
        "class mean": Published(77.1, 2.7),
        "k-NN, random real": Published(71.5, 2.1),
        "k-NN, k-means": Published(92.2, 0.1),
        "all data": Published(99),
    },
    "cifar10": {
        "fixed init": Published(54.0),
        "random init": Published(36.8, 1.2),
        "random real": Published(21.3, 1.5),
        "optimized real": Published(23.4, 1.3),
        "k-means": Published(22.5, 3.1),
        "class mean": Published(22.3, 0.7),
        "k-NN, random real": Published(18.8, 1.3),
        "k-NN, k-means": Published(29.4, 0.3),
        "all data": Published(80),
    },
}

ADAPTATION = {
    "fixed pretrained": (Published(97.9), Published(93.2), Published(92.9)),
    "random pretrained": (Published(95.4, 1.8), Published(92.7, 1.4), Published(85.2, 4.7)),
    "random real": (Published(94.9), Published(87.1), Published(84.6)),
    "optimized real": (Published(95.2), Published(87.6), Published(85.2)),
    "k-means": (Published(92.2), Published(85.6), Published(85.8)),
    "class mean": (Published(93.9), Published(78.4), Published(74.9)),
    "no adaptation": (Published(90.4, 3.0), Published(67.5, 3.9), Published(51.6, 2.8)),
    "all of the target, from scratch": (Published(97.3), Published(98.6), Published(98.6)),
}
"""MNIST to USPS, USPS to MNIST, SVHN to MNIST."""

ATTACKS = {"mnist": Published(71.4, 29.6), "cifar10": Published(45.9, 18.1)}
"""Attacked images of class 0 taken for class 1 after one step."""


def basic(asked: Request) -> Table:
    """Fixed and random init with 100 images, the baselines; for grey digits fixed init with 10 images too."""
    is_small_problem = asked.dataset != "cifar10"
    published = BASIC.get(asked.dataset, {})
    shared: Flags = {"dataset": asked.dataset, "baselines": False} | START

    def steps(small: int) -> Flags:
        return {"num_outer_steps": OUTER_STEPS.get(asked.dataset, 23_600) if asked.is_full else small}

    def known(name: str, settings: Flags, seeds: Sequence[int]) -> list[Run]:
        return [
            Run(f"{name}-seed{seed}", "fixed_init", shared | settings | {"seed": seed}, seed == seeds[0])
            for seed in seeds
        ]

    seeds = FIXED_SEEDS if asked.is_full or is_small_problem else FIXED_SEEDS[:1]
    is_cut = not (asked.is_full or is_small_problem)
    fixed = known("fixed-100", KNOWN | steps(1500) | (CIFAR_KNOWN if is_cut else {}), seeds)
    few = known("fixed-10", KNOWN_FEW | steps(2500), seeds) if is_small_problem else []
    drawn = Run(
        "random-100",
        "random_init",
        shared
        | UNSEEN
        | steps(2000)
        | {"num_eval_inits": asked.num_inits}
        | (CIFAR_UNSEEN if is_cut else {})
        | ({"num_inits": 4} if asked.is_full else {}),
        True,
    )
    compared: Flags = {"dataset": asked.dataset, "num_eval_inits": asked.num_inits}
    if not asked.is_full:
        compared |= FEWER_CANDIDATES
    tuned = compared | {"baselines": "; ".join(TRAINED), "epochs": "3,10,30,100"}
    tuned |= {} if asked.is_full else {"learning_rates": "0.02,0.05,0.1", "epochs": "10,30"}
    runs = [
        *(*fixed, *few, drawn),
        Run("baselines", "baselines", compared),
        Run("baselines-epochs", "baselines", tuned),
    ]
    rows = [*TRAINED, *(f"k-NN, {name}" for name in TRAINED), "all data"]
    column = f"{asked.dataset}, 100 images"
    cells = [
        Cell("fixed init", column, names_of(fixed), ("test_accuracy",), published.get("fixed init")),
        Cell("random init", column, ("random-100",), ("test_accuracy",), published.get("random init")),
        *(Cell(row, column, ("baselines",), ("baselines", row), published.get(row)) for row in rows),
        *(
            Cell(f"{row}, epochs tuned too", column, ("baselines-epochs",), ("baselines", row))
            for row in TRAINED
        ),
    ]
    if few:
        one_step = published.get("fixed init, 1 step")
        column = f"{asked.dataset}, 10 images"
        cells.append(Cell("fixed init", column, names_of(few), ("test_accuracy",), one_step))
    return Table(runs, cells)


def adaptation(asked: Request) -> Table:
    """Networks pretrained on one set of digits, adapted to another, in each direction there are data for.

    Raises:
        ValueError: another data set than MNIST, or neither USPS nor SVHN.
    """
    if asked.dataset != "mnist" or not (asked.usps or asked.svhn):
        raise ValueError(
            "table: expected --dataset=mnist with --usps=path/to/usps.npz, --svhn=svhn_cropped or both for "
            f"adaptation; got {asked.dataset}, usps {asked.usps}, svhn {asked.svhn}. Give what there is."
        )
    grey: Flags = {"resize": 28}
    colour = grey | {"resize": 32, "network": "lenet"}
    pairs = []
    if asked.usps:
        pairs += [
            ("mnist", "usps", 0, "mnist", asked.usps, grey),
            ("usps", "mnist", 1, asked.usps, "mnist", grey),
        ]
    if asked.svhn:
        pairs += [("svhn", "mnist", 2, asked.svhn, "mnist", colour)]
    epochs = {"mnist": 40, "usps": 130, "svhn": 65} if asked.is_full else {"mnist": 2, "usps": 10, "svhn": 2}
    members = (
        {"num_train": 2000, "num_held_out": 200} if asked.is_full else {"num_train": 64, "num_held_out": 20}
    )
    runs, cells = [], []
    for source, target, at, source_data, target_data, form in pairs:
        name = f"{source}-to-{target}"
        pool = Run(
            f"pretrain-{source}",
            "pretrain",
            {"dataset": source_data, "epochs": epochs[source], **members}
            | ({} if source == "mnist" else form),
        )
        shared: Flags = {"pool": str(asked.root / pool.name / "pool.npz"), "dataset": target_data}
        shared |= START | form | ({"channels": 3} if source == "svhn" else {})
        unseen = shared | PRETRAINED | {"num_eval_inits": members["num_held_out"]}
        unseen |= {"num_outer_steps": 23_600, "num_inits": 4} if asked.is_full else {"num_outer_steps": 800}
        known = shared | KNOWN | {"fixed": True, "baselines": False}
        known |= {"num_outer_steps": 300} | (FEW_REAL if target == "usps" else {})
        known |= {"num_outer_steps": 23_600} if asked.is_full else {}
        fixed = [
            Run(f"{name}-fixed{member}", "adapt", known | {"member": member}, member == 0)
            for member in FIXED_SEEDS
        ]
        runs += [pool, Run(f"{name}-random", "adapt", unseen, True), *fixed]
        for row, numbers in ADAPTATION.items():
            is_ours = row.endswith("pretrained")
            which = names_of(fixed) if row.startswith("fixed") else (f"{name}-random",)
            place = ("test_accuracy",) if is_ours else ("baselines", row)
            cells.append(Cell(row, f"{source} to {target}", which, place, numbers[at]))
    return Table(runs, cells)


def attack(asked: Request) -> Table:
    """One step on 100 poisoned images, for networks that were never seen; several pairs of classes."""
    pairs = ((0, 1), (3, 7), (4, 9))
    members = (
        {"num_train": 2000, "num_held_out": 200} if asked.is_full else {"num_train": 64, "num_held_out": 20}
    )
    pool = Run(
        f"pretrain-{asked.dataset}",
        "pretrain",
        {"dataset": asked.dataset, "epochs": 40 if asked.is_full else 2, **members},
    )
    runs, cells = [pool], []
    for attacked, target in pairs:
        name = f"attack-{attacked}-to-{target}"
        flags = {
            "dataset": asked.dataset,
            "pool": str(asked.root / pool.name / "pool.npz"),
            "attacked": attacked,
            "target": target,
            "num_eval_inits": members["num_held_out"],
            "num_outer_steps": OUTER_STEPS.get(asked.dataset, 23_600) if asked.is_full else 800,
            **POISON,
        }
        runs.append(Run(name, "attack", flags, (attacked, target) == pairs[0]))
        published = ATTACKS.get(asked.dataset) if (attacked, target) == (0, 1) else None
        real = ("baselines", "random real images, wrong labels")
        for row, place in (("distilled images", ()), ("random real images", real)):
            for what, title in (
                ("attacked_to_target", "taken for it"),
                ("other_classes", "other classes right"),
            ):
                is_published = row == "distilled images" and what == "attacked_to_target"
                column = f"{attacked} to {target}: {title}"
                cells.append(Cell(row, column, (name,), (*place, what), published if is_published else None))
    return Table(runs, cells)


def ablation(asked: Request) -> Table:
    """What it took to go from noise and 30 steps to random init's best: one change after the other."""
    short: Flags = {"num_outer_steps": 400, "baselines": False, "num_eval_inits": asked.num_inits}
    short |= {"dataset": asked.dataset, "num_val_inits": 8, "batch_size": 256, "outer_lr": 0.03}
    labels: Flags = {"label_confidence": START["label_confidence"]}
    two: Flags = {"num_inits": UNSEEN["num_inits"]}
    long = {name: UNSEEN[name] for name in ("inner_epochs", "inner_optimizer", "inner_lr")}
    cut = {name: UNSEEN[name] for name in ("window", "horizon")}
    changes: dict[str, Flags] = {
        "noise, class labels": {},
        "noise, learned labels": labels,
        "k-means, class labels": {"initial_images": "k_means"},
        "k-means, learned labels": START,
        "the same, M 2": START | two,
        "the same, 200 steps of SGD": START | two | {"inner_epochs": 20},
        "the same, 200 steps of Adam": START | two | long,
        "the same, a window of 30 of them": START | two | long | {"window": 30},
        "the same, ending anywhere": START | two | long | cut,
        "that, from noise": two | long | cut | labels,
        "that, with class labels": two | long | cut,
    }
    runs = [
        Run(f"step-{index}", "random_init", short | change)
        for index, change in enumerate(changes.values(), start=1)
    ]
    rows = [*zip(changes, names_of(runs), strict=True)]
    places = (("validation accuracy", ("val_accuracy",)), ("test accuracy", ("test_accuracy",)))
    cells = [
        Cell(row, f"{column}, {run.flags['num_outer_steps']} outer steps", (name,), place)
        for (row, name), run in zip(rows, runs, strict=True)
        for column, place in places
    ]
    cells += [Cell(row, "seconds", (name,), ("seconds", "distil")) for row, name in rows]
    return Table(runs, cells)


def linear(asked: Request) -> Table:
    """How many points a step on least squares needs; what is left where there are so many, or one fewer."""
    features = Config().num_features
    run = Run("linear", "linear_bound", {"dataset": asked.dataset}, True)
    cells = []
    for name in distributions(features, Config().seed):
        family = ("families", name)
        is_any = name == next(iter(distributions(features, 0)))
        known = Published(features) if is_any else None
        cells.append(Cell(name, "points that it needs", ("linear",), (*family, "least_points"), known))
        for field in ("closed_form", "simulated"):
            place = (*family, "one_fewer", field)
            cells.append(Cell(name, f"loss left with one fewer, {field}", ("linear",), place))
        cells.append(
            Cell(name, "loss left, worst unseen", ("linear",), (*family, "enough", "largest_unseen_excess"))
        )
    return Table([run], cells, unit=f"D = {features}", digits=6)


TABLES: Mapping[str, Callable[[Request], Table]] = {
    "basic": basic,
    "adaptation": adaptation,
    "attack": attack,
    "ablation": ablation,
    "linear": linear,
}
