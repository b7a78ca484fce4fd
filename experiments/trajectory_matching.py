"""Distil images on which training moves a network as real data moved experts (MTT, DATM, TESLA).

The experts come from `experiments.experts`. Exact gradients through the whole training of the student take
the memory of its weights alone; `--first_order` is TESLA's approximation, and `--soft_labels` with a growing
window is DATM. Networks are trained on the result at the learning rate that was learned with it.

The published numbers are those of the iteration that was best on the test set; here the iteration is chosen
on the validation split, and the test set is read once.

Claim: none: no run is recorded yet.
Cost: not recorded

    python -m experiments.trajectory_matching --dataset=mnist --experts=runs/experts-mnist
    python -m experiments.trajectory_matching --dataset=cifar10 --whiten=zca --experts=runs/experts-cifar10 \
        --images_per_class=10 --inner_steps=80 --soft_labels --initial_images=classified --max_loss=1 \
        --starts_below=20 --starts_below_at_first=10 --grows_over=1000
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from ddjax import coresets, experts, forms, inits
from ddjax.coresets import INITIAL_IMAGES
from ddjax.data import Dataset
from ddjax.expert_labels import classified_right, mean_logits
from ddjax.experts import Experts
from ddjax.launch import (
    AUGMENTATIONS,
    Common,
    Facts,
    Formed,
    Keys,
    Launcher,
    Layout,
    Matching,
    NetworkChoice,
    Parts,
    Plan,
    Unrolled,
    augmentations,
    build_network,
    choose_network,
    flag,
    flag_like,
    forming,
    initial_images,
    strategy,
)
from ddjax.launch import augmentation as augmentation_of
from ddjax.launch.choices import bounded, network_of_plan
from ddjax.launch.flags import FILE
from ddjax.methods.trajectory_matching import Window, trajectory_matching
from ddjax.recipes import MOST_EPOCHS, Train
from ddjax.types import Form, Network
from ddjax.unroll import STRATEGIES, Memory

NUM_OUTER_STEPS = 5000
"""The published outer steps."""


@dataclasses.dataclass(frozen=True)
class Config(Formed):
    """The settings of trajectory matching; the published ones where they apply."""

    experts: str = flag("", "directory of the experts, from `ddjax experts`", path=True, role=FILE)
    network: str | None = flag_like(Matching, "network")
    init: str = flag_like(
        NetworkChoice, "init", default="pytorch", help="of the networks that are trained in the end"
    )
    images_per_class: int = flag(1, "distilled images of each class", low=1)
    initial_images: str = flag(
        "real",
        "what the distilled images start from; classified: real ones that an expert classifies right",
        choices=(*INITIAL_IMAGES, "classified"),
    )
    soft_labels: bool = flag(False, "learn the labels too, from the experts' mean logits on")
    inner_steps: int = flag(50, "T, the student's gradient steps", low=1)
    student_batch: int | None = flag(None, "B, distilled images in one of them; by default all", low=1)
    span: int = flag(2, "checkpoints from the start of a segment to its target", low=1)
    first_start: int = flag(0, "first checkpoint that a segment may start at", low=0)
    starts_below: int | None = flag(
        None, "checkpoint below which segments start; by default the last that the experts have", low=1
    )
    starts_below_at_first: int | None = flag(
        None, "the same at the first outer step, where the window of starts grows (DATM)", low=1
    )
    grows_over: int | None = flag(None, "outer steps over which that window grows", low=1)
    max_loss: float | None = flag(
        None, "loss above which a segment moves nothing, such as 1 in DATM", positive=True
    )
    memory: str = flag_like(Unrolled, "memory", default="mixed", choices=tuple(STRATEGIES))
    first_order: bool = flag(False, "TESLA's gradient, an approximation whose memory does not grow with T")
    precision: str | None = flag_like(Unrolled, "precision")
    augment: str | None = flag(
        "dsa", f"augmentation of the student's images; empty for none; {AUGMENTATIONS}"
    )
    inner_lr: float = flag(0.01, "the learned learning rate's start", positive=True, same_step=True)
    max_inner_lr: float | None = flag_like(Unrolled, "max_inner_lr")
    outer_lr_of_lrs: float = flag_like(Unrolled, "outer_lr_of_lrs")
    outer_lr_of_labels: float | None = flag_like(Unrolled, "outer_lr_of_labels")
    train_epochs: int = flag_like(Matching, "train_epochs", default=1000, high=MOST_EPOCHS)
    train_batch: int = flag(256, "distilled images in one step of that training", low=1, same_step=True)
    eval_augment: str | None = flag(
        None,
        f"augmentation of each image in that training; by default --augment; {AUGMENTATIONS}",
        same_step=True,
    )
    on_nonfinite: str = flag_like(Common, "on_nonfinite", default="rollback")
    num_eval_inits: int = flag_like(Common, "num_eval_inits", default=5)
    num_val_inits: int = flag_like(Common, "num_val_inits", default=2)
    validate_every: int = flag_like(Common, "validate_every", default=250)
    baselines: bool = flag_like(Common, "baselines", default=False)

    @property
    def draws_real(self) -> bool:
        """An outer step looks at experts, not at real examples."""
        return False

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings.

        Returns:
            The reasons, by the names of the flags.
        """
        found = super().idle()
        if self.starts_below_at_first is None:
            found["grows_over"] = "without --starts_below_at_first the window does not grow"
        if not self.soft_labels:
            found["outer_lr_of_labels"] = "hard labels are not learned"
        found["inner_lr_decay"] = "there is one learning rate"
        if self.first_order:
            found["memory"] = "--first_order keeps no step"
        return found


