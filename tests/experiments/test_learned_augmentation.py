"""The launcher of learned augmentation: where images start, which widths move, the control."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import pytest

from ddjax import data as real_data
from ddjax import forms
from ddjax.augment_learned import TRANSFORMS, widths_of
from ddjax.launch import Parts
from experiments import learned_augmentation as launcher

TINY: dict[str, Any] = {"dataset": "digits", "network": "mlp", "inner_steps": 2, "inner_epochs": 2}


def parts(**settings: Any) -> Parts:
    """As a launch builds them: the data are turned before."""
    config = launcher.Config(**TINY, **settings)
    data = real_data.load("digits")
    return launcher.LAUNCHER.parts(
        config, data if config.rotated is None else real_data.rotated(data, config.rotated)
    )


def test_images_start_upright_under_the_encoding_of_the_turned_ones():
    found = parts(rotated=90.0)
    upright, turned = real_data.load("digits"), real_data.rotated(real_data.load("digits"), 90.0)
    pixels = np.asarray(turned.train.encoding.encode(upright.train.images))
    images = np.asarray(found.form.init(jax.random.key(0)).form.images)
    assert all(
        np.abs(pixels - image).max((1, 2, 3)).min() < 1e-5 for image in images.reshape(-1, 8, 8, 1)[:4]
    )


@pytest.mark.parametrize(("kind", "shape"), [("learned", (6,)), ("by_class", (10, 6)), ("fixed", (6,))])
def test_widths_are_learned_for_all_or_by_class_or_fixed(kind, shape):
    found = parts(widths=kind, inner_lr=0.1)
    params = found.form.init(jax.random.key(0))
    assert params.raw_widths.shape == shape
    group = forms.groups_of(found.form, params).raw_widths
    assert group == ("frozen" if kind == "fixed" else "augmentation")
    assert isinstance(found.outer.optimizer, Mapping)
    assert set(found.outer.optimizer) == {"lrs", "rest", "augmentation"}
    if kind == "fixed":
        widths = dict(zip(TRANSFORMS, widths_of(params.raw_widths).tolist(), strict=True))
        assert widths.pop("rotation") == pytest.approx(0.05)
        assert max(widths.values()) < 1e-5


def test_without_widths_nothing_is_transformed():
    assert parts(widths="none").form.draw is None


@pytest.mark.slow
def test_a_run_records_its_widths_and_the_control(tmp_path):
    config = launcher.Config(
        **TINY,
        workdir=str(tmp_path / "run"),
        rotated=30.0,
        batch_size=16,
        num_outer_steps=2,
        num_eval_inits=1,
        num_val_inits=1,
        baselines=False,
        augerino_epochs=1,
    )
    launcher.LAUNCHER.run(config)
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert set(record["widths"]) == set(record["augerino"]["widths"]) == set(TRANSFORMS)
    assert 10 < record["augerino"]["test_accuracy"] <= 100
