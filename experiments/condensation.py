"""A block of the condensation papers' table: the published numbers, and which runs ours come from.

The numbers are percent of the test split, mean and standard deviation over networks trained from scratch on
the few images: a ConvNet-3, and in the last rows the network of the 2018 paper, with which DC was compared
with DD. `full` repeats what was published, on the nine tenths of the training images that are not held out
for validation: 1,000 networks matched in turn by DC and DSA with 256 real images of each class, 20,000 steps
of DM, five repetitions of 20 networks each.

| `small` has instead | of |
|---|---|
| one repetition of five networks, 20 of DD, one of whole | five of 20, one of 200, one of 3 |
| 64 real images of each class in a step of DC, DSA and DM | 256 |
| 1,000 updates by DC and DSA | 1,000; for more images 10 or 50 times as many |
| 1,500 updates by DM | 20,000 |
| 1,000 updates by DD, on CIFAR-10 600 | 23,600, on CIFAR-10 19,600 |
| from 10 images per class on at most 300 epochs of training | up to 1,000 |
| features of a ConvNet-3 of 32 channels, for the selections | of 128 |

DD is ours of `experiments.tables`, 200 inner steps for unseen initial weights, with as many images. Whole is
the recipe of all launchers (`ddjax.launch.results.FULL_DATA`), six epochs without augmentation.

DM's published means on MNIST stand without their deviations.

References:
    Zhao, Mopuri and Bilen 2021, arXiv 2006.05929 (DC, and all but DSA and DM); Zhao and Bilen 2021, arXiv
    2102.08259 (DSA); Zhao and Bilen 2023, arXiv 2110.04181 (DM); Wang et al. 2018, arXiv 1811.10959 (DD).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ddjax.methods.gradient_matching import PUBLISHED_LOOPS
from experiments.regenerate import Cell, Flags, Published, Run, Table, names_of
from experiments.tables import CIFAR_UNSEEN, OUTER_STEPS, START, UNSEEN

SIZES = tuple(PUBLISHED_LOOPS)
"""Images per class that there are numbers for."""

SELECTIONS = {"random": "random", "herding": "herding", "k-center": "k_center", "forgetting": "forgetting"}
"""Rows, and what `experiments.coreset` calls them."""

Numbers = Sequence[tuple[float, float | None] | None]
"""Mean and standard deviation at each of `SIZES`; None where nothing was published."""

PUBLISHED: Mapping[str, Mapping[str, Numbers]] = {
    "mnist": {
        "random": ((64.9, 3.5), (95.1, 0.9), (97.9, 0.2)),
        "herding": ((89.2, 1.6), (93.7, 0.3), (94.9, 0.2)),
        "k-center": ((89.3, 1.5), (84.4, 1.7), (97.4, 0.3)),
        "forgetting": ((35.5, 5.6), (68.1, 3.3), (88.2, 1.2)),
        "DC": ((91.7, 0.5), (97.4, 0.2), (98.8, 0.2)),
        "DSA": ((88.7, 0.6), (97.8, 0.1), (99.2, 0.1)),
        "DM": ((89.7, None), (97.5, None), (98.6, None)),
        "whole": ((99.6, 0.0),) * 3,
        "DD, LeNet": (None, (79.5, 8.1), None),
        "DC, LeNet": ((85.0, 1.6), (93.9, 0.6), None),
        "whole, LeNet": ((99.5, None),) * 3,
    },
    "fashion_mnist": {
        "random": ((51.4, 3.8), (73.8, 0.7), (82.5, 0.7)),
        "herding": ((67.0, 1.9), (71.1, 0.7), (71.9, 0.8)),
        "k-center": ((66.9, 1.8), (54.7, 1.5), (68.3, 0.8)),
        "forgetting": ((42.0, 5.5), (53.9, 2.0), (55.0, 1.1)),
        "DC": ((70.5, 0.6), (82.3, 0.4), (83.6, 0.4)),
        "DSA": ((70.6, 0.6), (84.6, 0.3), (88.7, 0.2)),
        "whole": ((93.5, 0.1),) * 3,
    },
    "svhn_cropped": {
        "random": ((14.6, 1.6), (35.1, 4.1), (70.9, 0.9)),
        "herding": ((20.9, 1.3), (50.5, 3.3), (72.6, 0.8)),
        "k-center": ((21.0, 1.5), (14.0, 1.3), (20.1, 1.4)),
        "forgetting": ((12.1, 1.7), (16.8, 1.2), (27.2, 1.5)),
        "DC": ((31.2, 1.4), (76.1, 0.6), (82.3, 0.3)),
        "DSA": ((27.5, 1.4), (79.2, 0.5), (84.4, 0.4)),
        "whole": ((95.4, 0.1),) * 3,
    },
    "cifar10": {
        "random": ((14.4, 2.0), (26.0, 1.2), (43.4, 1.0)),
        "herding": ((21.5, 1.2), (31.6, 0.7), (40.4, 0.6)),
        "k-center": ((21.5, 1.3), (14.7, 0.9), (27.0, 1.4)),
        "forgetting": ((13.5, 1.2), (23.3, 1.0), (23.3, 1.1)),
        "DC": ((28.3, 0.5), (44.9, 0.5), (53.9, 0.5)),
        "DSA": ((28.8, 0.7), (52.1, 0.5), (60.6, 0.5)),
        "DM": ((26.0, 0.8), (48.9, 0.6), (63.0, 0.4)),
        "whole": ((84.8, 0.1),) * 3,
        "DD, AlexNet": (None, (36.8, 1.2), None),
        "DC, AlexNet": ((24.2, 0.9), (39.1, 1.2), None),
        "whole, AlexNet": ((83.1, None),) * 3,
    },
}


class OldNetwork(NamedTuple):
    """What DC was compared with DD on.

    Attributes:
        title: in the rows.
        dd: the launchers' name of DD's.
        dc: of DC's.
    """

    title: str
    dd: str
    dc: str


OLD_NETWORKS = {
    "mnist": OldNetwork("LeNet", "lenet", "lenet"),
    "cifar10": OldNetwork("AlexNet", "alexcifar", "alexnet32"),
}


class Budget(NamedTuple):
    """How much is computed.

    Attributes:
        seeds: of the repetitions.
        num_nets: unseen initial weights behind a repetition's score.
        num_dd_nets: likewise of DD, which has one repetition.
        num_whole_nets: trained on all images.
        batch_size: real images of each class in a step.
        dc_steps: updates of the images by DC and DSA.
        dm_steps: updates of the images by DM.
        most_epochs: of training on more than one image per class; None for the published ones.
        features: flags of `experiments.coreset`.
    """

    seeds: tuple[int, ...]
    num_nets: int
    num_dd_nets: int
    num_whole_nets: int
    batch_size: int
    dc_steps: int
    dm_steps: int
    most_epochs: int | None
    features: Flags

    def epochs(self, published: int, images_per_class: int) -> int:
        """Of training on the few images."""
        if self.most_epochs is None or images_per_class == 1:
            return published
        return min(published, self.most_epochs)


def budget_of(name: str, dataset: str, images_per_class: int) -> Budget:
    """The budget of that name, for these data and this number of images."""
    if name == "full":
        steps = 1000 * PUBLISHED_LOOPS[images_per_class].matches
        return Budget((0, 1, 2, 3, 4), 20, 200, 3, 256, steps, 20_000, None, {})
    # Known to fit these data; for others experiments.coreset says.
    features: Flags = {"feature_width": 32} if dataset in PUBLISHED else {}
    return Budget((0,), 5, 20, 1, 64, 1000, 1500, 300, features)


def _training(dataset: str, images_per_class: int, budget: Budget, *, with_dsa: bool) -> Flags:
    """The published training on the few images, as flags."""
    if with_dsa or dataset == "mnist":
        epochs, augmentation = 1000, "dsa" if with_dsa else "dc_crop_scale_rotate"
        return {"train_epochs": budget.epochs(epochs, images_per_class), "eval_augment": augmentation}
    return {"train_epochs": budget.epochs(300, images_per_class)}


def _dd(dataset: str, network: str, images_per_class: int, budget: str) -> Flags:
    """The 2018 method: as many images, each class's in gradient steps of their own, 200 steps in all."""
    own: Flags = {
        "network": network,
        "inner_steps": images_per_class,
        "inner_epochs": 200 // images_per_class,
        "num_outer_steps": OUTER_STEPS[dataset] if budget == "full" else 1000,
        "baselines": False,
    }
    if budget == "full":
        return START | UNSEEN | own | {"num_inits": 4}
    small = CIFAR_UNSEEN | {"inner_epochs": own["inner_epochs"]} if dataset == "cifar10" else {}
    return START | UNSEEN | own | small