def build(config: Config, data: Dataset, keys: Keys, plan: Plan) -> Parts:
    """The parts of trajectory matching: 5,000 outer steps unless the flags say otherwise.

    Args:
        config: the settings.
        data: the real data.
        keys: the keys of the seed.
        plan: the plan, with the form of convolutions and the memory strategy.

    Returns:
        The parts.

    Raises:
        ValueError: the settings do not fit each other, the data or the experts.
        FileNotFoundError: there are no experts.
    """
    del keys
    choice = choose_network(config, data)
    network = build_network(choice, data, conv_form=plan.conv_form)
    found = load_experts(config.experts).fit(network, data)
    named = {"augmentation": config.augment, "eval_augmentation": eval_augment(config)}
    method = trajectory_matching(
        network_of_plan(network, plan),
        found,
        inner_steps=config.inner_steps,
        batch_size=config.student_batch,
        span=config.span,
        window=window_of(config, found),
        memory=memory_of(config, plan),
        augmentation=augmentation_of(config.augment, data),
        max_loss=config.max_loss,
        recipe=recipe_of(config, data),
    )
    steps = config.num_outer_steps or NUM_OUTER_STEPS
    outer = method.outer(
        steps,
        lr=config.outer_lr,
        lr_of_lrs=config.outer_lr_of_lrs,
        lr_of_labels=config.outer_lr_of_labels if config.soft_labels else None,
    )
    distribution = inits.random(network, scheme=config.init, gain=config.init_gain)
    outer = bounded(outer, config.clip_norm)
    resolved = {**outer.facts, "experts": len(found), **augmentations(data, **named)}
    facts = Facts(Layout(1, 1, config.images_per_class), resolved, choice[1])
    return Parts(network, distribution, method, form_of(config, data, network, found), outer, steps, facts)


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


def window_of(config: Config, found: Experts) -> Window:
    """The window of starts that the flags ask for.

    Args:
        config: the settings.
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


def memory_of(config: Config, plan: Plan) -> Memory:
    """The memory strategy of a plan, or the first-order gradient.

    Args:
        config: the settings.
        plan: the plan.

    Returns:
        The strategy.
    """
    return Memory(mixed=True, first_order=True) if config.first_order else STRATEGIES[str(plan.memory)]


def eval_augment(config: Config) -> str | None:
    """The flag of the augmentation in the training on the result: that of the student where none is given."""
    return config.augment if config.eval_augment is None else config.eval_augment


def recipe_of(config: Config, data: Dataset) -> Train:
    """The training on the result: the published protocol, at the learned rate.

    Args:
        config: the settings.
        data: the real data.

    Returns:
        The recipe.

    Raises:
        ValueError: the augmentation is unknown, or the images are too small for it.
    """
    augmentation_of(eval_augment(config), data)
    return Train(
        lr=None,
        epochs=config.train_epochs,
        batch_size=config.train_batch,
        augmentation=strategy(eval_augment(config), data),
        protocol="condensation",
    )


def form_of(config: Config, data: Dataset, network: Network, found: Experts) -> Form:
    """The form of φ: images in one step, one learned rate and, where the flags say so, learned labels.

    Args:
        config: the settings.
        data: the real data.
        network: the network of the experts.
        found: the experts.

    Returns:
        The form.

    Raises:
        ValueError: a class has too few images, or labels that noise has are to be learned from experts.
    """
    count, classes = config.images_per_class, data.num_classes
    if config.form != "pixels":
        return decoded_form(config, data)
    images, labels = starts_of(config, data, network, found), None
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


def decoded_form(config: Config, data: Dataset) -> Form:
    """The form of φ whose images are decoded, in the storage of `--images_per_class` plain ones.

    Args:
        config: the settings, whose form is not pixels.
        data: the real data.

    Returns:
        The form.

    Raises:
        ValueError: labels are to be learned, or images that experts classify right are to be started from,
            which decoded images cannot be; or the settings of the form do not fit the data.
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


def starts_of(config: Config, data: Dataset, network: Network, found: Experts) -> np.ndarray | None:
    """The images that φ starts from, `[1, K · images per class, H, W, C]`; None for noise."""
    count: dict[str, Any] = {"per_class": config.images_per_class, "seed": config.seed}
    if config.initial_images != "classified":
        return initial_images(
            config.initial_images, data, steps=1, per_class_per_step=count["per_class"], seed=config.seed
        )
    rows = classified_right(found, network, data.train, num_classes=data.num_classes, **count)
    return forms.by_step(coresets.images_at(data.train, rows), 1)


LAUNCHER = Launcher("trajectory_matching", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()
