"""The benchmark: its arithmetic against XLA's, and a small item through the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from launchers import QUICK_TO_COMPILE

from ddjax import arithmetic, parallel
from ddjax.data import from_arrays, to_device
from ddjax.plan import Plan, Site, flops_of_step
from ddjax.run import DivergedError
from scripts import bench

ROOT = Path(__file__).resolve().parents[1]


def flops(function, *shapes):
    return arithmetic.flops(jax.make_jaxpr(function)(*map(jnp.ones, shapes)).jaxpr)


def xla_flops(function, *shapes):
    costs = jax.jit(function).lower(*map(jnp.ones, shapes)).compile().cost_analysis()
    assert costs is not None
    return costs["flops"]


def command(*flags, **variables):
    """The real command, with the one device that a CPU has by itself."""
    return subprocess.run(
        [sys.executable, "scripts/bench.py", *flags],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": QUICK_TO_COMPILE, **variables},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


# Arithmetic.


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [("ij,jk->ik", [(5, 7), (7, 11)]), ("bij,bjk->bik", [(3, 5, 7), (3, 7, 11)])],
)
def test_products_count_as_xla_counts_them(equation, shapes):
    def function(a, b):
        return jnp.einsum(equation, a, b)

    assert flops(function, *shapes) == xla_flops(function, *shapes)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"padding": ((2, 2), (0, 3))},
        {"window_strides": (2, 3), "padding": ((1, 2), (1, 0))},
        {"lhs_dilation": (2, 1), "padding": ((1, 1), (2, 2))},
        {"rhs_dilation": (1, 2)},
        {"feature_group_count": 2, "kernel": (3, 3, 2, 8)},
        {"batch_group_count": 2},
    ],
)
def test_convolutions_count_as_xla_counts_them(settings):
    """Strides, groups, and no zeros of padding or dilation."""
    shapes = (4, 9, 10, 4), settings.pop("kernel", (3, 3, 4, 8))
    settings = {"window_strides": (1, 1), "padding": "VALID", **settings}

    def function(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **settings)

    assert flops(function, *shapes) == xla_flops(function, *shapes)


def test_derivatives_of_a_convolution_cost_as_much_as_itself():
    """The gradients of image and kernel are convolutions with dilation or negative padding."""
    shapes = (4, 9, 9, 3), (3, 3, 3, 8)

    def convolve(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=numbers)

    def gradients(x, kernel):
        return jax.grad(lambda x, kernel: (convolve(x, kernel) ** 2).sum(), (0, 1))(x, kernel)

    assert flops(gradients, *shapes) == 3 * flops(convolve, *shapes)


def test_loops_branches_and_devices():
    square, product = (8, 8), 2 * 8**3
    mesh = parallel.make_mesh(jax.devices()[:2])

    def scanned(a):
        return jax.lax.scan(lambda x, _: (x @ a, None), a, length=7)[0]

    def branched(a):
        return jax.lax.cond(a[0, 0] > 0, lambda: a @ a @ a, lambda: a @ a)

    def looped(a):
        return jax.lax.while_loop(lambda x: x[0, 0] < 1, lambda x: x @ a, a)

    split = jax.shard_map(
        lambda a: a @ a.T, mesh=mesh, in_specs=parallel.P(parallel.AXIS), out_specs=parallel.P(parallel.AXIS)
    )
    remembered = jax.grad(lambda a: jax.checkpoint(lambda a: jnp.sin(a @ a) @ a)(a).sum())
    assert flops(scanned, square) == 7 * product
    assert flops(jax.jit(jax.grad(lambda a: scanned(a).sum())), square) == 3 * 7 * product
    assert flops(branched, square) == 2 * product
    assert flops(looped, square) == product
    assert flops(split, (16, 8)) == 2 * product
    # Two products forward, two derivatives of each, and the first product again.
    assert flops(remembered, square) in {6 * product, 7 * product}


@pytest.fixture(scope="module")
def mnist_sizes():
    """A device with images of MNIST's shape."""
    images, labels = np.zeros((40, 28, 28, 1), np.uint8), np.arange(40) % 10
    mesh = parallel.make_mesh(jax.devices()[:1])
    data = to_device(from_arrays(images, labels, images, labels).train)
    return Site(mesh, data, *jax.random.split(jax.random.key(0)))


@pytest.mark.slow
def test_arithmetic_of_w1(mnist_sizes):
    """What was worked out by hand for the original: 4.4 to 5 GFLOP with the padding."""
    problem = bench.problem_of(bench.ITEMS["W1"], Plan(conv_form="lax"))
    assert 4e9 < flops_of_step(problem, mnist_sizes) < 6e9


@pytest.mark.slow
@pytest.mark.parametrize(("name", "low", "high"), [("W5", 660e9, 760e9), ("W6", 215e9, 260e9)])
def test_arithmetic_of_matching(mnist_sizes, name, low, high):
    """Of the originals 737 and 248 GFLOP, of which a tenth are products with the zeros of the padding."""
    problem = bench.problem_of(bench.ITEMS[name], Plan(conv_form="lax", memory=None))
    assert low < flops_of_step(problem, mnist_sizes) < high


# Steps.


