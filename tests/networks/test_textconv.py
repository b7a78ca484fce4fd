"""Networks for texts: the original's values, parameter counts, what they read, what does not fit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import relative

from ddjax import augment, inits, methods, networks
from ddjax.encodings import Tokens
from ddjax.networks.transformer import positions
from ddjax.types import Batch, InitDistribution, Schedule
from ddjax.unroll import cross_entropy, unroll

BUILDERS: dict[str, Any] = {
    "textconv": lambda: networks.textconv((7, 3), 4, width=2, windows=(2, 3)),
    "bilstm": lambda: networks.bilstm((7, 3), 4, width=2, depth=2),
    "transformer": lambda: networks.transformer((7, 3), 4, width=4, depth=1, heads=2),
}


def weights(network, seed=0):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["", "softmax/"])
@pytest.mark.usefixtures("x64")
def test_text_distillation_replays_the_original(kind, reference):
    """Loss, all gradients and the trained network, on real TREC questions under a table of vectors."""
    with np.load(reference / "text_convnet.npz") as file:
        values = {name: file[name] for name in file.files}
    params = {
        f"conv{size}": {
            "kernel": jnp.asarray(values[f"param/convs.{i}.weight"], float)[:, :, None],
            "bias": jnp.asarray(values[f"param/convs.{i}.bias"], float),
        }
        for i, size in enumerate((3, 4, 5))
    }
    params["classifier"] = {
        name: jnp.asarray(values[f"param/fc.{theirs}"], float)
        for name, theirs in (("kernel", "weight"), ("bias", "bias"))
    }
    network = networks.textconv((12, 16), 6)
    method = methods.unrolled(network, InitDistribution(lambda key: params, "given", fixed=True))
    encoding = Tokens(jnp.asarray(values["embedding_table"], float))
    batch = Batch(encoding.encode(jnp.asarray(values["real_tokens"])), jnp.asarray(values["real_labels"]))

    def schedule_of(embeddings, labels, raw):
        targets = jax.nn.softmax(labels) if kind else labels
        return Schedule(embeddings, targets, jax.nn.softplus(raw).reshape(2, 2))

    def loss(*phi):
        return method.loss(schedule_of(*phi), (), batch, jax.random.key(0))[0]

    phi = [jnp.asarray(values[name], float) for name in ("embeddings", "labels", "raw_lrs")]
    value, grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(*phi)
    assert relative(value, values[f"{kind}loss"]) < 1e-9
    for name, grad in zip(("embeddings", "labels", "raw_lrs"), grads, strict=True):
        assert relative(grad, values[f"{kind}grad_{name}"]) < 1e-9
    final, _ = jax.jit(lambda *phi: unroll(cross_entropy(network.apply), params, schedule_of(*phi)))(*phi)
    assert relative(optax.tree.norm(final), values[f"{kind}final_params_norm"]) < 1e-9


@pytest.mark.parametrize(
    ("build", "shape", "count"),
    [
        (networks.textconv, (30, 100), 122_106),
        # The original has 404,406: PyTorch adds a second bias to each of four layers of 400 gates.
        (networks.bilstm, (30, 100), 404_406 - 4 * 400),
        (networks.transformer, (30, 100), 106_950),
    ],
)
def test_weights_are_as_many_as_the_originals(build, shape, count):
    assert networks.num_weights(build(shape, 6)) == count


@pytest.mark.slow
def test_the_filters_start_as_in_the_original():
    """Xavier over the field of 3 words of 20 numbers, one channel to 50: PyTorch's fans of [50, 1, 3, 20]."""
    network = networks.textconv((5, 20), 2, width=50, windows=(3,))
    kernel = np.asarray(jax.jit(inits.random(network).sample)(jax.random.key(0))["conv3"]["kernel"])
    assert kernel.std() == pytest.approx(np.sqrt(2 / (60 * 51)), rel=0.04)


