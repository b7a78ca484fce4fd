"""Latents: every code times every decoder."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE

from ddjax import forms


def test_every_decoder_makes_an_image_of_every_code_of_every_class():
    """A single convolution that passes the first channel on, times the number of the decoder."""
    images = forms.latents(SHAPE, CLASSES, codes_per_class=2, code_shape=(8, 8, 2), num_decoders=3)
    code = images.init(jax.random.key(0))
    (layer,) = code.decoders
    kernel = np.zeros((3, 3, 3, 2, 1), np.float32)
    kernel[:, 1, 1, 0, 0] = [1, 2, 3]
    decoded = images.decode(code._replace(decoders=[layer | {"kernel": jnp.asarray(kernel)}]))
    assert decoded.shape == images.shape == (CLASSES, 6, *SHAPE)
    first = code.codes[..., :1]
    assert np.allclose(decoded, jnp.concatenate([first, 2 * first, 3 * first], 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "code_shape"), [("convolution", (4, 4, 2)), ("convolution", (8, 8, 1)), ("style", SHAPE)]
)
def test_the_start_is_fitted_to_given_images(kind, code_shape):
    smooth = np.asarray(
        jax.image.resize(
            np.random.default_rng(0).normal(size=(CLASSES, 2, 3, 3, 1)), (CLASSES, 2, *SHAPE), "bilinear"
        ),
        np.float32,
    )

    def error(steps):
        images = forms.latents(
            SHAPE,
            CLASSES,
            codes_per_class=1,
            code_shape=code_shape,
            num_decoders=2,
            decoder=kind,
            fit_steps=steps,
            initial_images=smooth,
        )
        code = jax.jit(images.init)(jax.random.key(0))
        return float(jnp.mean((images.decode(code) - smooth) ** 2))

    assert error(200) < 0.5 * error(0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"decoder": "sytle"},
            "decoder: expected one of convolution, style; got 'sytle'. Did you mean 'style'",
        ),
        ({"decoder": "style"}, "code_shape: expected"),
        ({"codes_per_class": 0}, "codes_per_class: expected a whole number >= 1"),
        ({"initial_images": np.zeros((3, 1, *SHAPE))}, "initial_images.shape: expected"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    given = {"codes_per_class": 1, "code_shape": (4, 4, 1), "num_decoders": 2} | settings
    with pytest.raises(ValueError, match=message):
        forms.latents(SHAPE, CLASSES, **given)