def test_a_step_that_is_not_finite_fails_the_item(mnist_sizes):
    def dispatch(state, data, key, stop):
        return state, None, jnp.array(False)

    state = bench.engine.EngineState(jnp.array(4), {}, {}, ())
    with pytest.raises(DivergedError, match="outer step 5 is not finite"):
        bench.time_steps(dispatch, mnist_sizes, state, seconds=0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the high-water mark cannot be reset")
def test_peak_memory_is_above_what_was_held():
    size = 300 * 2**20
    np.ones(2 * size, np.uint8)  # before: not counted
    memory = bench.PeakMemory(parallel.make_mesh(jax.devices()[:1]))
    assert memory.read()["peak_rss_bytes"] < size / 10
    np.ones(size, np.uint8)
    found = memory.read()
    assert found["peak_rss_bytes"] == pytest.approx(size, rel=0.1)
    assert found["peak_device_bytes"] is None


# The command.


@pytest.mark.slow
def test_a_small_item(tmp_path):
    """W3 without MNIST: the record, and its comparison with itself."""
    path = tmp_path / "record.json"
    done = command("--items=W3", "--seconds=0.5", f"--data_dir={tmp_path}", f"--json={path}")
    assert done.returncode == 0, done.stderr
    record = json.loads(path.read_text())
    assert record["hardware"]["device_count"] == 1
    assert record["command"][1] == "--items=W3"
    assert record["versions"]["jax"] == jax.__version__
    (item,) = record["items"].values()
    assert item["data"] == "random"
    assert item["choices"] == {
        "conv_form": "auto",
        "memory": "recompute",
        "slots_per_chunk": 1,
        "precision": "auto",
    }
    startup, ms = item["startup_seconds"], item["ms_per_step"]
    assert startup["total"] == pytest.approx(startup["imports"] + startup["data"] + startup["rest"])
    assert min(startup.values()) > 0
    assert 0 < ms["min"] <= ms["q1"] <= ms["median"] <= ms["q3"]
    assert ms["n"] >= 3
    assert item["compile_seconds"] > 0
    assert item["temporary_bytes"] > 2**20
    assert item["peak_rss_bytes"] > item["temporary_bytes"] / 2
    assert item["flops"] > item["arithmetic_flops"] > 1e9  # bands do surplus products
    assert item["flops_per_second"] == pytest.approx(1000 * item["arithmetic_flops"] / ms["median"])
    assert 0 < item["part_of_peak"] < 1
    header, _, row, *rest = done.stdout.splitlines()
    assert header.split()[:2] == ["item", "ms"]
    assert row.startswith("W3 ")
    assert "W3: random data" in rest

    same = command(f"--compare={path},{path}")
    assert same.returncode == 0, same.stderr
    title, header, _, row = same.stdout.splitlines()
    assert title == "new / old"
    ratios = row.split()[1:]
    # All figures but the device's memory, which a CPU does not count, and factors where none are packed.
    assert len(ratios) == 12 + bool(item["packed_bytes"])
    assert set(ratios) == {"1.00"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the high-water mark cannot be reset")
def test_a_call_takes_the_memory_that_the_compiler_says(tmp_path):
    """W3, whose buffers are the smallest, so that all that is not theirs counts the most.

    On one core: with more threads products allocate buffers that the compiler does not count.
    """
    path = tmp_path / "record.json"
    done = command("--items=W3", "--untimed", "--threads=1", f"--data_dir={tmp_path}", f"--json={path}")
    assert done.returncode == 0, done.stderr
    (item,) = json.loads(path.read_text())["items"].values()
    assert item["call_bytes"] == pytest.approx(item["temporary_bytes"], rel=0.1)
    assert "ms_per_step" not in item


def test_steps_are_timed_one_item_at_a_time(tmp_path):
    held = []

    def hold(name):
        with bench.taking(str(tmp_path / "turn")):
            held.append(name)
            time.sleep(0.02)
            held.append(name)

    with ThreadPoolExecutor() as pool:
        list(pool.map(hold, range(4)))
    assert len(held) == 8
    assert held[::2] == held[1::2]


@pytest.mark.slow
def test_devices_of_a_cpu(tmp_path):
    """D2, compiled only."""
    done = command("--items=D2", "--phase=compile", f"--data_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["devices"] == 2
    assert 4 * 4e9 < record["arithmetic_flops"] < 4 * 6e9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--items=W1,W9", f"items: expected one of {', '.join(sorted(bench.ITEMS))}; got 'W9'"),
        ("--compare=nowhere.json", "compare: expected a record that --json wrote; got nowhere.json"),
        ("--json=nowhere/new.json", "json: expected a directory that exists"),
    ],
)
def test_bad_flags(flag, message):
    done = command(flag)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"conv_form": "fft"}, "conv_form: expected one of"),
        ({"memory": "mixd"}, "Did you mean 'mixed'"),
        ({"slots_per_chunk": "1,0"}, "slots_per_chunk: expected a whole number >= 1; got 0"),
        ({"slots_per_chunk": "all"}, "slots_per_chunk: expected a whole number >= 1; got 'all'"),
        ({"precision": "exact"}, "precision: expected auto, highest, .* got 'exact'"),
    ],
)
def test_unknown_choices_are_refused(choice, message):
    with pytest.raises(ValueError, match=message):
        bench.cases(bench.Config(**choice))


def test_lists_are_swept_and_suites_hold_no_case_twice():
    config = bench.Config(items="W1,M4", memory="auto,mixed", slots_per_chunk="1,4")
    assert [case.name for case in bench.cases(config)] == [
        f"{item} {choices}"
        for item in ("W1", "M4")
        for choices in (
            "slots_per_chunk=1",
            "slots_per_chunk=4",
            "memory=mixed slots_per_chunk=1",
            "memory=mixed slots_per_chunk=4",
        )
    ]
    for suite, found in bench.SUITES.items():
        assert bench.cases(bench.Config(suite=suite)) == found
        assert len({case.name for case in found}) == len(found)


@pytest.mark.slow
def test_what_takes_too_long_is_skipped_and_says_so(tmp_path):
    record = bench.in_child(str(tmp_path), limit=0.1, phase="compile", items="W1")
    assert record == {"skipped": "the compile phase took longer than 0.1 s"}
