"""Tests of `ddjax.platforms`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from ddjax import networks, parallel, platforms


def mesh_of(kind: str, platform: str) -> AbstractMesh:
    """A mesh of devices that this machine does not have."""
    device = AbstractDevice(device_kind=kind, num_cores=None, platform=platform)
    return AbstractMesh((2,), (parallel.AXIS,), axis_types=(AxisType.Auto,), abstract_device=device)


def test_outside_a_mesh_the_default_backend_counts():
    assert platforms.current() == jax.default_backend()


@pytest.mark.parametrize(
    ("kind", "platform", "name"),
    [("TPU v5 lite", "tpu", "tpu"), ("NVIDIA H100 80GB HBM3", "cuda", "gpu"), ("cpu", "cpu", "cpu")],
)
def test_inside_a_mesh_its_devices_count(kind, platform, name):
    found = []

    def traced(x: jax.Array) -> jax.Array:
        def inner(carry: jax.Array, _: Any) -> tuple[jax.Array, None]:
            found.append(platforms.current())
            return carry, None

        return jax.lax.scan(inner, x, None, length=2)[0]

    mapped = jax.shard_map(traced, mesh=mesh_of(kind, platform), in_specs=P(), out_specs=P())
    jax.eval_shape(mapped, jax.ShapeDtypeStruct((3,), jnp.float32))
    assert found
    assert set(found) == {name}


@pytest.mark.parametrize(("platform", "convolves"), [("cuda", True), ("cpu", False)])
def test_a_network_is_traced_for_the_devices_of_the_mesh(platform, convolves):
    """The vendor's convolution on a GPU, matrix products on a CPU: on the same machine."""
    network = networks.lenet((28, 28, 1), 10)
    params = jax.eval_shape(network.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)
    apply = jax.shard_map(
        network.apply, mesh=mesh_of(platform, platform), in_specs=(P(), P()), out_specs=P(), check_vma=False
    )
    text = str(jax.make_jaxpr(apply)(params, images))
    assert ("conv_general_dilated" in text) == convolves


def test_a_gpu_is_a_gpu_whoever_made_it():
    names = [platforms.of(SimpleNamespace(platform=one)) for one in ("cuda", "rocm", "tpu")]
    assert names == ["gpu", "gpu", "tpu"]


@pytest.mark.parametrize(
    ("plugins", "advice"), [((), "pip install 'ddjax[cuda12]'"), (("xla_cuda13",), "says why")]
)
def test_a_gpu_that_lies_idle_is_named(tmp_path, monkeypatch, plugins, advice):
    (tmp_path / "nvidia0").touch()
    found = [SimpleNamespace(name=name) for name in plugins]
    monkeypatch.setattr(platforms, "NVIDIA_DEVICES", str(tmp_path / "nvidia[0-9]*"))
    monkeypatch.setattr(platforms.importlib.metadata, "entry_points", lambda group: found)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert advice in (platforms.overlooked() or "")


def test_a_cpu_that_was_asked_for_needs_no_warning(tmp_path, monkeypatch):
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(platforms, "NVIDIA_DEVICES", str(tmp_path / "nvidia[0-9]*"))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert platforms.overlooked() is None
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(platforms, "NVIDIA_DEVICES", str(tmp_path / "other" / "nvidia[0-9]*"))
    assert platforms.overlooked() is None