def test_textconv_is_its_equation():
    network = BUILDERS["textconv"]()
    params, x = weights(network), np.random.default_rng(1).normal(size=(2, 7, 3)).astype(np.float32)
    features = []
    for size in (2, 3):
        kernel, bias = params[f"conv{size}"]["kernel"][:, :, 0], params[f"conv{size}"]["bias"]
        outputs = [np.einsum("nif,ifw->nw", x[:, at : at + size], kernel) for at in range(7 - size + 1)]
        features.append(np.maximum(np.max(outputs, 0) + bias, 0))
    features = np.concatenate(features, -1)
    expected = features @ params["classifier"]["kernel"] + params["classifier"]["bias"]
    np.testing.assert_allclose(network.apply(params, jnp.asarray(x)), expected, rtol=1e-4, atol=1e-5)


def test_bilstm_is_its_equations():
    network = BUILDERS["bilstm"]()
    params, x = weights(network), np.random.default_rng(1).normal(size=(2, 7, 3)).astype(np.float32)

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    def read(layer, words):
        hidden = cell = np.zeros((2, 2))
        states = []
        for at in range(7):
            gates = words[:, at] @ layer["input"]["kernel"] + layer["input"]["bias"]
            i, f, g, o = np.split(gates + hidden @ layer["hidden"]["kernel"], 4, -1)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            hidden = sigmoid(o) * np.tanh(cell)
            states.append(hidden)
        return np.stack(states, 1)

    words, ends = x, []
    for layer in (1, 2):
        ahead = read(params[f"forward{layer}"], words)
        back = read(params[f"backward{layer}"], words[:, ::-1])[:, ::-1]
        words, ends = np.concatenate([ahead, back], -1), [ahead[:, -1], back[:, 0]]
    expected = np.concatenate(ends, -1) @ params["classifier"]["kernel"] + params["classifier"]["bias"]
    np.testing.assert_allclose(jax.jit(network.apply)(params, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_transformer_knows_the_order_of_words():
    network = BUILDERS["transformer"]()
    params, x = weights(network), np.random.default_rng(1).normal(size=(1, 7, 3)).astype(np.float32)
    both = jax.jit(network.apply)(params, np.concatenate([x, x[:, ::-1]]))
    assert not np.allclose(both[0], both[1], atol=1e-3)
    assert positions(7, 5).shape == (7, 5)
    np.testing.assert_allclose(positions(3, 4)[2], [np.sin(2), np.cos(2), np.sin(0.02), np.cos(0.02)])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: networks.textconv((28, 28, 1), 10), "textconv: expected texts .* a network for images"),
        (lambda: networks.bilstm((28, 28, 1), 10), "bilstm: expected texts"),
        (lambda: networks.transformer((28, 28, 1), 10), "transformer: expected texts"),
        (
            lambda: networks.by_name("lenet", (30, 100), 10),
            "image_shape: .*for texts give a network for texts, e.g. textconv",
        ),
        (lambda: networks.textconv((4, 3), 2), "windows of at most 4 words.*greater length"),
        (lambda: networks.textconv((9, 3), 2, windows=(3, 3)), "each once"),
        (lambda: networks.textconv((9, 3), 2, windows=()), "windows: expected whole numbers"),
        (lambda: networks.textconv((9, 3), 2, width=0), "width: expected a whole number >= 1"),
        (lambda: networks.bilstm((9, 3), 2, depth=0), "depth: expected a whole number >= 1"),
        (
            lambda: networks.transformer((9, 3), 2, width=6),
            "width: expected a multiple of the 4 heads; got 6",
        ),
    ],
)
def test_what_does_not_fit_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_texts_have_a_default_network():
    assert networks.default_for((30, 100)) == ("textconv", {})
    assert networks.default_for((4, 100)) == ("bilstm", {})
    assert networks.default_network((5, 3), 2).name == "textconv"
    assert networks.by_text("textconv:width=4:windows=2x3", (7, 3), 2).settings == {
        "width": 4,
        "windows": [2, 3],
    }


@pytest.mark.parametrize("name", ["unrolled", "distribution_matching", "gradient_matching"])
def test_texts_are_not_augmented(name):
    network, crop = BUILDERS["textconv"](), augment.by_name("crop", (8, 8, 1))
    with pytest.raises(ValueError, match=r"augmentation: expected images .* textconv takes .*Leave the"):
        getattr(methods, name)(network, inits.random(network), augmentation=crop)
    with pytest.raises(ValueError, match="image_shape: expected"):
        augment.by_name("crop", network.input_shape)
