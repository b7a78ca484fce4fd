"""Latents: codes of the classes times small decoders that all classes share (KFS, HaBa)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddjax import checks, updates
from ddjax.facts import noted
from ddjax.networks.ops import conv
from ddjax.types import Images, PyTree

DecoderKind = Literal["convolution", "style"]
"""The kind of decoder: "convolution" enlarges a code and convolves it once or, with hidden channels, twice;
"style" is HaBa's: a convolution, a scale and a shift for each pixel, and a convolution back."""

_FIT_LR = 0.02
"""The rate of Adam in the fit to initial images, whose pixels have a mean square of about one."""


class LatentsCode(NamedTuple):
    """The code of `latents`.

    Attributes:
        codes: `[K, n, h, w, c]` float, the codes of each class.
        decoders: the parameters of the decoders, each leaf `[D, ...]`.
    """

    codes: jax.Array
    decoders: PyTree


class _Decoder(NamedTuple):
    """A kind of decoder.

    Attributes:
        init: `key -> parameters` of one decoder. Consumes the key.
        decode: `(parameters, codes [n, h, w, c]) -> images [n, H, W, C]`.
    """

    init: Callable[[jax.Array], PyTree]
    decode: Callable[[PyTree, jax.Array], jax.Array]


def _kernel(key: jax.Array, inputs: int, outputs: int) -> jax.Array:
    """A kernel of 3 x 3, normal with variance 1 / (9 · inputs). Consumes the key."""
    return jax.random.normal(key, (3, 3, inputs, outputs)) / (9 * inputs) ** 0.5


