"""Targets: their names and descriptions; outer steps compiled for this machine as for another one."""

from __future__ import annotations

import dataclasses
import json

import jax
import pytest
from problems import small_form

import ddjax
from ddjax import inits, methods, networks, parallel, platforms, targets
from ddjax.data import to_device
from ddjax.engine import Problem
from ddjax.targets import Abroad, Bound, Target


@pytest.mark.parametrize(
    ("name", "platform", "topology", "devices"),
    [
        ("cpu", "cpu", "", 1),
        ("h100", "gpu", "1x1x1", 1),
        ("h100x8", "gpu", "1x1x8", 8),
        ("a100x64", "gpu", "1x8x8", 64),
        ("v5e:2x4", "tpu", "v5e:2x4", 8),
        ("v5e:16x16", "tpu", "v5e:16x16", 256),
        ("v5p:4x4x4", "tpu", "v5p:4x4x4", 64),
        ("v6e:2x2", "tpu", "v6e:2x2", 4),
    ],
)
def test_names(name, platform, topology, devices):
    target = targets.by_name(name)
    assert (target.name, target.platform, target.topology) == (name, platform, topology)
    assert target.num_devices == devices


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("h200", "expected one such as cpu, h100, .*; got 'h200'"),
        ("h100x12", "expected at most 8 GPUs, or a multiple of 8"),
        ("h100x0", "expected at most 8 GPUs"),
        ("v4:2x2x1", "expected TPUs of v5e, v5p, v6e, with a topology such as v4:2x4"),
        ("v5e:0x4", "expected TPUs of"),
        ("nowhere.json", "there is no nowhere.json"),
    ],
)
def test_other_names_are_refused(name, message):
    with pytest.raises(ValueError, match=f"^target: .*{message}"):
        targets.by_name(name)


def test_a_description_of_one_s_own(tmp_path):
    path = tmp_path / "mine.json"
    mine = dataclasses.replace(targets.by_name("h100x8"), name="mine", memory_bytes=10)
    path.write_text(json.dumps(dataclasses.asdict(mine)))
    assert targets.by_name(str(path)) == mine
    assert targets.limit(mine) == 10
    path.write_text('{"name": "mine", "platform": "npu"}')
    with pytest.raises(
        ValueError, match=r"mine.json: expected JSON with name, platform.*got another \(platform: "
    ):
        targets.by_name(str(path))


def test_what_is_missing_is_said_with_the_command(monkeypatch):
    monkeypatch.setattr(targets.importlib.util, "find_spec", lambda name: None)
    assert targets.missing(targets.by_name("cpu")) is None
    for name, extra, environment in (("h100", "gpu", "cuda"), ("v5e:2x4", "tpu", "tpu")):
        target = targets.by_name(name)
        with pytest.raises(ValueError, match=rf"ddjax\[targets-{extra}\].*targets_env.sh {environment}$"):
            targets.mesh(target)


def test_the_bound_is_the_slowest_of_three():
    assert Bound(products=1.0, memory=3.0, links=2.0).seconds == 3.0


def problem(data, *, num_inits: int = 4, slots_per_chunk: int = 1) -> Problem:
    """The unrolled method with a tiny MLP."""
    network = networks.mlp(data.image_shape, data.num_classes, widths=(8,))
    method = methods.unrolled(network, inits.random(network), batch_size=16)
    adam = ddjax.optimizers.adam_cosine(10, lr=0.1)
    return Problem(method, small_form(inner_lr=0.1), adam, num_inits, None, slots_per_chunk)


@pytest.mark.slow
def test_outer_steps_on_devices_of_this_machine(few_digits):
    """Numbers from shapes alone equal those of a run, and the report counts what is computed and sent."""
    target = Target("two", "cpu", num_devices=2, peak_flops={"default": 1e9}, link_bandwidth=1e6)
    site = Abroad.at(target, to_device(few_digits.train), num_inits=4)
    report = targets.report(target, site, problem(few_digits))
    assert (report.num_devices, report.target) == (2, target)
    (sent,) = report.program.collectives()
    weights = jax.tree.leaves(small_form(inner_lr=0.1).init(jax.random.key(0)))
    assert sent.num_bytes >= sum(leaf.nbytes for leaf in weights)
    assert report.sent_bytes == sent.num_bytes  # two devices send each other what they have
    bound = report.bound()
    assert bound == Bound(report.arithmetic / 1e9, 0.0, report.sent_bytes / 1e6)
    assert report.cost.temporary_bytes > 0
    assert report.cost.resident_bytes > to_device(few_digits.train).raw.nbytes
    # Two of the four slots on each device: 2 slots × 4 steps and one test, each a few products.
    assert 1e5 < report.arithmetic < 1e7


def test_the_devices_of_one_machine_are_taken_as_they_divide_the_slots(few_digits):
    real = to_device(few_digits.train)
    four = Target("four", "cpu", num_devices=4)
    assert Abroad.at(four, real, num_inits=6).mesh.size == 2
    site = Abroad.at(four, real, num_inits=8)
    assert site.mesh.size == 4
    assert platforms.of(site.mesh.devices.flat[0]) == "cpu"
    start = site.start(problem(few_digits, num_inits=8))
    assert start.params.images.sharding == parallel.replicated(site.mesh)
