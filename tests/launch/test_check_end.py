"""What the end of a run needs is tried at the start; a picture that fails takes nothing with it."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest
from launchers import TINY
from problems import write_npz

import ddjax
from ddjax import figures, forms, inits, methods, networks, report
from ddjax.launch import distillation, regenerate, results, tables
from experiments import baselines, distribution_matching, paper, random_init


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return str(write_npz(tmp_path_factory.mktemp("data") / "spots.npz", np.random.default_rng(0)))


def prepared(launcher, **settings):
    return distillation.prepare(launcher.name, launcher.config_class(**settings), launcher.build)


def matching(dataset, **settings):
    return prepared(distribution_matching.LAUNCHER, dataset=dataset, network="mlp", batch_size=8, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_lr": -0.01}, "train_lr: expected a finite number > 0; got -0.01"),
        ({"train_lr": float("nan")}, "train_lr: expected a finite number > 0; got nan"),
        ({"train_lr": 0.0}, "train_lr: expected a finite number > 0; got 0.0"),
        ({"train_epochs": 2_000_000}, "train_epochs: expected at most 1,000,000; got 2,000,000"),
    ],
)
def test_trainings_that_no_artifact_holds_are_refused_at_the_start(dataset, settings, message):
    with pytest.raises(ValueError, match=message):
        matching(dataset, **settings)


def test_whatever_saving_refuses_is_refused_at_the_start(dataset, monkeypatch):
    launch = matching(dataset)
    recipe = ddjax.Recipe("train", momentum=-1.0)
    parts = dataclasses.replace(launch.parts, method=dataclasses.replace(launch.parts.method, recipe=recipe))
    with pytest.raises(ValueError, match=r"the recipe's momentum: expected a finite number >= 0; got -1.0"):
        distillation.check_end(dataclasses.replace(launch, parts=parts))
    facts = launch.parts.facts._replace(network_settings={"width": object()})
    with pytest.raises(ValueError, match="metadata: expected what JSON can hold"):
        distillation.check_end(
            dataclasses.replace(launch, parts=dataclasses.replace(launch.parts, facts=facts))
        )


def test_the_function_refuses_such_a_recipe_too(few_digits):
    network = networks.mlp(few_digits.image_shape, 3, widths=(4,))
    recipe = ddjax.Recipe("train", lr=-0.01)
    method = methods.distribution_matching(network, inits.random(network), recipe=recipe)
    form = forms.pixels(few_digits.image_shape, 3, inner_steps=1, inner_lr=None)
    with pytest.raises(ValueError, match=r"the recipe's lr: expected a finite number >= 0; got -0.01"):
        ddjax.distill(few_digits, method, key=jax.random.key(0), num_outer_steps=1, form=form)


def test_tensorboard_is_looked_for_at_the_start(dataset, monkeypatch):
    def missing():
        raise ImportError("TensorBoard events: expected the package tensorboardX")

    monkeypatch.setattr(report, "check_tensorboard", missing)
    matching(dataset)
    with pytest.raises(ImportError, match="tensorboardX"):
        matching(dataset, tensorboard=True)


def test_few_images_matter_to_the_baselines_alone(dataset):
    settings = {"dataset": dataset, "network": "mlp", "inner_steps": 60, "batch_size": 16}
    with pytest.raises(ValueError, match="images"):
        prepared(random_init.LAUNCHER, **settings)
    prepared(random_init.LAUNCHER, baselines=False, **settings)
    with pytest.raises(ValueError, match="images"):
        prepared(random_init.LAUNCHER, baselines=False, initial_images="real", **settings)


def test_class_means_need_few_images(dataset, monkeypatch):
    started = []
    monkeypatch.setattr("ddjax.launch.kept.once", lambda *_, **__: started.append(1))
    few = {"dataset": dataset, "network": "mlp", "inner_steps": 60}
    with pytest.raises(ValueError, match="images"):
        baselines.run(baselines.Config(**few))
    baselines.run(baselines.Config(**few, baselines="class mean; all data"))
    assert started == [1]


TEX = ("cost $\\frac$", "a^{$", "$x$")


@pytest.mark.slow
def test_class_names_are_no_formulas(tmp_path, few_digits):
    images, labels = np.zeros((1, 3, 8, 8, 1), np.float32), np.eye(3, dtype=np.float32)[None]
    encoding = few_digits.encoding
    figures.image_grid(tmp_path / "a.png", images, labels, encoding=encoding, class_names=TEX, title=TEX[0])
    figures.lines(
        tmp_path / "b.png", [figures.Line(TEX[0], [1], [2])], x_label=TEX[0], y_label=TEX[0], title=TEX[0]
    )
    figures.curves(tmp_path / "c.png", [{"step": 1, "loss": 1.0}], title=TEX[0])


def test_a_picture_that_fails_is_a_warning(tmp_path, capsys):
    def fail(path):
        raise ValueError("no font")

    assert results.drawn(tmp_path, {"a.png": fail, "b.png": lambda path: path.touch()}) == ("b.png",)
    assert "a.png could not be drawn: ValueError('no font')" in capsys.readouterr().err


@pytest.mark.slow
def test_a_picture_that_fails_does_not_take_the_result_with_it(dataset, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        assert (tmp_path / "run" / "result.json").exists()
        raise ValueError("no font")

    monkeypatch.setattr(figures, "image_grid", fail)
    result = random_init.LAUNCHER.carry_out(TINY | {"dataset": dataset, "baselines": False}, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    assert (tmp_path / "run" / "distilled.npz").exists()
    found = capsys.readouterr()
    assert "distilled.png could not be drawn" in found.err
    assert "distilled.npz, curves.png, result.json" in found.out
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert plan["init_of_weights"]["own"] == []
    assert "fc1.kernel" in plan["init_of_weights"]["drawn"]
    assert "initial weights: drawn: " in found.out


def table_of(**flags):
    runs = tuple(tables.Run(name, "random_init", given, True) for name, given in flags.items())
    return tables.Table(runs, ())


def test_a_table_reads_the_flags_of_all_runs_and_its_directory_before_the_first(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(regenerate, "carry_out", lambda one, *_, **__: started.append(one.name))
    config = paper.Config(output=str(tmp_path / "out"), workdir=str(tmp_path))
    bad = table_of(first={"seed": 1}, last={"inner_lr": -1.0})
    with pytest.raises(ValueError, match="inner_lr: expected a finite number > 0"):
        regenerate.regenerate("paper", config, bad)
    (tmp_path / "file").touch()
    config = paper.Config(output=str(tmp_path / "file"), workdir=str(tmp_path))
    with pytest.raises(ValueError, match="expected a directory"):
        regenerate.regenerate("paper", config, table_of(first={"seed": 1}))
    assert started == []
