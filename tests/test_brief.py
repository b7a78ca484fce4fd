"""What people see who print an object: one line, arrays by dtype and shape."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import ddjax
from ddjax import brief


def printed() -> dict[str, str]:
    data = ddjax.data.load("digits")
    network = ddjax.networks.mlp(data.image_shape, data.num_classes, widths=(4,))
    inits = ddjax.inits.random(network)
    form = ddjax.forms.pixels(data.image_shape, data.num_classes, inner_steps=1, inner_lr=None)
    method = ddjax.methods.distribution_matching(network, inits, batch_size=8)
    recipe = ddjax.Recipe("train")
    phi = ddjax.Distilled(
        form.init(jax.random.key(0)), form, data.train.encoding, recipe, {"dataset": "digits"}
    )
    run = ddjax.Run(phi, 3, 2, 50.0, {"distil": 1.0}, [{"loss": 1.0}] * 1000)
    parts = {"data": data, "split": data.train, "network": network, "inits": inits, "form": form}
    return {name: repr(part) for name, part in {**parts, "method": method, "phi": phi, "run": run}.items()}


def test_every_part_is_one_line_that_names_its_arrays():
    shown = printed()
    assert max(map(len, shown.values())) < 800
    assert not any("\n" in line for line in shown.values())
    assert shown["split"].startswith("Split(raw=uint8[1294, 8, 8, 1], labels=int32[1294], encoding=Channels(")
    assert "class_names=['0', '1', '2', '3', '4', '5', … 10 in all]" in shown["data"]
    assert "name='mlp', input_shape=[8, 8, 1], num_classes=10" in shown["network"]
    assert "images=float32[1, 10, 8, 8, 1]" in shown["phi"]
    assert "… 1000 in all" in shown["run"]
    assert "0x" not in "".join(shown.values()), "an address says nothing"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (np.zeros((2, 3)), "float64[2, 3]"),
        (np.mean, "mean"),
        ("x" * 100, f"'{'x' * 59}…"),
        ({"a": np.zeros(2)}, "{a: float64[2]}"),
        (range(9), "[0, 1, 2, 3, 4, 5, … 9 in all]"),
        (None, "None"),
    ],
)
def test_values_in_a_few_words(value, wanted):
    assert brief.text(value) == wanted
