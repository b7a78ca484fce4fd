"""The launcher of architecture search, as its users meet it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from absl.flags import FlagValues
from problems import write_npz

from ddjax import baselines, coresets, networks
from ddjax.launch import load_data, matrix, parse
from ddjax.launch.selecting import Task
from ddjax.ranking import agreement
from experiments import architecture_search, coreset
from experiments.architecture_search import SPACE, Config

SMALL = ("mlp:widths=2x", "mlp:widths=8x")


@pytest.fixture
def asked(tmp_path, rng) -> Config:
    """Random real images of the bright spots, two MLPs."""
    dataset = str(write_npz(tmp_path / "spots.npz", rng))
    of_images = coreset.Config(dataset=dataset, network="mlp", train_epochs=5)
    task = Task.of(of_images, load_data(of_images))
    images = coresets.real_images(task.data.train, per_class=1, num_classes=3, seed=0)
    task.write(tmp_path / "random.npz", "random", coresets.Coreset([images]))
    return Config(
        artifact=str(tmp_path / "random.npz"),
        networks=",".join(SMALL),
        num_nets=2,
        whole_epochs=1,
        dataset=dataset,
        workdir=str(tmp_path / "run"),
    )


@pytest.mark.slow
def test_networks_are_chosen_on_validation_and_judged_on_test(asked, tmp_path, monkeypatch, capsys):
    splits = []
    measure = matrix.measure

    def watched(config, asked, scores):
        splits.append(asked.data.test)
        return measure(config, asked, scores)

    monkeypatch.setattr(matrix, "measure", watched)
    trained_on_all, all_data = [], baselines.all_data
    monkeypatch.setattr(
        baselines, "all_data", lambda data, *a, **k: trained_on_all.append(data) or all_data(data, *a, **k)
    )
    result = architecture_search.run(asked)
    data = load_data(asked_data(asked))
    assert np.array_equal(splits[0].images, data.validation.images)
    assert all(np.array_equal(one.test.images, data.test.images) for one in trained_on_all)
    assert len(trained_on_all) == 2
    (row,) = result["matrix"].values()
    whole = [result["whole"][title]["mean"] for title in SMALL]
    (found,) = result["proxies"].values()
    means = [row[title]["mean"] for title in SMALL]
    assert {key: found[key] for key in ("rank_correlation", "chosen", "loss")} == agreement(
        means, whole
    )._asdict()
    assert (tmp_path / "run" / "architecture_search.png").stat().st_size > 1000
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    assert "whole training set" in capsys.readouterr().out
    assert architecture_search.run(asked) == result
    assert "is finished" in capsys.readouterr().out


def asked_data(config: Config) -> coreset.Config:
    return coreset.Config(dataset=str(config.dataset))


@pytest.mark.slow
def test_the_space_fits_small_images_and_holds_each_network_once(asked):
    data = load_data(asked_data(asked))
    built = [networks.by_text(title, data.image_shape, data.num_classes) for title in SPACE]
    assert len(set(SPACE)) == len(built) == 24
    assert all(network.num_classes == 3 for network in built)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"networks": "mlp"}, "networks of the space: expected a whole number >= 2; got 1"),
        ({"networks": "mlp,mlpp"}, "mlpp.*Did you mean 'mlp'"),
        ({"whole_lr": 0.0}, "whole_lr: expected"),
        ({"artifact": ""}, "artifact: expected one or more"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_compiles(asked, settings, message, monkeypatch, tmp_path):
    monkeypatch.setattr("ddjax.launch.kept.once", None)
    with pytest.raises(ValueError, match=message):
        architecture_search.run(Config(**vars(asked) | settings))
    assert not (tmp_path / "run").exists()


def test_the_flags_of_the_docstring_are_flags():
    text = str(architecture_search.__doc__).replace("\\\n", " ")
    commands = [line.split()[3:] for line in text.splitlines() if line.strip().startswith("python")]
    assert commands
    for flags in commands:
        config = parse(Config, ["architecture_search", *flags], FlagValues())
        assert config.artifact
        for title in config.networks.split(","):
            assert title.split(":")[0] in networks.NAMES
