"""Multi-formation, in float64: against the original implementation, and by its definition."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import relative

from ddjax import forms

CASES = {
    "digits_f2": {},
    "digits_f3": {},
    "colour_f2": {},
    "colour_f2_multi": {"multi": True},
    "small_f2_bound": {"bound": 9},
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", CASES)
def test_decoding_replays_the_original_implementation(reference, case):
    """The values and the gradient, of one class among two with the same stored images."""
    recorded = np.load(reference / "idc_decode.npz")
    stored, decoded, grad = (recorded[f"{case}/{name}"] for name in ("stored", "decoded", "grad_stored"))
    images = forms.multi_formation(
        stored.shape[1:],
        2,
        stored_per_class=len(stored),
        factor=int(recorded[f"{case}/factor"]),
        pad=0.5,
        **CASES[case],
    )
    weights = jnp.cos(jnp.arange(decoded.size, dtype=jnp.float64)).reshape(decoded.shape)

    def loss(code):
        found = images.decode(code)
        return jnp.sum(weights * found[1]), found

    (_, found), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        jnp.stack([jnp.zeros(stored.shape), jnp.asarray(stored, jnp.float64)])
    )
    assert found.shape == images.shape
    assert relative(found[1], decoded) < 1e-9
    assert relative(grads[1], grad) < 1e-9


@pytest.mark.parametrize(("case", "factor"), [("digits_f2", 2), ("colour_f3", 3)])
def test_the_start_replays_the_original_implementation(reference, case, factor):
    recorded = np.load(reference / "idc_decode.npz")
    real, stored = recorded[f"mix_{case}/real"], recorded[f"mix_{case}/stored"]
    assert np.array_equal(forms.shrunk(real, factor), stored)
    images = forms.multi_formation(
        real.shape[1:], 1, stored_per_class=len(stored), factor=factor, initial_images=real[None]
    )
    assert np.array_equal(images.init(jax.random.key(0)), stored[None])


def test_a_part_of_an_even_image_becomes_the_image_of_its_class():
    """Parts of one grey each: what is decoded is known without a second resize."""
    greys = np.arange(8, dtype=np.float32).reshape(2, 4)
    real = np.broadcast_to(greys[:, :, None, None, None], (2, 4, 6, 6, 1))
    images = forms.multi_formation((6, 6, 1), 2, factor=2, initial_images=real)
    decoded = images.decode(images.init(jax.random.key(0)))
    assert np.allclose(decoded, real)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factor": 9}, "factor: expected at most 8, one pixel a part; got 9"),
        ({"multi": True, "bound": 4}, "bound: expected none beside multi"),
        ({"bound": 0}, "bound: expected a whole number >= 1; got 0"),
        ({"pad": (0.0, 1.0)}, "pad: expected one finite number, or 1, one for each channel"),
        ({"initial_images": np.zeros((3, 3, 8, 8, 1))}, "initial_images.shape: expected .*4, 8, 8, 1"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        forms.multi_formation((8, 8, 1), 3, **settings)
