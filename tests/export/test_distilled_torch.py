"""The file for PyTorch users does what ddjax does: the same images, draws, steps and scores."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import small_form

from ddjax import Recipe, artifact, augment, networks, recipes
from ddjax import types as ddjax_types
from ddjax.encodings import Channels, Whitened
from ddjax.types import Distilled

torch = pytest.importorskip("torch", reason="PyTorch is not installed; `pip install torch` runs these tests")
from ddjax.export import distilled_torch  # noqa: E402

SHAPE, CLASSES = (8, 8, 1), 3


def saved(tmp_path, recipe: ddjax_types.Recipe, *, lr: float | None = 0.05) -> tuple[Distilled, Any]:
    """φ with images that no pixel rounds, and what the file for PyTorch reads of it."""
    form = small_form(inner_lr=lr)
    facts = {"dataset": "spots", "class_names": ["a", "b", "c"]}
    distilled = Distilled(
        form.init(jax.random.key(0)), form, Channels(jnp.full(1, 0.25), jnp.full(1, 0.5)), recipe, facts
    )
    return distilled, distilled_torch.load(artifact.save(tmp_path / "distilled.npz", distilled))


def twins() -> tuple[ddjax_types.Network, Any, Any]:
    """A network of ddjax, its initial weights, and a network of PyTorch with the same weights."""
    network = networks.mlp(SHAPE, CLASSES, widths=(16,))
    params = network.init(jax.random.key(1))
    layers = [params[name] for name in ("fc1", "classifier")]
    modules: list[Any] = [torch.nn.Flatten()]
    for i, leaves in enumerate(layers):
        kernel, bias = np.array(leaves["kernel"]), np.array(leaves["bias"])
        dense = torch.nn.Linear(*kernel.shape)
        dense.weight.data, dense.bias.data = torch.tensor(kernel.T), torch.tensor(bias)
        modules += [dense, torch.nn.ReLU()] if i < len(layers) - 1 else [dense]
    return network, params, torch.nn.Sequential(*modules)


def some_pixels(count: int = 5) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, *SHAPE), np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("schedule", optimizer="sgd"),
        Recipe("schedule", optimizer="momentum"),
        Recipe("schedule", optimizer="adam"),
        Recipe("train", epochs=7, lr=0.1),
        Recipe("train", epochs=8, lr=0.1, protocol="condensation"),
        Recipe("train", epochs=9, lr=0.1, protocol="idc"),
        Recipe("train", steps=6, lr=0.01, protocol="constant", optimizer="adam"),
        Recipe("train", epochs=4, lr=0.1, temperature=4.0),
        Recipe("regress", steps=9, lr=0.01, warmup=3, label_scale=2.0),
        Recipe("regress", steps=5, lr=0.01, centre=True),
        Recipe("ridge", penalty=1e-2),
    ],
    ids=lambda recipe: "-".join(str(value) for value in recipes.as_dict(recipe).values() if value != ""),
)
def test_the_same_start_gives_the_same_scores(tmp_path, recipe):
    distilled, phi = saved(tmp_path, recipe)
    network, params, module = twins()
    images = some_pixels()
    inputs = jnp.asarray(distilled.encoding.encode(images))

    @jax.jit
    def scores(params: Any) -> jax.Array:
        found = recipe.fit(network, params, distilled.schedule, jax.random.key(2))
        return found.predict(inputs)

    predict = phi.fit(module, features=module[:-1])
    with torch.no_grad():
        found = predict(phi.encode(images)).numpy()
    np.testing.assert_allclose(found, scores(params), rtol=1e-5, atol=1e-5)
    if recipe.kind != "ridge":
        assert not np.allclose(found, network.apply(params, inputs), atol=1e-2), "the network has not trained"


def as_torch(draw: Any) -> Any:
    """A draw of ddjax as parameters of the file's operations."""
    if isinstance(draw, augment.Choice):
        return torch.tensor(np.atleast_1d(draw.which)), as_torch(draw.params)
    if isinstance(draw, tuple):
        return tuple(map(as_torch, draw))
    return torch.tensor(np.array(draw))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(8, 8), (12, 9)], ids=str)
@pytest.mark.parametrize(
    "name",
    [
        *augment.OPERATIONS,
        *augment.STRATEGIES,
        *augment.FORMER,
        "color+crop+cutout+flip+scale+rotate",
        "color+(crop_scale_rotate)+cutout",
    ],
)
def test_augmentations_are_the_same_under_the_same_draw(name, size):
    own = augment.by_name(name, (*size, 3))
    images = np.random.default_rng(0).normal(size=(12, *size, 3)).astype(np.float32)
    draw = own.sample(jax.random.key(4), len(images))
    wanted = jax.jit(own.apply)(draw, images)
    found = distilled_torch.augmentation_by_name(name, size).apply(
        as_torch(draw), torch.tensor(np.moveaxis(images, -1, 1))
    )
    np.testing.assert_allclose(np.moveaxis(found.numpy(), 1, -1), wanted, atol=2e-5)


def test_mixtures_have_the_same_shares_and_labels():
    """A class a image, images of their class's number: what an image shows is what its label says."""
    generator = torch.Generator().manual_seed(0)
    images = torch.arange(4.0)[:, None, None, None].expand(4, 1, 10, 8)
    shares = []
    for _ in range(200):
        mixed, labels = distilled_torch.cutmix(generator, images, torch.eye(4))
        shown = torch.stack([(mixed == k).float().mean((1, 2, 3)) for k in range(4)], -1)
        np.testing.assert_allclose(shown, labels, atol=1e-6)
        shares.append(float(1 - labels.max(-1).values.min()))
    assert 0.35 < np.mean(np.array(shares) == 0) < 0.75
    assert max(shares) > 0.3


