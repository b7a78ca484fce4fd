"""p(θ0): each scheme's moments, what stays and what is zeroed, determinism, the fixed distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import inits, networks

KERNEL = (3, 3, 40, 60)
FAN_IN, FAN_OUT = 9 * 40, 9 * 60
VARIANCES = {
    "xavier_normal": 2 / (FAN_IN + FAN_OUT),
    "xavier_uniform": 2 / (FAN_IN + FAN_OUT),
    "kaiming_normal": 2 / FAN_IN,
    "kaiming_uniform": 2 / FAN_IN,
    "lecun_normal": 1 / FAN_IN,
    "pytorch": 1 / (3 * FAN_IN),
}


def _own(key):
    kernel, dense = jax.random.split(key)
    return {
        "conv": {"kernel": jax.random.normal(kernel, KERNEL), "bias": jnp.full(60, 7.0)},
        "norm": {"scale": jnp.full(60, 3.0), "bias": jnp.full(60, 5.0)},
        "dense": {"kernel": jax.random.normal(dense, (60, 10))},
    }


def _apply(params, x):
    features = jnp.mean(x, (1, 2)) @ params["conv"]["kernel"][0, 0] * params["norm"]["scale"][None]
    return features @ params["dense"]["kernel"]


@pytest.fixture(scope="module")
def network():
    return networks.from_functions(_own, _apply, (4, 4, 40), 10)


@pytest.mark.parametrize("gain", [1.0, 2.5])
@pytest.mark.parametrize("scheme", VARIANCES)
def test_kernels_have_the_moments_of_their_scheme(network, scheme, gain):
    kernel = np.asarray(
        inits.random(network, scheme=scheme, gain=gain).sample(jax.random.key(3))["conv"]["kernel"], float
    )
    deviation = gain * np.sqrt(VARIANCES[scheme])
    # 21,600 draws: the standard errors of mean and deviation are 0.7 % and 0.5 % of the deviation.
    assert abs(kernel.mean()) < 0.03 * deviation
    assert kernel.std() == pytest.approx(deviation, rel=0.02)
    extreme = np.abs(kernel).max() / deviation
    if scheme.endswith("uniform") or scheme == "pytorch":
        assert 1.70 < extreme <= np.sqrt(3) * (1 + 1e-6)
    else:
        assert extreme > 3.0, "a normal distribution that is not truncated reaches beyond three deviations"


def test_orthogonal_kernels_are_orthogonal(network):
    params = inits.random(network, scheme="orthogonal", gain=2.0).sample(jax.random.key(0))
    for kernel in (params["conv"]["kernel"], params["dense"]["kernel"]):
        matrix = kernel.reshape(-1, kernel.shape[-1])
        np.testing.assert_allclose(matrix.T @ matrix, 4 * np.eye(matrix.shape[1]), atol=1e-4)


@pytest.mark.parametrize("scheme", ["xavier_normal", "orthogonal"])
def test_biases_are_zero_and_scales_stay(network, scheme):
    params = inits.random(network, scheme=scheme).sample(jax.random.key(0))
    assert not params["conv"]["bias"].any()
    assert not params["norm"]["bias"].any()
    assert (params["norm"]["scale"] == 3).all()


@pytest.mark.slow
def test_pytorch_s_biases_are_drawn_as_the_kernel_beside_them(network):
    keys = jax.random.split(jax.random.key(0), 200)
    params = jax.vmap(inits.random(network, scheme="pytorch", gain=2.0).sample)(keys)
    biases, bound = np.asarray(params["conv"]["bias"], float), 2 / np.sqrt(FAN_IN)
    # 12,000 draws: the standard error of the deviation is 0.4 %.
    assert biases.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    assert 0.99 * bound < np.abs(biases).max() <= bound * (1 + 1e-6)
    # A norm has no kernel.
    assert not params["norm"]["bias"].any()
    assert (params["norm"]["scale"] == 3).all()


def test_the_networks_own_scheme_changes_nothing(network):
    key = jax.random.key(5)
    jax.tree.map(
        np.testing.assert_array_equal, inits.random(network, scheme="network").sample(key), network.init(key)
    )


@pytest.mark.slow
@pytest.mark.parametrize("scheme", inits.SCHEMES)
def test_samples_follow_their_key_alone_jitted_and_vmapped(scheme):
    distribution = inits.random(networks.mlp((4, 4, 1), 3, widths=(8,)), scheme=scheme)
    keys = jax.random.split(jax.random.key(0), 3)
    looped = [distribution.sample(key) for key in keys]
    vmapped = jax.jit(jax.vmap(distribution.sample))(keys)
    for i, params in enumerate(looped):
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a, b[i], rtol=1e-5, atol=1e-6), params, vmapped
        )
    kernels = vmapped["fc1"]["kernel"]
    assert not jnp.allclose(kernels[0], kernels[1])
    assert not distribution.fixed


def test_equal_shapes_draw_from_keys_of_their_own():
    network = networks.mlp((2, 2, 2), 8, widths=(8, 8))
    params = inits.random(network).sample(jax.random.key(0))
    assert not jnp.allclose(params["fc1"]["kernel"], params["fc2"]["kernel"])


def test_samples_are_float64_when_the_default_is(x64):
    sample = inits.random(networks.lenet((28, 28, 1), 10)).sample
    params = jax.eval_shape(sample, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float64")}


def test_fixed_ignores_its_key(network):
    distribution = inits.fixed(network, jax.random.key(0))
    first, second = distribution.sample(jax.random.key(1)), distribution.sample(jax.random.key(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    other = inits.fixed(network, jax.random.key(1)).sample(jax.random.key(1))
    assert not jnp.allclose(first["conv"]["kernel"], other["conv"]["kernel"])
    assert distribution.fixed
    assert distribution.name == "fixed(xavier_normal)"
    batched = jax.vmap(distribution.sample)(jax.random.split(jax.random.key(3), 4))
    assert batched["dense"]["kernel"].shape == (4, 60, 10)


def test_names_tell_the_gain(network):
    assert inits.random(network, scheme="kaiming_normal", gain=0.5).name == "kaiming_normal(gain=0.5)"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scheme": "xavier_norml"}, "Did you mean 'xavier_normal'"),
        ({"gain": 0.0}, "gain: expected a finite number > 0"),
        ({"gain": float("nan")}, "gain: expected a finite number > 0"),
        ({"scheme": "network", "gain": 2.0}, "gain: expected 1; got 2.0"),
    ],
)
def test_bad_settings_are_refused(network, settings, message):
    with pytest.raises(ValueError, match=message):
        inits.random(network, **settings)
    with pytest.raises(ValueError, match=message):
        inits.fixed(network, jax.random.key(0), **settings)
