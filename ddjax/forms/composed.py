"""Composition of a form: images, however they are stored, times labels, times learning rates."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ddjax import checks
from ddjax.facts import noted
from ddjax.forms.targets import LabelForm, Labels, Rates, label_form_of, one_class_each
from ddjax.types import Form, Images, PyTree, Schedule


class ComposedParams(NamedTuple):
    """The parameters of `composed`.

    Attributes:
        code: what is stored of the images, a pytree of float arrays.
        raw_lrs: `[E, S]` float, the parameters of the learning rates η = softplus(raw_lrs); None where the
            recipe has its own optimiser.
        label_logits: `[S, B, K]` float, the parameters of labels = softmax(label_logits), or the labels
            themselves where they are free; None where the labels are fixed.
    """

    code: PyTree
    raw_lrs: jax.Array | None
    label_logits: jax.Array | None = None


@noted
def composed(
    images: Images,
    *,
    inner_steps: int = 1,
    inner_epochs: int = 1,
    inner_lr: float | None = None,
    max_lr: float | None = None,
    lr_decay: str = "constant",
    label_form: LabelForm | None = None,
    label_confidence: float | None = None,
    label_scale: float = 1.0,
    drawn_per_class: int | None = None,
) -> Form:
    """A form of decoded images, with hard or learned labels and learned learning rates.

        x̃ = decode(code),   step s has the images s·b, ..., s·b + b - 1 of each class,   b = m / S

    The B = K·b images of a step are ordered by class. Where minibatches are drawn, an outer step sees other
    ones: in each of the E epochs S·d different images of each class are dealt out to the S steps at random,
    and gathered step by step, so that T minibatches take the memory of the m decoded images of each class.
    Images that are random themselves (`Images.draw`) are drawn anew for each epoch of each outer step.

    Args:
        images: the images, such as `ddjax.forms.bases` and `ddjax.forms.multi_formation` make; m of each of
            the K classes.
        inner_steps: the number S of steps, a divisor of m.
        inner_epochs: the number E of passes over those steps.
        inner_lr: the learning rate η at the start; None for a form without learning rates, for methods that
            learn none.
        max_lr: the largest learning rate, to which larger ones are set after every update of φ; None for no
            bound.
        lr_decay: the fall of the learning rates over the T steps at the start, `"constant"` or `"cosine"`,
            from `inner_lr` down to almost nothing; what is learned of them is free.
        label_form: the form of the labels, as of `ddjax.forms.pixels`. Learned labels are K stored numbers
            for each decoded image.
        label_confidence: the probability p in (1 / K, 1) of an image's own class, at the start of softmax
            labels; None for other labels.
        label_scale: the factor on the start of free, nonnegative and centred labels, for squared error.
        drawn_per_class: the number d of images of each class in a drawn minibatch, with S·d ≤ m; a method
            without learning rates sees one such minibatch in each outer step. None draws nothing: every outer
            step sees all images as they unfold.

    Returns:
        A form whose parameters are `ComposedParams`, in the groups of the images, "labels" and "lrs".

    Raises:
        ValueError: a count below one, images that S does not divide, more drawn images than there are, a
            learning rate that is not positive, or settings of the labels that do not fit each other.

    References:
        Drawn minibatches: Deng and Russakovsky 2022, arXiv 2206.02916 (RememberThePast).
    """
    checks.kind("images", images, Images, remedy="Build them with ddjax.forms.bases or another decoder.")
    num_classes, per_class = images.shape[:2]
    if images.draw is not None and drawn_per_class is not None:
        raise ValueError(
            f"drawn_per_class: expected none, {images.name} are drawn anew for every epoch; got "
            f"{drawn_per_class}. Leave it out."
        )
    rates = Rates((inner_epochs, inner_steps), inner_lr, max_lr, lr_decay)
    _check_steps(per_class, inner_steps, drawn_per_class)
    kind = label_form_of(label_form, label_confidence, None, num_classes)
    given = one_class_each(inner_steps, per_class // inner_steps, num_classes)
    checks.positive("label_scale", label_scale)
    labels = Labels(given, kind, label_confidence, label_scale)

    def init(key: jax.Array) -> ComposedParams:
        code = images.init(key)
        dtype = jax.tree.leaves(code)[0].dtype
        return ComposedParams(code, rates.start(dtype), labels.start(dtype))

    def by_steps(decoded: jax.Array) -> jax.Array:
        steps = decoded.reshape(num_classes, inner_steps, -1, *decoded.shape[2:]).swapaxes(0, 1)
        return steps.reshape(inner_steps, -1, *decoded.shape[2:])

    def unfold(params: ComposedParams) -> Schedule:
        decoded = images.decode(params.code)
        targets = labels.unfold(params.label_logits, decoded.dtype)
        return Schedule(by_steps(decoded), targets, rates.unfold(params.raw_lrs))

    def draw(params: ComposedParams, key: jax.Array) -> Schedule:
        assert drawn_per_class is not None
        whole = unfold(params)
        epochs = inner_epochs if whole.lrs is not None else 1
        order = _dealt(key, (epochs, inner_steps), (num_classes, per_class), drawn_per_class)
        if whole.lrs is not None:
            return whole._replace(order=order)
        rows = order[0, :1]  # a single minibatch
        inputs, targets = (leaf.reshape(-1, *leaf.shape[2:])[rows] for leaf in whole[:2])
        return Schedule(inputs, targets, None)

    def draw_images(params: ComposedParams, key: jax.Array) -> Schedule:
        assert images.draw is not None
        whole = unfold(params)  # for its labels and rates: the images are not used, and not computed
        epochs = inner_epochs if whole.lrs is not None else 1
        found = jax.vmap(images.draw, (None, 0))(params.code, jax.random.split(key, epochs))
        inputs = jax.vmap(by_steps)(found).reshape(-1, *whole.inputs.shape[1:])
        rows = None if whole.lrs is None else whole.lrs.reshape(1, -1)
        return Schedule(inputs, jnp.tile(whole.labels, (epochs, 1, 1)), rows)

    def project(params: ComposedParams) -> ComposedParams:
        code = params.code if images.project is None else images.project(params.code)
        return ComposedParams(code, rates.project(params.raw_lrs), labels.project(params.label_logits))

    is_bounded = (max_lr is not None and inner_lr is not None) or kind == "nonnegative"
    drawing = draw if drawn_per_class is not None else draw_images if images.draw is not None else None
    return Form(
        init,
        unfold,
        images.name if kind == "hard" else f"{images.name}_and_labels",
        groups=functools.partial(_groups, images),
        project=project if is_bounded or images.project is not None else None,
        draw=drawing,
    )


def _groups(images: Images, params: ComposedParams) -> Any:
    """The group of every leaf: those of the images, "lrs" and "labels"."""
    whole = jax.tree.map(lambda leaf: "data", params.code)
    named = whole if images.groups is None else images.groups(params.code)
    names: tuple[Any, ...] = (
        None if params.raw_lrs is None else "lrs",
        None if params.label_logits is None else "labels",
    )
    return ComposedParams(named, *names)


def _check_steps(per_class: int, inner_steps: int, drawn: int | None) -> None:
    if per_class % inner_steps:
        raise ValueError(
            f"inner_steps: expected a divisor of the {per_class} images of a class; got {inner_steps}. "
            "Give one."
        )
    if drawn is None:
        return
    checks.at_least("drawn_per_class", drawn, 1)
    if drawn * inner_steps > per_class:
        raise ValueError(
            f"drawn_per_class: expected at most {per_class // inner_steps}, so that {inner_steps} steps have "
            f"different images of the {per_class} of a class; got {drawn}. Give fewer, or fewer inner_steps "
            "and more inner_epochs."
        )


def _dealt(key: jax.Array, loops: tuple[int, int], images: tuple[int, int], drawn: int) -> jax.Array:
    """The images of each step at random, as positions in the order of the steps, `[E, S, K · drawn]` int32.

    Args:
        key: the source of the draws. Consumed.
        loops: `(E, S)`.
        images: `(K, m)`, the numbers of classes and of images of each.
        drawn: the number of images of a class in a step.
    """
    (epochs, steps), (num_classes, per_class) = loops, images
    numbers = jnp.broadcast_to(jnp.arange(per_class, dtype=jnp.int32), (epochs, num_classes, per_class))
    shuffled = jax.random.permutation(key, numbers, axis=2, independent=True)[:, :, : steps * drawn]
    block = per_class // steps
    classes = jnp.arange(num_classes, dtype=jnp.int32)[None, :, None]
    # Image i of class k stands in step i // block, behind the blocks of the classes before.
    rows = (shuffled // block * num_classes + classes) * block + shuffled % block
    rows = rows.reshape(epochs, num_classes, steps, drawn)
    return rows.swapaxes(1, 2).reshape(epochs, steps, -1)
