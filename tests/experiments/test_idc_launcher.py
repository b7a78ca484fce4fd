"""The launcher of IDC: the published settings, data set by data set, and what the flags change."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from absl import flags

from ddjax import methods
from ddjax.data import load
from ddjax.launch import Parts, parse
from ddjax.launch.tables import Published
from ddjax.recipes import Train
from experiments import condense_table
from experiments import idc as launcher


def parts(**settings: Any) -> Parts:
    sizes = {"dataset": "digits", "depth": 1, "width": 4}
    return launcher.LAUNCHER.parts(launcher.Config(**sizes, **settings), load("digits"))


@pytest.mark.parametrize(
    ("dataset", "stored", "factor", "wanted"),
    [
        ("mnist", 10, 2, ("l1", 2e-4, 500, "color+crop", "color+crop", "", "color+(crop_scale_rotate)", "")),
        ("mnist", 1, 1, ("l1", 2e-5, 500, "color+crop+cutout", "color+crop", "cutmix", None, "cutmix")),
        (
            *("fashion_mnist", 10, 2),
            (
                *("l1", 2e-4 * 49 / 64, 500, "color+crop+cutout", "color+crop", "cutmix"),
                *("flip+color+(crop_scale_rotate)", "cutmix"),
            ),
        ),
    ],
)
def test_grey_images_have_the_published_settings(dataset, stored, factor, wanted):
    found = methods.idc_settings(dataset, stored_per_class=stored, factor=factor, side=28)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours == (pytest.approx(theirs) if isinstance(theirs, float) else theirs or ours)


def test_colour_images_have_the_published_settings():
    cifar = methods.idc_settings("cifar10", stored_per_class=10, factor=2, side=32)
    assert (cifar.distance, cifar.net_images, cifar.eval_mix) == ("mse", 2000, "cutmix")
    assert cifar.lr == pytest.approx(1e-2)
    assert cifar.eval_augmentation == "flip+color+(crop_scale_rotate)"
    svhn = methods.idc_settings("svhn_cropped", stored_per_class=1, factor=1, side=32)
    assert (svhn.net_images, svhn.net_mix, svhn.eval_mix) == (500, "cutmix", "")
    assert svhn.eval_augmentation == "color+(crop_scale_rotate)+cutout"


def test_the_launcher_does_what_was_published():
    found = parts()
    assert found.method.name == "idc"
    assert found.num_outer_steps == 200_000
    assert found.method.recipe == Train(
        epochs=1000, batch_size=64, augmentation="color+(crop_scale_rotate)", protocol="idc"
    )
    encoding = load("digits").train
    # The step of a pixel is the same under every normalisation.
    assert found.facts.plan["outer_lr"] == pytest.approx(2e-5 / 16 / float(encoding.std[0]) ** 2)
    code = found.form.init(jax.random.key(0)).code
    assert code.shape == (10, 1, 8, 8, 1)
    pixels = np.asarray(code) * encoding.std + encoding.mean
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6
    shapes = jax.eval_shape(lambda key: found.form.unfold(found.form.init(key)), jax.random.key(0))
    assert shapes.inputs.shape == (1, 40, 8, 8, 1)


def test_flags_change_what_was_published():
    found = parts(factor=1, net_mix="none", eval_mix="none", distance="mse", net_images=7, outer_lr=0.5)
    assert isinstance(found.method.recipe, Train)
    assert found.method.recipe.mix == ""
    assert {name: found.facts.plan[name] for name in ("distance", "net_images", "net_mix", "outer_lr")} == {
        "distance": "mse",
        "net_images": 7,
        "net_mix": "",
        "outer_lr": 0.5,
    }
    assert found.form.init(jax.random.key(0)).code.shape == (10, 1, 8, 8, 1)


@pytest.mark.parametrize("budget", ["small", "full"])
def test_the_rows_of_storage_are_runs_of_the_launcher_beside_published_numbers(budget):
    asked = condense_table.Config(dataset="mnist", images_per_class=1, budget=budget, table="storage")
    table = condense_table.table_of(asked)
    assert {cell.row: cell.published for cell in table.cells} == {
        "IDC": Published(94.2),
        "IDC-I": Published(88.9),
    }
    for run in table.runs:
        argv = ["idc", *(f"--{name}={value}" for name, value in run.flags.items() if name != "baselines")]
        parsed = parse(launcher.Config, argv, flags.FlagValues())
        assert parsed.factor == (1 if run.name.startswith("idc-i") else 2)
        assert parsed.num_outer_steps == (200_000 if budget == "full" else 2000)


def test_every_published_number_of_the_storage_stands_in_its_table():
    shown = {
        (cell.row, cell.column): cell.published.mean
        for dataset in ("mnist", "fashion_mnist", "svhn_cropped", "cifar10")
        for count in condense_table.SIZES
        for cell in condense_table.table_of(
            condense_table.Config(dataset=dataset, images_per_class=count, budget="full", table="storage")
        ).cells
        if cell.published is not None
    }
    listed = {
        (row, column): number[0]
        for numbers in condense_table.SHEETS["storage"].published
        for row, there in numbers.numbers.items()
        for column, number in zip(numbers.columns, there, strict=True)
    }
    assert shown == listed
    assert len(shown) == 24
