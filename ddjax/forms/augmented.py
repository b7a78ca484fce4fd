"""Learned augmentation of φ: each inner step sees φ's images under transforms whose ranges are parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import augment_learned, checks
from ddjax.augment_learned import TRANSFORMS
from ddjax.facts import noted
from ddjax.forms.drawn import one_by_one
from ddjax.forms.groups import FROZEN, groups_of
from ddjax.forms.targets import inverse_softplus
from ddjax.types import Form, PyTree, Schedule


class AugmentedParams(NamedTuple):
    """The parameters of `augmented`.

    Attributes:
        form: the parameters of the form that is augmented.
        raw_widths: `[6]`, or `[K, 6]` for widths of each class's own: the parameters of the widths of the six
            transforms, softplus(raw_widths).
    """

    form: PyTree
    raw_widths: jax.Array


@noted
def augmented(
    form: Form,
    *,
    widths: float | Sequence[float] = 0.05,
    num_classes: int | None = None,
    learned: bool = True,
) -> Form:
    """A form whose images are transformed anew at every inner step, by transforms of learned widths.

        x̂ = x̃ ∘ exp(Σ_i (u_i - 1/2) w_i G_i),   u ~ U(0, 1)^6,   w = softplus(raw)

    φ and the widths w get one gradient, that of the outer loss through the training on transformed images.
    The outer loss is taken on real images that are not transformed, so that widths grow where transformed
    images teach a network what real ones will ask, and shrink where they do not; no reward for wide ranges is
    needed, as Augerino needs one, which scores what it transforms. What is validated and saved is one draw of
    all T minibatches, always the same, whose network has seen the augmentation as those of the outer loop do.

    Args:
        form: the form of the images, with any labels and learning rates.
        widths: the widths at the start, above zero: one number for all six transforms, or one for each in the
            order of `ddjax.augment_learned.TRANSFORMS`. A rotation of width 1 has a range of one radian in
            all, from -1/2 to 1/2.
        num_classes: the number K of classes, for widths of each class's own; an image's class is the largest
            number of its label. None for widths that all classes share.
        learned: whether the widths are learned; else they stay as they start, in the group "frozen".

    Returns:
        A form whose parameters are `AugmentedParams`, with the widths in the group "augmentation".

    Raises:
        ValueError: `form` is no form of images, or a width is not above zero.

    References:
        The transforms: Benton et al., Learning Invariances in Neural Networks, NeurIPS 2020, arXiv
        2010.11882.
    """
    checks.kind("form", form, Form, remedy="Build it with ddjax.forms.")
    start = _checked_widths(widths, num_classes)
    shape = jax.eval_shape(lambda key: form.unfold(form.init(key)).inputs, jax.random.key(0)).shape
    checks.image_shape(shape[2:])

    def init(key: jax.Array) -> AugmentedParams:
        params = form.init(key)
        dtype = jax.eval_shape(form.unfold, params).inputs.dtype
        return AugmentedParams(params, jnp.asarray(start, dtype))

    def moved(params: AugmentedParams, whole: Schedule, key: jax.Array) -> Schedule:
        # As arrays of JAX: the parameters of a finished run lie on the host.
        steps = one_by_one(jax.tree.map(jnp.asarray, whole))
        images, raw = steps.inputs.reshape(-1, *steps.inputs.shape[2:]), jnp.asarray(params.raw_widths)
        if num_classes is not None:
            raw = raw[steps.labels.argmax(-1).ravel()]
        found = augment_learned.transformed(raw, key, images)
        return steps._replace(inputs=found.reshape(steps.inputs.shape))

    def unfold(params: AugmentedParams) -> Schedule:
        return moved(params, form.unfold(params.form), jax.random.key(0))

    def draw(params: AugmentedParams, key: jax.Array) -> Schedule:
        form_key, own_key = jax.random.split(key)
        whole = form.unfold(params.form) if form.draw is None else form.draw(params.form, form_key)
        return moved(params, whole, own_key)

    def groups(params: AugmentedParams) -> Any:
        of_widths: Any = "augmentation" if learned else FROZEN
        return AugmentedParams(groups_of(form, params.form), of_widths)

    def project(params: AugmentedParams) -> AugmentedParams:
        assert form.project is not None
        return params._replace(form=form.project(params.form))

    return Form(
        init,
        unfold,
        f"{form.name}, augmented",
        groups=groups,
        project=None if form.project is None else project,
        draw=draw,
    )


def _checked_widths(widths: Any, num_classes: int | None) -> np.ndarray:
    """The parameters of the widths at the start, `[6]` or `[K, 6]`.

    Raises:
        ValueError: another number of widths, one that is not above zero, or no classes.
    """
    array = np.asarray(widths, np.float64)
    if array.shape not in ((), (len(TRANSFORMS),)) or not np.isfinite(array).all() or (array <= 0).any():
        raise ValueError(
            f"widths: expected one finite number above zero, or {len(TRANSFORMS)}, for "
            f"{', '.join(TRANSFORMS)}; got {widths!r}. Start with a small one, such as 0.05."
        )
    if num_classes is not None:
        checks.at_least("num_classes", num_classes, 1)
    shape = (len(TRANSFORMS),) if num_classes is None else (num_classes, len(TRANSFORMS))
    return inverse_softplus(np.broadcast_to(array, shape))
