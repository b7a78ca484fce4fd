"""Distilled images inside the principal subspaces of their classes: a few numbers in the place of pixels."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.facts import noted
from ddjax.forms.decoded import decoded
from ddjax.forms.pixels import pixels
from ddjax.types import Form, Schedule


@noted
def subspace(
    mean: np.ndarray | jax.Array,
    directions: np.ndarray | jax.Array,
    scales: np.ndarray | jax.Array,
    input_shape: tuple[int, ...],
    **settings: Any,
) -> Form:
    """Images made of the mean and the principal directions of their class.

        x̃ = Σ_k y_k (μ_k + Σ_j a_j σ_kj u_kj)

    An image stores d numbers in the place of F; the subspaces, K (d + 1) F numbers, are stored once for all.

    Args:
        mean: `[K, F]`, μ, the means of the classes (`ddjax.subspaces.Subspaces`).
        directions: `[K, d, F]`, u, the directions.
        scales: `[K, d]`, σ, the lengths that the numbers a are in units of.
        input_shape: the shape of one input, of F numbers.
        **settings: the settings of `ddjax.forms.pixels` for the numbers a, such as `inner_steps` and
            `label_form`; initial images are `[S, B, d, 1, 1]`.

    Returns:
        The form, with the parameters of `pixels`.

    Raises:
        ValueError: the arrays do not fit each other or the inputs; see also `pixels`.
    """
    mean, directions, scales = (np.asarray(one) for one in (mean, directions, scales))
    num_classes, dims, size = directions.shape
    remedy = "Give what ddjax.subspaces.class_subspaces returned."
    checks.equal("subspace: mean.shape", mean.shape, (num_classes, size), remedy=remedy)
    checks.equal("subspace: scales.shape", scales.shape, (num_classes, dims), remedy=remedy)
    checks.equal("subspace: features", int(np.prod(input_shape)), size, remedy=remedy)

    def decode(schedule: Schedule) -> Schedule:
        codes, labels = schedule.inputs[..., 0, 0], schedule.labels
        own = (jnp.asarray(one, codes.dtype) for one in (mean, scales[..., None] * directions))
        middle, axes = own
        # Codes and classes first: `[S, B, K, d]` is small, `[S, B, K, F]` would not be.
        shares = labels[..., None] * codes[:, :, None]
        flat = labels @ middle + jnp.einsum("sbkd,kdf->sbf", shares, axes)
        return schedule._replace(inputs=flat.reshape(*flat.shape[:2], *input_shape))

    codes = pixels((dims, 1, 1), num_classes, **settings)
    return decoded(codes, decode, name="subspace")