@pytest.mark.parametrize(
    "name", ["dc", "pad_crop_flip", "crop_zoom_rotate", "color_crop_flip", "scale+rotate"]
)
def test_draws_have_the_same_ranges(name):
    """The extremes of many draws, here and in ddjax."""
    own = jax.tree.leaves(as_numpy(augment.by_name(name, (8, 8, 1)).sample(jax.random.key(0), 4000)))
    other = jax.tree.leaves(
        as_numpy(
            distilled_torch.augmentation_by_name(name, (8, 8)).sample(torch.Generator().manual_seed(0), 4000)
        )
    )
    assert len(own) == len(other)
    for one, two in zip(map(as_float, own), map(as_float, other), strict=True):
        if one.size == 1:
            continue
        spread = max(np.ptp(one), 1e-6)
        assert abs(one.min() - two.min()) <= 0.02 * spread
        assert abs(one.max() - two.max()) <= 0.02 * spread


def as_float(array: np.ndarray) -> np.ndarray:
    return array.astype(float)


def as_numpy(draw: Any) -> Any:
    return jax.tree.map(np.asarray, draw)


def test_pixels_are_encoded_decoded_and_normalised_anew(tmp_path):
    distilled, phi = saved(tmp_path, Recipe("train"))
    images = some_pixels()
    encoded = np.asarray(distilled.encoding.encode(images))
    np.testing.assert_allclose(phi.encode(images).permute(0, 2, 3, 1), encoded, atol=1e-6)
    np.testing.assert_array_equal(phi.encode(images[..., 0]), phi.encode(torch.tensor(images)))
    other = phi.normalised([0.5], [0.25])
    np.testing.assert_allclose(other.pixels(), phi.pixels(), atol=1e-6)
    np.testing.assert_allclose(
        other.encode(images), (images.transpose(0, 3, 1, 2) / 255 - 0.5) / 0.25, atol=1e-5
    )
    assert (phi.class_names, phi.recipe["kind"]) == (["a", "b", "c"], "train")
    for message, call in (
        ("expected uint8", lambda: phi.encode(images.astype(float))),
        ("expected uint8", lambda: phi.encode(images.transpose(0, 3, 1, 2))),
        ("std above 0", lambda: phi.normalised([0.5], [0.0])),
        (r"expected 1 number\(s\)", lambda: phi.normalised([0.5] * 3, [1.0] * 3)),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_whitened_images_are_read(tmp_path):
    matrix = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32) + 4 * np.eye(
        64, dtype=np.float32
    )
    encoding = Whitened(jnp.full(64, 0.25), jnp.asarray(matrix), jnp.asarray(np.linalg.inv(matrix)))
    distilled, _ = saved(tmp_path, Recipe("train"))
    distilled = dataclasses.replace(distilled, encoding=encoding)
    phi = distilled_torch.load(artifact.save(tmp_path / "whitened.npz", distilled))
    images = some_pixels()
    np.testing.assert_allclose(
        phi.encode(images).permute(0, 2, 3, 1), encoding.encode(jnp.asarray(images)), atol=1e-4
    )
    np.testing.assert_allclose(
        phi.pixels().permute(0, 1, 3, 4, 2), encoding.decode(distilled.schedule.inputs), atol=1e-3
    )


def test_a_score_that_is_not_finite_is_wrong(tmp_path):
    _, phi = saved(tmp_path, Recipe("train"))
    images = some_pixels(4)

    def predict(inputs: Any) -> Any:
        scores = torch.tensor([[1.0, 0, 0]]).repeat(len(inputs), 1)
        scores[0, 1] = torch.nan
        return scores

    assert phi.accuracy(predict, images, np.zeros(4, int)) == 0.75
    assert phi.accuracy(predict, images, np.zeros(4, int), batch_size=1) == 0


@pytest.mark.slow
def test_batch_norms_keep_the_statistics_of_the_distilled_images(tmp_path):
    _, phi = saved(tmp_path, Recipe("train", epochs=1))
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Flatten(), torch.nn.Linear(64, 3))
    phi.fit(network)
    values = phi.images.flatten(0, 1)
    assert float(network[0].running_mean) == pytest.approx(float(values.mean()), abs=1e-6)
    assert network[0].momentum == 0.1
    assert not network.training


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"kind": "ridge"}, "features: expected"),
        ({"kind": "dream"}, "expected one of schedule, train, regress, ridge"),
        (
            {"kind": "train", "epochs": 1, "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "batch_size": 2}
            | {"mix": "mixup"},
            "mix: expected one of cutmix; got 'mixup'",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path, recipe, message):
    _, phi = saved(tmp_path, Recipe("train"))
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(phi, recipe=recipe).fit(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="frepo, frepo_flip, or names out of color"):
        distilled_torch.augmentation_by_name("color_blur", (8, 8))


def test_texts_are_left_to_ddjax(tmp_path):
    np.savez(tmp_path / "text.npz", inputs=np.zeros((1, 2, 4, 5)), labels=np.eye(2)[None], metadata="{}")
    with pytest.raises(ValueError, match="Load it with ddjax"):
        distilled_torch.load(tmp_path / "text.npz")
