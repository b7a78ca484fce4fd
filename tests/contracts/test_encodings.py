"""Every encoding keeps the contract of encodings, in data, in artifacts, under methods."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddjax
from ddjax import artifact, encodings, inits, methods, networks, testing
from ddjax.data import Dataset, Split
from ddjax.encodings import Channels, Tokens, Whitened
from ddjax.testing import ENCODING_CHECKS, EncodingCase
from ddjax.tokenizer import Tokenizer, trained

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 4, 3, 2), np.uint8)
TEXTS = RNG.integers(0, 9, (20, 5), np.int32)


def whitened() -> Whitened:
    flat = IMAGES.reshape(20, -1) / 255
    matrix = np.linalg.qr(RNG.normal(size=(24, 24)))[0] * RNG.uniform(0.5, 2, 24)
    parts = (flat.mean(0), matrix, np.linalg.inv(matrix))
    return Whitened(*(np.asarray(part, np.float32) for part in parts))


WORDS = trained(["a b c d e f g"], vocabulary=9, length=5)
WORDED = Tokens(RNG.normal(size=(9, 6)).astype(np.float32), WORDS)

TABLE = {
    "channels": EncodingCase(
        Channels(np.array([0.4, 0.5], np.float32), np.array([0.2, 0.3], np.float32)), IMAGES
    ),
    "whitened": EncodingCase(whitened(), IMAGES),
    "words": EncodingCase(WORDED, TEXTS, scale=1.0),
    "tokens": EncodingCase(Tokens(RNG.normal(size=(9, 6)).astype(np.float32)), TEXTS, scale=1.0),
}


@pytest.mark.parametrize("check", ENCODING_CHECKS)
@pytest.mark.parametrize("name", TABLE)
def test_an_encoding_keeps_its_contract(name, check):
    ENCODING_CHECKS[check](TABLE[name])


def test_an_encoding_that_forgets_the_mean_fails():
    class Forgetful(Channels):
        kind = "forgetful"

        def decode(self, inputs):
            return inputs * self.std[None, None, None]

    jax.tree_util.register_dataclass(Forgetful, ["mean", "std"], [])
    case = EncodingCase(Forgetful(np.full(2, 0.4, np.float32), np.full(2, 0.2, np.float32)), IMAGES)
    with pytest.raises(testing.ContractError, match="decode must be the inverse of encode"):
        testing.check_encoding(case)


def texts() -> Dataset:
    """Two classes of sentences: words 1 to 4 and 5 to 8."""
    labels = np.arange(60, dtype=np.int32) % 2
    words = RNG.integers(1, 5, (60, 5), np.int32) + 4 * labels[:, None]
    encoding = Tokens(RNG.normal(size=(9, 6)).astype(np.float32))
    train, validation, test = (
        Split(words[part], labels[part], encoding, 2) for part in (slice(0, 40), slice(40, 50), slice(50, 60))
    )
    return Dataset("sentences", train, validation, test, ("low", "high"))


@pytest.mark.slow
def test_sentences_are_distilled_saved_and_judged(tmp_path):
    """Inputs of another rank go through methods, engine, artifact and judge."""
    data = texts()
    network = networks.from_functions(
        lambda key: {"kernel": jax.random.normal(key, (6, 2)) / 3, "bias": jnp.zeros(2)},
        lambda params, x: x.mean(1) @ params["kernel"] + params["bias"][None],
        data.input_shape,
        2,
        embed=lambda params, x: jnp.tanh(x.mean(1) @ params["kernel"]),
        name="bag of words",
    )
    p = inits.random(network)
    run = ddjax.distill(
        data,
        methods.unrolled(network, p, batch_size=16),
        form=ddjax.forms.pixels(data.input_shape, 2, inner_steps=1, inner_epochs=10, inner_lr=0.5),
        key=jax.random.key(0),
        num_outer_steps=120,
    )
    loaded = artifact.load(artifact.save(tmp_path / "text.npz", run.distilled))
    assert isinstance(loaded.encoding, Tokens)
    words = np.asarray(loaded.encoding.decode(loaded.schedule.inputs))
    assert words.shape == (1, 2, 5)
    score = ddjax.evaluate(loaded, network, p, data.test, key=jax.random.key(1), num_inits=5)
    assert score.mean > 90
    matched = ddjax.distill(
        data,
        methods.distribution_matching(network, p, batch_size=8),
        key=jax.random.key(0),
        num_outer_steps=2,
    )
    assert np.isfinite(matched.distilled.schedule.inputs).all()
    with pytest.raises(ValueError, match="expected images"):
        _ = data.image_shape


@pytest.mark.parametrize(
    ("encoding", "raw", "message"),
    [
        (TABLE["whitened"].encoding, np.zeros((3, 5, 3, 2), np.uint8), "a finite whitening of 30 numbers"),
        (TABLE["tokens"].encoding, np.full((3, 5), 9, np.int32), "token numbers in \\[0, 9\\)"),
        (TABLE["tokens"].encoding, np.zeros((3, 4, 4, 1), np.uint8), "expected texts"),
        (TABLE["channels"].encoding, TEXTS, "expected uint8 images"),
        (Tokens(np.full((9, 2), np.nan, np.float32)), TEXTS, "a finite table"),
    ],
)
def test_examples_of_another_encoding_are_refused(encoding, raw, message):
    with pytest.raises(ValueError, match=message):
        Split(raw, np.zeros(len(raw), np.int32), encoding)


@pytest.mark.parametrize("name", TABLE)
def test_an_encoding_survives_its_artifact(name, tmp_path):
    case = TABLE[name]
    inputs = jnp.asarray(case.encoding.encode(jnp.asarray(case.raw)))[None, :2]
    schedule = ddjax.Schedule(inputs, jnp.eye(2)[None], None)
    phi = ddjax.Distilled(schedule, ddjax.forms.constant(schedule), case.encoding, ddjax.Recipe("train"))
    loaded = artifact.load(artifact.save(tmp_path / "phi.npz", phi))
    assert type(loaded.encoding) is type(case.encoding)
    np.testing.assert_allclose(
        loaded.encoding.encode(jnp.asarray(case.raw)), case.encoding.encode(jnp.asarray(case.raw)), rtol=1e-6
    )
    assert getattr(loaded.encoding, "tokenizer", None) == getattr(case.encoding, "tokenizer", None)
    assert "tokenizer" not in loaded.metadata


def test_words_are_those_of_the_nearest_vectors():
    table = np.concatenate([np.zeros((2, 6)), np.eye(7, 6)]).astype(np.float32)
    inputs = np.stack([table[2], 0.9 * table[4] + 0.1, 0.1 * table[2]])
    assert Tokens(table, WORDS).words(inputs).tolist() == ["a", "c", "<pad>"]
    assert Tokens(table).words(inputs).tolist() == ["2", "4", "0"]


def words() -> Tokens:
    encoding = TABLE["words"].encoding
    assert isinstance(encoding, Tokens)
    return encoding


def phi(encoding: Tokens) -> ddjax.Distilled:
    schedule = ddjax.Schedule(jnp.ones((1, 2, 5, 6)), jnp.eye(2)[None], None)
    return ddjax.Distilled(schedule, ddjax.forms.constant(schedule), encoding, ddjax.Recipe("train"))


def test_an_artifact_refuses_what_is_no_tokenizer_of_its_table(tmp_path):
    nine, other = WORDED, trained(["a b c"], vocabulary=9, length=5)
    with pytest.raises(ValueError, match="a vector for each word of the tokenizer; it has 5 words"):
        artifact.save(tmp_path / "phi.npz", phi(Tokens(nine.table, other)))
    assert list(tmp_path.iterdir()) == []
    members = encodings.members(nine)
    with pytest.raises(ValueError, match="expected the JSON of a Hugging Face tokenizer"):
        encodings.from_members("tokens", members, tokenizer="{}")
    with pytest.raises(ValueError, match="expected no tokenizer beside channels"):
        encodings.from_members("channels", encodings.members(TABLE["channels"].encoding), tokenizer="{}")


def test_texts_of_another_tokenizer_are_refused():
    """Its numbers would stand for other words."""
    encoding = WORDED
    other = dataclasses.replace(encoding, tokenizer=trained(["g g f e d c b a"], vocabulary=9, length=5))
    network = networks.textconv((5, 6), 2, width=2, windows=(2,))
    split = Split(TEXTS, np.arange(20, dtype=np.int32) % 2, other)
    with pytest.raises(ValueError, match=r"the split: expected texts under φ's .*TextSettings\(encoding="):
        ddjax.evaluate(phi(encoding), network, inits.random(network), split, key=jax.random.key(0))
    encodings.check_words("the split", encoding, dataclasses.replace(encoding, tokenizer=None))
    encodings.check_words(
        "the split", encoding, dataclasses.replace(encoding, tokenizer=Tokenizer(WORDS.json))
    )
