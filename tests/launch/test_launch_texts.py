"""Launchers on texts: flags, what a run writes, what is refused."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddjax
from ddjax import artifact
from ddjax.data import TextSettings
from ddjax.encodings import Channels, Tokens
from ddjax.launch import Common, DataChoice, TextChoice, Unrolled, artifacts
from ddjax.launch.choices import augmentation, build_network, choose_network, load_data
from ddjax.launch.flags import without_effect
from experiments import fixed_init, text

SMALL = {"length": 5, "vocabulary": 30, "embedding": "random", "embedding_dim": 4, "batch_size": 8}


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> str:
    lines = ["text,label,split"]
    for split, count in (("train", 40), ("test", 12)):
        for i in range(count):
            subject = ("cats", "dogs", "birds")[i % 3]
            lines.append(
                f"do {subject} run ?,question,{split}" if i % 2 else f"{subject} run .,answer,{split}"
            )
    path = tmp_path_factory.mktemp("texts") / "animals.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def config(table: str, **changed) -> Unrolled:
    return Unrolled(**{"dataset": table, **SMALL, **changed})


def test_flags_say_how_texts_become_examples(table):
    expected = TextSettings(length=5, vocabulary=30, embedding="random", dim=4)
    assert config(table).text_settings() == expected
    assert Common().text_settings() is None
    assert TextChoice(label="kind").text_settings() == TextSettings(label="kind")
    data = load_data(config(table))
    assert (data.input_shape, data.class_names) == ((5, 4), ("answer", "question"))
    assert choose_network(config(table), data) == ("textconv", {})
    assert choose_network(config(table, width=3), data) == ("textconv", {"width": 3})
    assert choose_network(config(table, network="bilstm", depth=1), data) == ("bilstm", {"depth": 1})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"network": "convnet"}, "network: expected one for texts, .* got convnet. Give --network=textconv"),
        ({"network": "lenet"}, "for texts give a network for texts"),
        ({"augment": "dc"}, "augmentation: expected images to augment; got 'dc' for the texts of animals"),
        ({"resize": 8}, "expected images"),
        ({"dataset": "digits"}, "text: expected a data set of texts .* digits has images"),
        ({"label": "kind"}, "expected the columns text, kind"),
    ],
)
def test_texts_where_images_are_needed_and_the_reverse(table, changed, message):
    own = config(table, **changed)

    def prepare():
        data = load_data(own)
        augmentation(own.augment, data)
        build_network(choose_network(own, data), data)

    with pytest.raises(ValueError, match=message):
        prepare()


@pytest.mark.slow
def test_a_run_writes_words(table, tmp_path, capsys):
    """An artifact with its own words, `distilled.txt`, pictures; and the artifact finds its data again."""
    settings = config(
        table,
        workdir=str(tmp_path / "run"),
        width=4,
        inner_steps=1,
        inner_epochs=2,
        num_outer_steps=2,
        baselines=False,
    )
    fixed_init.LAUNCHER.run(settings)
    assert "distilled: 2 texts, 1 step(s) of 2" in capsys.readouterr().out
    lines = (tmp_path / "run" / "distilled.txt").read_text().splitlines()
    assert lines[0].split() == ["step", "label", "nearest", "words"]
    assert [line.split()[1] for line in lines[2:]] == ["answer", "question"]
    assert (tmp_path / "run" / "distilled.png").stat().st_size > 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["length"] == 5

    path = str(tmp_path / "run" / "distilled.npz")
    loaded = artifact.load(path)
    assert isinstance(loaded.encoding, Tokens)
    assert loaded.encoding.tokenizer is not None
    assert set(lines[2].split()[2:]) <= set(loaded.encoding.tokenizer.words)
    opened = artifacts.opened(path, DataChoice(), dataset=table, data_dir=None)
    assert "with the same digests" in opened.notes[0]
    np.testing.assert_array_equal(opened.data.test.raw, load_data(settings).test.raw)
    with pytest.raises(ValueError, match=r"text: expected a data set of texts .* digits has images"):
        artifacts.opened(path, DataChoice(), dataset="digits", data_dir=None)


@pytest.mark.parametrize("theta", text.THETAS)
def test_the_launcher_of_texts_takes_one_theta_or_all(table, theta):
    own = text.Config(dataset=table, **SMALL, theta=theta, width=2)
    parts = text.LAUNCHER.parts(own, load_data(own))
    assert (parts.network.name, parts.inits.fixed) == ("textconv", theta == "fixed")
    assert parts.facts.layout[:3] == (1, 20, 1)
    assert text.Config().dataset == "trec"


def test_an_artifact_of_images_is_not_tested_on_texts(table, tmp_path):
    schedule = ddjax.Schedule(jnp.zeros((1, 2, 8, 8, 1)), jnp.eye(2)[None], None)
    encoding = Channels(np.zeros(1, np.float32), np.ones(1, np.float32))
    phi = ddjax.Distilled(schedule, ddjax.forms.constant(schedule), encoding, ddjax.Recipe("train"))
    path = artifact.save(tmp_path / "phi.npz", phi)
    with pytest.raises(ValueError, match=r"input shape: expected \(30, 8\); got .*Test on the data"):
        artifacts.opened(str(path), DataChoice(), dataset=table, data_dir=None)


def test_defaults_of_flags_are_those_of_the_settings():
    helps = {one.name: one.metadata["help"] for one in dataclasses.fields(TextChoice)}
    own = TextSettings()
    assert f"by default {own.length}" in helps["length"]
    assert f"by default {own.vocabulary}" in helps["vocabulary"]
    assert f"{own.embedding} (of the training texts, the default)" in helps["embedding"]


@pytest.mark.parametrize(("form", "is_learned"), [("free", True), ("hard", False), ("softmax", True)])
def test_the_labels_of_texts_have_every_form(table, form, is_learned):
    own = text.Config(dataset=table, **SMALL, label_form=form, width=2)
    data = load_data(own)
    found = text.LAUNCHER.parts(own, data).form
    schedule = found.unfold(found.init(jax.random.key(0)))
    confidence = 0.9 if form == "softmax" else 1.0
    np.testing.assert_allclose(schedule.labels.max(-1), confidence, rtol=1e-5)
    params = found.init(jax.random.key(0))
    assert found.groups is not None
    assert ("labels" in jax.tree.leaves(found.groups(params))) == is_learned
    given = dataclasses.replace(own, label_confidence=0.8)
    assert ("label_confidence" in without_effect(given)) == (form != "softmax")