def _convolved(images: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    sides = [(padding, padding)] * 2
    return conv(images, kernel, (1, 1), sides, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _biased(images: jax.Array, bias: jax.Array) -> jax.Array:
    return images + jnp.broadcast_to(bias, images.shape)


def _convolution(image_shape: tuple[int, int, int], code_shape: tuple[int, int, int], width: int) -> _Decoder:
    """Enlarge, convolve to the image's channels; or to `width` channels, ReLU, and convolve again."""
    *sides, channels = image_shape
    widths = [code_shape[2], *([width] if width else []), channels]

    def init(key: jax.Array) -> list[dict[str, jax.Array]]:
        keys = jax.random.split(key, len(widths) - 1)
        pairs = zip(keys, widths[:-1], widths[1:], strict=True)
        return [{"kernel": _kernel(one, *pair), "bias": jnp.zeros(pair[1])} for one, *pair in pairs]

    def decode(layers: list[dict[str, jax.Array]], codes: jax.Array) -> jax.Array:
        shape = (len(codes), *sides, code_shape[2])
        images = (
            codes if codes.shape == shape else jax.image.resize(codes, shape, "bilinear", antialias=False)
        )
        for index, layer in enumerate(layers):
            images = jax.nn.relu(images) if index else images
            images = _biased(_convolved(images, layer["kernel"], 1), layer["bias"])
        return images

    return _Decoder(init, decode)


def _style(image_shape: tuple[int, int, int], code_shape: tuple[int, int, int], width: int) -> _Decoder:
    """HaBa's: a convolution without padding, a scale and a shift for each pixel, a convolution back."""
    height, width_of_image, channels = image_shape
    checks.equal("code_shape", code_shape, image_shape, remedy="A style takes codes of the images' size.")
    inner = (height - 2, width_of_image - 2, width or 3)
    checks.at_least("image_shape: smaller side", min(inner[:2]), 1)

    def init(key: jax.Array) -> dict[str, jax.Array]:
        keys = jax.random.split(key)
        return {
            "to": _kernel(keys[0], channels, inner[2]),
            "to_bias": jnp.zeros(inner[2]),
            "scale": jnp.ones(inner),
            "shift": jnp.zeros(inner),
            "back": _kernel(keys[1], inner[2], channels),
            "back_bias": jnp.zeros(channels),
        }

    def decode(style: dict[str, jax.Array], codes: jax.Array) -> jax.Array:
        inside = _biased(_convolved(codes, style["to"], 0), style["to_bias"])
        scale, shift = (jnp.broadcast_to(style[name], inside.shape) for name in ("scale", "shift"))
        return _biased(_convolved(scale * inside + shift, style["back"], 2), style["back_bias"])

    return _Decoder(init, decode)


_DECODERS: dict[str, Callable[[Any, Any, int], _Decoder]] = {"convolution": _convolution, "style": _style}


@noted
def latents(
    image_shape: tuple[int, ...],
    num_classes: int,
    *,
    codes_per_class: int,
    code_shape: tuple[int, ...],
    num_decoders: int = 1,
    decoder: DecoderKind = "convolution",
    width: int = 0,
    fit_steps: int = 300,
    initial_images: np.ndarray | None = None,
) -> Images:
    """Images that small decoders, which all classes share, make of the codes of each class.

        x̃_k(d·n + i) = decoder_d(z_ki),   m = n·D images of each class, first all of the first decoder

    K·n·h·w·c numbers are stored, and those of D decoders.

    Args:
        image_shape: `(H, W, C)`, the shape of a decoded image.
        num_classes: the number K of classes.
        codes_per_class: the number n of codes of each class.
        code_shape: `(h, w, c)`, the shape of a code; that of an image for styles.
        num_decoders: the number D of decoders.
        decoder: the kind of all decoders, a `DecoderKind`.
        width: the hidden channels of a decoder; 0 for a single convolution, or for the 3 of HaBa's style.
        fit_steps: the number of steps of Adam by which the start is fitted to initial images.
        initial_images: `[K, n D, H, W, C]`, the encoded images that the decoded ones are fitted to at the
            start, in squares; None starts from normal codes and decoders.

    Returns:
        Images with the code `LatentsCode`, in the groups "data" and "decoder".

    Raises:
        ValueError: a count below one, an unknown kind, or shapes that do not fit each other.

    References:
        Lee et al. 2022, arXiv 2208.10494 (KFS: latent codes and shared decoders, whose sizes and code are not
        public; this is the idea, not a replay). Liu et al. 2022, arXiv 2210.16774 (HaBa: the style).
    """
    shape, small = checks.image_shape(image_shape), checks.image_shape(code_shape)
    counts = {"num_classes": num_classes, "codes_per_class": codes_per_class, "num_decoders": num_decoders}
    for name, value in counts.items():
        checks.at_least(name, value, 1)
    checks.at_least("width", width, 0)
    checks.at_least("fit_steps", fit_steps, 0)
    checks.choice("decoder", decoder, _DECODERS)
    kind = _DECODERS[decoder](shape, small, width)
    whole = (num_classes, codes_per_class * num_decoders, *shape)
    start = None
    if initial_images is not None:
        start = checks.encoded_images("initial_images", initial_images, whole)

    def init(key: jax.Array) -> LatentsCode:
        codes_key, decoders_key = jax.random.split(key)
        codes = jax.random.normal(codes_key, (num_classes, codes_per_class, *small))
        decoders = jax.vmap(kind.init)(jax.random.split(decoders_key, num_decoders))
        code = LatentsCode(codes, decoders)
        return code if start is None else _fitted(decode, code, jnp.asarray(start, codes.dtype), fit_steps)

    def decode(code: LatentsCode) -> jax.Array:
        flat = code.codes.reshape(-1, *small)
        images = jax.lax.map(lambda one: kind.decode(one, flat), code.decoders)
        by_class = images.reshape(num_decoders, num_classes, codes_per_class, *shape).swapaxes(0, 1)
        return by_class.reshape(whole)

    def groups(code: LatentsCode) -> Any:
        names: Any = "data"
        return LatentsCode(names, jax.tree.map(lambda leaf: "decoder", code.decoders))

    return Images(init, decode, whole, "latents", groups=groups)


def _fitted(
    decode: Callable[[LatentsCode], jax.Array], code: LatentsCode, images: jax.Array, steps: int
) -> LatentsCode:
    """The code after some steps towards given images, in squares."""
    optimizer = optax.adam(_FIT_LR)

    def step(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
        code, state = carry
        grads = jax.grad(lambda code: jnp.mean((decode(code) - images) ** 2))(code)
        moves, state = updates.update(optimizer, grads, state, code)
        return (optax.apply_updates(code, moves), state), None

    (code, _), _ = jax.lax.scan(step, (code, updates.init(optimizer, code)), length=steps)
    return code
