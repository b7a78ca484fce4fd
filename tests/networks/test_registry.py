"""The built-in networks: parameter counts, reference logits, what does not fit, the registry."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import networks
from ddjax.testing.report import double

NO_CHANNELS: Any = (28, 28)
SMALL = {
    "lenet": ((12, 16, 1), {"conv_form": "lax"}),
    "alexcifar": ((8, 9, 3), {"conv_form": "lax"}),
    "alexnet": ((63, 64, 3), {"width": 1, "conv_form": "lax"}),
    "convnet": ((8, 8, 1), {"depth": 2, "width": 8}),
    "mlp": ((8, 8, 1), {"widths": (16, 12)}),
    "alexnet32": ((8, 9, 1), {"norm": "layer", "conv_form": "lax"}),
    "resnet18": ((9, 10, 1), {"width": 4, "conv_form": "lax"}),
    "vgg11": ((28, 33, 1), {"width": 4, "norm": "group", "conv_form": "lax"}),
}


def _shapes(network):
    return jax.eval_shape(network.init, jax.random.key(0))


def _count(network):
    return sum(leaf.size for leaf in jax.tree.leaves(_shapes(network)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "image_shape", "count"),
    [
        (networks.lenet, (28, 28, 1), 61_706),
        (networks.lenet, (32, 32, 1), 61_706),
        (networks.alexcifar, (32, 32, 3), 1_756_426),
        (networks.convnet, (28, 28, 1), 317_706),
        (networks.convnet, (32, 32, 3), 320_010),
        (networks.mlp, (8, 8, 1), 26_122),
        (networks.mlp, (28, 28, 1), 118_282),
        (networks.alexnet32, (28, 28, 1), 1_865_802),
        (networks.alexnet32, (32, 32, 3), 1_872_202),
        (networks.vgg11, (28, 28, 1), 9_229_962),
        (networks.vgg11, (32, 32, 3), 9_231_114),
        (networks.resnet18, (28, 28, 1), 11_172_810),
        (networks.resnet18, (32, 32, 3), 11_173_962),
        (functools.partial(networks.resnet18, downsampling="pool"), (28, 28, 1), 11_213_770),
        (functools.partial(networks.resnet18, downsampling="pool"), (32, 32, 3), 11_250_762),
    ],
)
def test_parameter_counts_are_the_references(build, image_shape, count):
    # The form of a convolution has no weights; lax's is traced in the least time.
    form = {} if build is networks.mlp else {"conv_form": "lax"}
    assert _count(build(image_shape, 10, **form)) == count


@pytest.mark.slow
def test_convnet_gives_the_reference_logits(x64, reference):
    with np.load(reference / "dc_convnet28.npz") as file:
        values = {key: jnp.asarray(file[key], float) for key in file.files}
    params = {
        "classifier": {
            "kernel": values["param/classifier.weight"],
            "bias": values["param/classifier.bias"],
        }
    }
    for i, at in enumerate((0, 4, 8), start=1):
        for name, index, weight in (("conv", at, "kernel"), ("norm", at + 1, "scale")):
            params[f"{name}{i}"] = {
                weight: values[f"param/features.{index}.weight"],
                "bias": values[f"param/features.{index}.bias"],
            }
    network = networks.convnet((28, 28, 1), 10, width=16)
    logits = jax.jit(network.apply)(params, values["real_images"])
    np.testing.assert_allclose(logits, values["logits_real"], rtol=1e-8, atol=1e-10)


@functools.cache
def _small(name):
    shape, settings = SMALL[name]
    return networks.by_name(name, shape, 3, **settings)


def _weights(network):
    """Weights by NumPy, so that no draw is compiled: every one of them is seen, biases too."""
    rng = np.random.default_rng(0)

    def draw(leaf):
        fan = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 4
        return (rng.normal(size=leaf.shape) / np.sqrt(fan)).astype(np.float32)

    return jax.tree.map(draw, _shapes(network))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_embed_is_what_the_last_dense_layer_sees(name):
    network = _small(name)
    assert (network.name, network.image_shape, network.num_classes) == (name, SMALL[name][0], 3)
    embed = network.embed
    assert embed is not None

    @jax.jit
    def run(params, x):
        return network.apply(params, x), embed(params, x)

    params, x = _weights(network), np.random.default_rng(1).normal(size=(2, *network.image_shape))
    logits, features = run(params, x.astype(np.float32))
    last = params.get("fc3", params.get("classifier"))
    assert np.std(logits) > 0.01
    np.testing.assert_allclose(
        logits, np.asarray(features) @ last["kernel"] + last["bias"], rtol=1e-5, atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_networks_follow_the_dtype_of_weights_and_images(name):
    network = _small(name)
    assert {leaf.dtype for leaf in jax.tree.leaves(_shapes(network))} == {jnp.dtype("float32")}
    with double():
        params = _shapes(network)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float64")}
        x = jax.ShapeDtypeStruct((2, *network.image_shape), jnp.dtype("float64"))
        jaxpr = str(jax.make_jaxpr(network.apply)(params, x))
    assert "f64[" in jaxpr
    assert "f32[" not in jaxpr


@pytest.mark.parametrize("norm", ["instance", "layer", "group", "batch", "none"])
@pytest.mark.parametrize("pooling", ["avg", "max", "none"])
@pytest.mark.parametrize("activation", ["relu", "swish"])
def test_convnet_takes_every_combination(norm, pooling, activation):
    network = networks.convnet(
        (4, 4, 3), 4, depth=1, width=4, norm=norm, pooling=pooling, activation=activation
    )
    has_norm = "norm1" in _shapes(network)
    assert has_norm == (norm != "none")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: networks.lenet((30, 30, 1), 10),
            "lenet: expected .* multiples of 4, at least 12.*got 30x30",
        ),
        (lambda: networks.lenet((8, 8, 1), 10), "got 8x8. Resize the images, or take convnet or mlp"),
        (lambda: networks.alexcifar((4, 4, 3), 10), "alexcifar: expected images of at least 8x8; got 4x4"),
        (lambda: networks.convnet((8, 8, 1), 10, depth=4), "at least 16x16 for depth 4; got 8x8.*depth=3"),
        (
            lambda: networks.convnet((8, 8, 1), 10, norm="weight"),
            "norm: expected one of batch, group, instance",
        ),
        (lambda: networks.vgg11((30, 28, 1), 10), "vgg11: expected images of 28x28, or .* 32x32; got 30x28"),
        (lambda: networks.alexnet32((7, 8, 1), 10), "alexnet32: expected images of at least 8x8; got 7x8"),
        (lambda: networks.resnet18((8, 8, 1), 10), "at least 9x9 for norm='instance'.*got 8x8.*norm='group'"),
        (
            lambda: networks.resnet18((8, 8, 1), 10, norm="group", downsampling="pool"),
            "at least 16x16 .*downsampling='pool'",
        ),
        (
            lambda: networks.resnet18((32, 32, 1), 10, downsampling="pooling"),
            "downsampling: expected one of pool, stride",
        ),
        (lambda: networks.convnet((8, 8, 1), 10, norm="group", width=6), "multiple of 4"),
        (lambda: networks.convnet((8, 8, 1), 10, depth=0), "depth: expected a whole number >= 1"),
        (
            lambda: networks.by_name("convnet", NO_CHANNELS, 10),
            r"image_shape: expected \(height, width, channels\)",
        ),
        (lambda: networks.lenet((28, 28, 1), 0), "num_classes: expected a whole number >= 1"),
        (lambda: networks.mlp((8, 8, 1), 10, widths=(0,)), "widths: expected a whole number >= 1"),
        (lambda: networks.by_name("lenett", (28, 28, 1), 10), "Did you mean 'lenet'"),
        (lambda: networks.by_name("convnet", (8, 8, 1), 10, dept=2), "settings of convnet.*'depth'"),
        (lambda: networks.by_name("lenet", (28, 28, 1), 10, conv_form="im2coll"), "Did you mean 'im2col'"),
    ],
)
def test_what_does_not_fit_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("image_shape", "name"),
    [
        ((8, 8, 1), "convnet"),
        ((28, 28, 1), "lenet"),
        ((16, 16, 1), "lenet"),
        ((32, 32, 3), "lenet"),
        ((36, 36, 3), "convnet"),
        ((64, 64, 3), "convnet"),
        ((28, 28, 4), "convnet"),
        ((30, 30, 1), "convnet"),
        ((1, 20, 1), "mlp"),
    ],
)
def test_every_image_shape_has_a_default_network_that_fits(image_shape, name):
    assert networks.default_network(image_shape, 5).name == name
    assert networks.default_for(image_shape)[0] == name


def test_a_convnet_grows_and_normalises_before_its_convolutions():
    """The network of FRePo: 8, 16 and 32 channels, norms of what the second and third convolution take."""
    shapes = _shapes(
        networks.convnet((28, 28, 1), 10, width=8, growth=2, norm="batch", norm_place="before", first_pad=1)
    )
    assert [shapes[f"conv{i}"]["kernel"].shape for i in (1, 2, 3)] == [
        (3, 3, 1, 8),
        (3, 3, 8, 16),
        (3, 3, 16, 32),
    ]
    assert "norm1" not in shapes
    assert [shapes[f"norm{i}"]["scale"].shape for i in (2, 3)] == [(8,), (16,)]
    assert shapes["classifier"]["kernel"].shape == (3 * 3 * 32, 10)  # 4 * 4 * 32 with the usual padding


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"growth": 0}, "growth: expected"),
        ({"norm_place": "inside"}, "norm_place: expected one of after, before"),
        ({"first_pad": "wide"}, "first_pad: expected a whole number or 'auto'"),
        ({"first_pad": 0}, "first_pad: expected"),
    ],
)
def test_the_settings_of_a_growing_convnet_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        networks.convnet((8, 8, 1), 10, depth=1, **settings)


@pytest.mark.parametrize(
    "text",
    ["infinite_mlp:depth=3:w_std=1.5", "infinite_convnet:depth=2:pooling=0", "myrtle:depth=7:which=nngp"],
)
def test_a_kernel_has_a_text(text):
    network = networks.by_text(text, (8, 8, 1), 10)
    assert network.kernel is not None
    assert networks.as_text(network.name, network.settings) == text
