"""IDC: gradient matching of several images stored in one, with its published settings for each data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from ddjax import augment, checks
from ddjax.augment import FLIPPED
from ddjax.facts import noted
from ddjax.methods.gradient_matching import RealTraining, gradient_matching
from ddjax.optimizers import sgd_momentum
from ddjax.recipes import Train
from ddjax.types import InitDistribution, Method, Network, Outer, Recipe

NETWORKS, MATCHES = 2000, 100
"""The published number of networks, and of matches of each."""

COLOUR = frozenset({"cifar10", "cifar100", "svhn_cropped"})
"""The data sets, by name, whose gradients were compared by squares; for others absolute differences were."""

UNMIXED = frozenset({"mnist", "digits"})
"""The data sets, by name, whose images are neither mixed nor cut out where several are stored in one.

IDC was not measured on the embedded digits, which are treated as MNIST is.
"""


class IDCSettings(NamedTuple):
    """The published settings for a data set, a factor and a number of stored images.

    Attributes:
        distance: the name of the distance of gradients, which are those of kernels alone.
        lr: the rate at which stored images move, in units of pixels from 0 to 1, where all classes move at
            once and without momentum.
        net_images: the number of real images that a network trains on after each match.
        augmentation: the augmentation of a match, the same for real and decoded images.
        net_augmentation: the augmentation of a network's training, for each image.
        net_mix: the mixture of images in this training; empty for none.
        eval_augmentation: the augmentation of the evaluation's training, for each image.
        eval_mix: the mixture of images in that training; empty for none.
    """

    distance: str
    lr: float
    net_images: int
    augmentation: str
    net_augmentation: str
    net_mix: str
    eval_augmentation: str
    eval_mix: str


def idc_settings(dataset: str, *, stored_per_class: int, factor: int, side: int) -> IDCSettings:
    """The published settings of IDC.

    The authors move the classes one after the other, each by a step of gradient descent with momentum 0.5 on
    all images; in one sweep over the classes a gradient g moves the images by about 2 · lr · g in all, and
    next to nothing of the momentum is left for the next sweep. `lr` here is twice that of the authors: the
    rate of one step for all classes without momentum.

    Args:
        dataset: the name of the data set, as in `Dataset.name`; one that IDC was not measured on has the
            settings of Fashion-MNIST, without flips.
        stored_per_class: the number n of stored images of each class.
        factor: the number of parts of each side of a stored image; 1 is called IDC-I.
        side: the height of the images in pixels.

    Returns:
        The settings.

    Raises:
        ValueError: a count below one.

    References:
        Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022, arXiv
        2205.14959, and the settings in the authors' repository,
        github.com/snu-mllab/Efficient-Dataset-Condensation.
    """
    for name, value in (("stored_per_class", stored_per_class), ("factor", factor), ("side", side)):
        checks.at_least(name, value, 1)
    name = dataset.partition(":")[0].partition("/")[0]
    is_colour = name in COLOUR
    base = 28 if name == "mnist" else 32
    rate = (5e-3 if is_colour else 1e-4) * stored_per_class / 10 * (side / base) ** 2
    flip = "flip+" if name in FLIPPED else ""
    plain = IDCSettings(
        distance="mse" if is_colour else "l1",
        lr=2 * rate,
        net_images=2000 if name == "cifar10" else 500,
        augmentation="color+crop+cutout",
        net_augmentation="color+crop",
        net_mix="cutmix",
        eval_augmentation=f"{flip}color+(crop_scale_rotate)",
        eval_mix="cutmix",
    )
    if factor > 1 and name in UNMIXED:
        return plain._replace(augmentation="color+crop", net_mix="", eval_mix="")
    if name == "svhn_cropped" and (factor, stored_per_class) == (1, 1):
        return plain._replace(eval_augmentation="color+(crop_scale_rotate)+cutout", eval_mix="")
    return plain


def idc_outer(published_lr: float) -> Callable[..., Outer]:
    """The outer optimiser of IDC, for `ddjax.types.Method.outer`: descent without momentum at one rate.

    Args:
        published_lr: the rate of the stored numbers; in units of pixels `IDCSettings.lr`, and under a
            normalisation this divided by the square of the standard deviation.

    Returns:
        `(num_outer_steps, *, lr=None) -> Outer`; `lr` replaces the published rate.
    """

    def outer(num_outer_steps: int, *, lr: float | None = None) -> Outer:
        del num_outer_steps
        rate = published_lr if lr is None else lr
        facts = {"outer_optimizer": "sgd", "outer_lr": rate}
        return Outer(sgd_momentum(lr=rate, momentum=0.0), None, facts)

    return outer


@noted
def idc(
    network: Network,
    inits: InitDistribution,
    settings: IDCSettings,
    *,
    lr: float,
    batch_size: int = 64,
    matches: int = MATCHES,
    most_per_class: int | None = 128,
    recipe: Recipe | None = None,
    examples_per_chunk: int | None = None,
    classes_per_chunk: int | None = None,
) -> Method:
    """Gradient matching as in IDC; see `gradient_matching`.

        L(φ) = Σ_k D(∇_kernels ℓ(θ; A(decode(φ), ω_k), class k), ∇_kernels ℓ(θ; A(x, ω_k), class k))

    The form of φ is the caller's: the images that are stored and decoded are those of
    `ddjax.forms.multi_formation`.

    Args:
        network: the network that is matched.
        inits: the distribution p(θ0) of initial weights.
        settings: the distance, the augmentations and the training of the networks, such as `idc_settings`
            gives.
        lr: the rate at which φ moves, for `idc_outer`.
        batch_size: N, the number of real images of each class in a match.
        matches: the number of matches of one network.
        most_per_class: the most decoded images of a class in one match; None for all.
        recipe: the training on the result; by default that of IDC's evaluation, of 1,000 epochs.
        examples_per_chunk: the number of images that pass through the network at once where no second
            derivative is taken.
        classes_per_chunk: the number of classes that are vmapped.

    Returns:
        The method, which learns no learning rates.

    Raises:
        ValueError: a number is out of range, a name in the settings is unknown, or the network has no
            convolutions.

    References:
        Kim et al. 2022, arXiv 2205.14959.
    """
    checks.kind("settings", settings, IDCSettings, remedy="Give methods.idc_settings(...).")
    checks.positive("lr", lr)
    shape = network.image_shape
    trained = Train(
        epochs=1000,
        batch_size=64,
        protocol="idc",
        augmentation=settings.eval_augmentation,
        mix=settings.eval_mix,
    )
    method = gradient_matching(
        network,
        inits,
        batch_size=batch_size,
        distance=settings.distance,
        layers="kernels",
        matches=matches,
        augmentation=augment.by_name(settings.augmentation, shape),
        recipe=recipe or trained,
        training=RealTraining(
            images=settings.net_images,
            augmentation=augment.by_name(settings.net_augmentation, shape),
            mix=settings.net_mix,
        ),
        most_per_class=most_per_class,
        examples_per_chunk=examples_per_chunk,
        classes_per_chunk=classes_per_chunk,
    )
    return dataclasses.replace(method, name="idc", outer=idc_outer(lr))