def block(dataset: str, images_per_class: int, budget: str) -> Table:
    """The rows of one data set and one number of images.

    Args:
        dataset: a name that `ddjax.data.load` knows; there are published numbers for those of `PUBLISHED`.
        images_per_class: one of `SIZES`.
        budget: one of `experiments.regenerate.BUDGETS`.

    Raises:
        ValueError: another number of images.
    """
    if images_per_class not in SIZES:
        raise ValueError(
            f"images_per_class: expected {', '.join(map(str, SIZES))}, for which there are published "
            f"numbers; got {images_per_class}. Give one of them."
        )
    spent, old = budget_of(budget, dataset, images_per_class), OLD_NETWORKS.get(dataset)
    shared: Flags = {"dataset": dataset, "images_per_class": images_per_class}
    shared |= {"num_eval_inits": spent.num_nets}
    plain, with_dsa = (
        _training(dataset, images_per_class, spent, with_dsa=with_dsa) for with_dsa in (False, True)
    )

    def distilled(name: str, launcher: str, steps: int, own: Flags) -> list[Run]:
        # As published, the images of the last step are taken: they are validated once.
        loop: Flags = {"num_outer_steps": steps, "validate_every": steps, "num_val_inits": 1}
        loop |= {"batch_size": spent.batch_size, "baselines": False}
        return [
            Run(f"{name}-seed{seed}", launcher, shared | loop | own | {"seed": seed}, seed == spent.seeds[0])
            for seed in spent.seeds
        ]

    def whole(name: str, network: str) -> Run:
        flags: Flags = {
            "baselines": "all data",
            "init": "pytorch",
            "num_eval_inits": spent.num_whole_nets,
        }
        return Run(name, "baselines", {"dataset": dataset, "network": network} | flags)

    selected: Flags = {"select": ",".join(SELECTIONS.values())} | plain | spent.features
    coresets = [Run(f"coreset-seed{s}", "coreset", shared | selected | {"seed": s}) for s in spent.seeds]
    from_noise: Flags = plain | {"initial_images": "noise"}
    siamese: Flags = with_dsa | {"augment": "dsa"}
    dc = distilled("dc", "gradient_matching", spent.dc_steps, from_noise)
    dsa = distilled("dsa", "gradient_matching", spent.dc_steps, siamese | {"initial_images": "real"})
    dm = distilled("dm", "distribution_matching", spent.dm_steps, siamese | {"initial_images": "real"})
    rows = [(row, coresets, ("baselines", name)) for row, name in SELECTIONS.items()]
    rows += [(row, runs, ("test_accuracy",)) for row, runs in (("DC", dc), ("DSA", dsa), ("DM", dm))]
    everything = ("baselines", "all data")
    rows.append(("whole", [whole("whole", "convnet")], everything))
    if old is not None:
        of_dd = _dd(dataset, old.dd, images_per_class, budget)
        dd = Run("dd", "random_init", of_dd | {"dataset": dataset, "num_eval_inits": spent.num_dd_nets}, True)
        dc_old = distilled("dc-old", "gradient_matching", spent.dc_steps, from_noise | {"network": old.dc})
        rows.append((f"DD, {old.title}", [dd], ("test_accuracy",)))
        rows.append((f"DC, {old.title}", dc_old, ("test_accuracy",)))
        rows.append((f"whole, {old.title}", [whole("whole-old", old.dc)], everything))
    runs = {run.name: run for _, some, _ in rows for run in some}
    column = f"{dataset}, {images_per_class} image{'s' if images_per_class > 1 else ''} per class"
    cells = [
        Cell(row, column, names_of(some), place, published(dataset, row, images_per_class))
        for row, some, place in rows
    ]
    return Table(list(runs.values()), cells, source="published")


def published(dataset: str, row: str, images_per_class: int) -> Published | None:
    """The published number; None where there is none."""
    numbers = PUBLISHED.get(dataset, {}).get(row)
    number = None if numbers is None else numbers[SIZES.index(images_per_class)]
    return None if number is None else Published(*number)
