"""The launchers whose method matches the trajectories of experts: experts, window, form, training on φ."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from ddjax import coresets, experts, forms
from ddjax.data import Dataset
from ddjax.expert_labels import classified_right, mean_logits
from ddjax.experts import Experts
from ddjax.launch import forming
from ddjax.launch.choices import (
    augmentation,
    augmentations,
    bounded,
    build_network,
    choose_network,
    initial_images,
    network_of_plan,
    random_inits,
    strategy,
)
from ddjax.launch.types import Facts, Layout, Parts
from ddjax.methods.trajectory_matching import Window, trajectory_matching
from ddjax.plan import Plan
from ddjax.recipes import Train
from ddjax.types import Form, Network
from ddjax.unroll import STRATEGIES, Memory


def trajectory_parts(config: Any, data: Dataset, plan: Plan, *, num_outer_steps: int) -> Parts:
    """The parts of an experiment that matches trajectories.

    Args:
        config: the settings of `experiments.trajectory_matching`.
        data: the real data.
        plan: the plan, with the form of convolutions and the memory strategy.
        num_outer_steps: the number of outer steps where the flags give none.

    Returns:
        The parts.

    Raises:
        ValueError: the settings do not fit each other, the data or the experts.
        FileNotFoundError: there are no experts.
    """
    choice = choose_network(config, data)
    network = build_network(choice, data, conv_form=plan.conv_form)
    found = load_experts(config.experts).fit(network, data)
    # The training on the result augments as the student did, where no flag says otherwise.
    trained = config.augment if config.eval_augment is None else config.eval_augment
    method = trajectory_matching(
        network_of_plan(network, plan),
        found,
        inner_steps=config.inner_steps,
        batch_size=config.student_batch,
        span=config.span,
        window=window_of(config, found),
        memory=memory_of(config, plan),
        augmentation=augmentation(config.augment, data),
        max_loss=config.max_loss,
        recipe=_recipe(config, data, trained),
    )
    steps = config.num_outer_steps or num_outer_steps
    outer = method.outer(
        steps,
        lr=config.outer_lr,
        lr_of_lrs=config.outer_lr_of_lrs,
        lr_of_labels=config.outer_lr_of_labels if config.soft_labels else None,
    )
    outer = bounded(outer, config.clip_norm)
    named = augmentations(data, augmentation=config.augment, eval_augmentation=trained)
    resolved = {**outer.facts, "experts": len(found), **named}
    facts = Facts(Layout(1, 1, config.images_per_class), resolved, choice[1])
    form = _form(config, data, network, found)
    return Parts(network, random_inits(config, network), method, form, outer, steps, facts)


def load_experts(directory: str) -> Experts:
    """The experts in the directory that a flag names; read once as long as they are the same.

    Args:
        directory: the directory.

    Returns:
        The experts.

    Raises:
        ValueError: no directory is given, or a file in it is damaged.
        FileNotFoundError: there are no experts.
    """
    if not directory:
        raise ValueError(
            "experts: expected a directory of `ddjax experts`; got none. Give --experts=runs/experts-..."
        )
    path = Path(directory) / experts.FILE
    return _loaded(directory, path.read_text(errors="replace") if path.exists() else "")


@functools.lru_cache(maxsize=1)
def _loaded(directory: str, content: str) -> Experts:
    del content  # it is what tells one state of the directory from another
    return experts.load(directory)


def window_of(config: Any, found: Experts) -> Window:
    """The window of starts that the flags ask for.

    Args:
        config: the settings of `experiments.trajectory_matching`.
        found: the experts, whose checkpoints end the window where no flag does.

    Returns:
        The window.

    Raises:
        ValueError: a window that grows has no number of steps to grow in.
    """
    last = config.starts_below or max(found.num_checkpoints - config.span, 1)
    if config.starts_below_at_first is not None and config.grows_over is None:
        raise ValueError(
            "grows_over: expected the outer steps over which the window grows, with --starts_below_at_first; "
            "got none. Give for example --grows_over=1000."
        )
    return Window(config.first_start, last, config.starts_below_at_first, config.grows_over or 0)


def memory_of(config: Any, plan: Plan) -> Memory:
    """The memory strategy of a plan, or the first-order gradient.

    Args:
        config: the settings of `experiments.trajectory_matching`.
        plan: the plan.

    Returns:
        The strategy.
    """
    return Memory(mixed=True, first_order=True) if config.first_order else STRATEGIES[str(plan.memory)]


def _recipe(config: Any, data: Dataset, augment: str | None) -> Train:
    """The training on the result: the published protocol, at the learned rate."""
    augmentation(augment, data)  # refuses what does not fit the images
    return Train(
        lr=None,
        epochs=config.train_epochs,
        batch_size=config.train_batch,
        augmentation=strategy(augment, data),
        protocol="condensation",
    )


def _form(config: Any, data: Dataset, network: Network, found: Experts) -> Form:
    """The form of φ: images in one step, one learned rate and, where the flags say so, learned labels.

    Raises:
        ValueError: a class has too few images, or labels that noise has are to be learned from experts.
    """
    from scipy import special  # half a second before the help of the flags

    if config.form != "pixels":
        return _decoded(config, data)
    count, classes = config.images_per_class, data.num_classes
    images, labels = _starts(config, data, network, found), None
    if config.soft_labels:
        if images is None:
            raise ValueError(
                "initial_images: expected real images with --soft_labels, whose labels start as the experts' "
                "logits; got noise. Give --initial_images=classified."
            )
        logits = mean_logits(found, network, images[0], np.repeat(np.arange(classes), count))
        labels = special.softmax(logits, -1)[None]
    return forms.pixels(
        data.image_shape,
        classes,
        inner_steps=1,
        inner_epochs=1,
        images_per_class_per_step=count,
        inner_lr=config.inner_lr,
        max_lr=config.max_inner_lr,
        initial_images=images,
        initial_labels=labels,
        label_form="hard" if labels is None else "softmax",
    )


def _decoded(config: Any, data: Dataset) -> Form:
    """The form of φ whose images are decoded, in the storage of `--images_per_class` plain ones.

    Raises:
        ValueError: labels are to be learned, or images that experts classify right are to be started from,
            which decoded images cannot be.
    """
    for name, given in (
        ("soft_labels", config.soft_labels),
        ("initial_images", config.initial_images == "classified"),
        ("drawn_per_class", config.drawn_per_class is not None),
    ):
        if given:
            raise ValueError(
                f"{name}: expected none of that kind with --form={config.form}, whose images are decoded; "
                f"got {getattr(config, name)}. Leave --{name} out; the student draws minibatches itself "
                "(--student_batch)."
            )
    per_class = forming.decoded_per_class(config, data, config.images_per_class)
    steps = forming.Steps(inner_lr=config.inner_lr, max_lr=config.max_inner_lr)
    return forming.composed(config, data, per_class, steps, initial=config.initial_images, seed=config.seed)


def _starts(config: Any, data: Dataset, network: Network, found: Experts) -> np.ndarray | None:
    """The images that φ starts from, `[1, K · images per class, H, W, C]`; None for noise."""
    count, seed = config.images_per_class, config.seed
    if config.initial_images != "classified":
        return initial_images(config.initial_images, data, steps=1, per_class_per_step=count, seed=seed)
    rows = classified_right(
        found, network, data.train, per_class=count, num_classes=data.num_classes, seed=seed
    )
    return forms.by_step(coresets.images_at(data.train, rows), 1)
