"""Plain images as the images of a composed form: every stored number is a pixel."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.facts import noted
from ddjax.types import Images


@noted
def stored(
    image_shape: tuple[int, ...],
    num_classes: int,
    *,
    per_class: int = 1,
    unit_norm: bool = False,
    initial_images: np.ndarray | None = None,
) -> Images:
    """Images that are stored pixel by pixel, so that `ddjax.forms.composed` may draw minibatches of them.

    Args:
        image_shape: `(H, W, C)`, the shape of an image.
        num_classes: the number K of classes.
        per_class: the number m of images of each class.
        unit_norm: whether every image is brought to the norm of one, at the start and after every update.
        initial_images: `[K, m, H, W, C]`, the encoded images to start from; None starts from noise.

    Returns:
        Images with the code `[K, m, H, W, C]`.

    Raises:
        ValueError: a count below one, or initial images of another shape.

    References:
        Unit norm: AT-BPTT, the follow-up of Feng et al. 2024 (RaT-BPTT), arXiv 2311.07025.
    """
    shape = checks.image_shape(image_shape)
    checks.at_least("num_classes", num_classes, 1)
    checks.at_least("per_class", per_class, 1)
    whole = (num_classes, per_class, *shape)
    start = None
    if initial_images is not None:
        start = checks.encoded_images("initial_images", initial_images, whole)

    def project(code: jax.Array) -> jax.Array:
        squares = jnp.sum(code**2, (2, 3, 4), keepdims=True)
        return code / jnp.broadcast_to(jnp.sqrt(jnp.where(squares == 0, 1, squares)), code.shape)

    def init(key: jax.Array) -> jax.Array:
        code = jax.random.normal(key, whole) if start is None else jnp.asarray(start)
        return project(code) if unit_norm else code

    return Images(init, lambda code: code, whole, "stored", project=project if unit_norm else None)
