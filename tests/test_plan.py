"""Plans: what is worth trying, what compiled programs say of memory and time, what is remembered."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from problems import CLASSES, SHAPE, small_form, three_digits

from ddjax import inits, levers, memory, methods, networks, optimizers, parallel, plan
from ddjax.engine import Cost, Problem, compile_dispatch, init_state
from ddjax.levers import Change
from ddjax.networks.ops import CONV_FORMS
from ddjax.plan import Plan, Site, Trial
from ddjax.unroll import STRATEGIES

KEY = jax.random.key(0)
CHEAP = Cost(1.0, 10, 1)


def build(chosen: Plan, *, network: str = "mlp", num_inits: int = 1, **settings: Any) -> Problem:
    """The unrolled method under a plan, with an MLP or a tiny ConvNet."""
    own = {"widths": (4,)} if network == "mlp" else {"depth": 1, "width": 4}
    net = networks.by_name(network, SHAPE, CLASSES, conv_form=chosen.conv_form, **own)
    method = methods.unrolled(
        net, inits.random(net), batch_size=16, memory=STRATEGIES[str(chosen.memory)], **settings
    )
    form, optimizer = small_form(inner_steps=1), optimizers.adam_cosine(10)
    return Problem(method, form, optimizer, num_inits, slots_per_chunk=chosen.slots_per_chunk)


@pytest.fixture(scope="module")
def site() -> Site:
    return Site.of(three_digits(), KEY, num_inits=1)


# Plans.


@pytest.mark.parametrize(
    ("backend", "unrolls", "expected"),
    [
        ("cpu", True, {"conv_form": "auto", "memory": "recompute", "slots_per_chunk": 1}),
        ("gpu", True, {"conv_form": "auto", "memory": "reverse", "slots_per_chunk": 6}),
        ("tpu", False, {"conv_form": "auto", "slots_per_chunk": 6}),
    ],
)
def test_the_default_of_a_backend(backend, unrolls, expected):
    chosen = plan.default_plan(backend, num_inits=6, unrolls=unrolls)
    assert chosen.as_dict() == expected
    assert Plan.from_dict(expected | {"something": "else"}) == chosen


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"conv_form": "bandet", "slots_per_chunk": 1}, "Did you mean 'banded'"),
        ({"conv_form": "auto", "memory": "revers", "slots_per_chunk": 1}, "Did you mean 'reverse'"),
        ({"conv_form": "auto", "slots_per_chunk": 0}, "slots_per_chunk: expected a whole number >= 1"),
        ({"conv_form": "auto"}, "plan: expected slots_per_chunk"),
    ],
)
def test_a_plan_that_there_is_not_is_refused(record, message):
    with pytest.raises(ValueError, match=message):
        Plan.from_dict(record)


def test_what_is_worth_trying():
    usual = Plan()

    def values(name: str, base: Plan = usual, **settings: Any) -> list[Any]:
        everything: dict[str, Any] = {"backend": "cpu", "num_slots": 12}
        return [getattr(one, name) for one in plan.candidates(base, {name}, **(everything | settings))]

    assert values("conv_form", backend="tpu") == list(CONV_FORMS)
    assert values("conv_form", backend="gpu") == list(CONV_FORMS)
    assert values("conv_form") == [form for form in CONV_FORMS if form != "lax"]
    assert values("slots_per_chunk") == [1, 12, 3]
    assert values("slots_per_chunk", Plan(slots_per_chunk=6), num_slots=1) == [6, 1]
    assert values("memory") == ["reverse", "recompute", "mixed"]
    assert set(values("memory", fits=False)) == set(STRATEGIES)
    assert values("memory", Plan(memory=None)) == [None]
    both = plan.candidates(Plan(), {"conv_form", "slots_per_chunk"}, backend="tpu", num_slots=2)
    assert both[0] == Plan()
    assert len(set(both)) == len(both) == 2 * len(CONV_FORMS)


# Memory.


def control_groups(folder: Path, lines: str, files: dict[str, str]) -> dict[str, Path]:
    """Stand-ins for what Linux says of available memory and of control groups."""
    meminfo, own, root = folder / "meminfo", folder / "own", folder / "cgroup"
    meminfo.write_text("MemTotal:       9000 kB\nMemAvailable:   8000 kB\n")
    own.write_text(lines)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return {"meminfo": meminfo, "cgroups": root, "own_cgroups": own}


@pytest.mark.parametrize(
    ("lines", "files", "kibibytes"),
    [
        ("", {}, 8000),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/b/memory.stat": "anon 0\n"}, 8000),
        (
            "0::/a/b\n",
            {"a/memory.max": str(5000 << 10), "a/memory.stat": f"file 9\nanon {1000 << 10}\n"},
            4000,
        ),
        ("0::/host/path\n", {"memory.max": str(3000 << 10), "memory.stat": "anon 0\n"}, 3000),
        (
            "5:cpu:/\n4:memory:/a\n0::/\n",
            {"memory/a/memory.limit_in_bytes": str(2000 << 10), "memory/a/memory.stat": "total_rss 1024\n"},
            1999,
        ),
        (
            "4:memory:/a\n",
            {"memory/a/memory.limit_in_bytes": "9" * 18, "memory/a/memory.stat": "rss 0\n"},
            8000,
        ),
        ("0::/a\n", {"a/memory.max": "4096", "a/memory.stat": "anon 8192\n"}, 0),
    ],
)
def test_cpu_devices_share_what_the_machine_and_its_control_groups_leave(tmp_path, lines, files, kibibytes):
    said = control_groups(tmp_path, lines, files)
    assert memory.device_memory(jax.devices()[:1], **said) == kibibytes << 10
    assert memory.device_memory(jax.devices()[:4], **said) == (kibibytes << 10) // 4


def test_where_nothing_is_said_of_memory(tmp_path):
    nowhere = tmp_path / "nowhere"
    found = memory.device_memory(jax.devices()[:1], meminfo=nowhere, cgroups=nowhere, own_cgroups=nowhere)
    assert found is None


def test_this_machine_has_memory():
    found = memory.device_memory(jax.devices()[:1])
    assert found is not None
    assert 0 < found < 2**50


@pytest.mark.parametrize(
    ("statistics", "expected"),
    [([{"bytes_limit": 7}, {"bytes_limit": 5}], 5), ([{}, {}], None), ([None], None)],
)
def test_an_accelerator_says_itself(statistics, expected):
    devices = [
        SimpleNamespace(platform="gpu", process_index=0, memory_stats=lambda one=one: one)
        for one in statistics
    ]
    assert memory.device_memory(devices) == expected


# Trials.


@pytest.mark.slow
def test_a_trial_is_of_the_program_that_a_run_compiles(site):
    problem = build(Plan())
    found = plan.trial(problem, Plan(), site, seconds=0.01)
    state = jax.device_put(init_state(problem, KEY), parallel.replicated(site.mesh))
    _, cost = compile_dispatch(problem, site.mesh, state, site.data, KEY)
    assert found.milliseconds is not None
    assert found.milliseconds > 0
    assert found.cost is not None
    assert found.cost[1:] == cost[1:]
    assert found.cost.temporary_bytes > 0


@pytest.mark.slow
def test_a_program_that_is_too_large_is_not_started(site):
    def never(*_: Any) -> None:
        raise AssertionError("the program ran")

    problem = build(Plan())
    method = dataclasses.replace(problem.method, loss=running(problem.method.loss, never))
    found = plan.trial(dataclasses.replace(problem, method=method), Plan(), site, limit=100)
    assert found.milliseconds is None
    assert found.cost is not None
    assert found.passed_over == f"needs {found.cost.total_bytes} bytes of 100"


def running(loss: Any, callback: Any) -> Any:
    """The loss, and a call of the host whenever it runs."""

    def wrapped(schedule: Any, *arguments: Any) -> Any:
        value, info = loss(schedule, *arguments)
        jax.debug.callback(callback, value)
        return value, info

    return wrapped


def hungry(problem: Problem) -> Problem:
    """The problem, with a loss that wants 64 TiB."""

    def loss(schedule: Any, *arguments: Any) -> Any:
        value, info = problem.method.loss(schedule, *arguments)
        huge = jnp.cumsum(jnp.full((2**22, 2**22), jax.lax.stop_gradient(value)), axis=0)
        return value + 0 * jax.lax.stop_gradient(jnp.cumsum(huge, axis=1)[-1, -1]), info

    return dataclasses.replace(problem, method=dataclasses.replace(problem.method, loss=loss))


@pytest.mark.slow
def test_running_out_of_memory_is_a_finding(site):
    found = plan.trial(hungry(build(Plan())), Plan(), site)
    assert found.milliseconds is None
    assert found.passed_over is not None
    assert "RESOURCE_EXHAUSTED" in found.passed_over
    assert found.cost is not None
    assert found.cost.temporary_bytes > 2**40


@pytest.mark.slow
def test_steps_that_diverge_are_timed_all_the_same(site):
    problem = dataclasses.replace(build(Plan()), form=small_form(inner_lr=1e30))
    found = plan.trial(problem, Plan(), site, seconds=0.01)
    assert found.milliseconds is not None


def test_the_fastest_is_chosen_and_of_equals_the_smallest():
    def tried(milliseconds: float | None, size: int) -> Trial:
        return Trial(Plan(), milliseconds, CHEAP._replace(temporary_bytes=size), None)

    broken = Trial(Plan(), None, None, "did not compile")
    fastest, as_fast, slower = tried(100.0, 9), tried(102.0, 5), tried(104.0, 1)
    assert plan.choose([broken, slower, fastest, tried(None, 0)]) is fastest
    assert plan.choose([fastest, slower, as_fast]) is as_fast
    small, large = tried(None, 3), tried(None, 4)
    assert plan.choose([broken, large, small]) is small
    assert plan.choose([broken]) is broken


@pytest.mark.slow
def test_tuning_times_what_differs_and_tells_of_it(site):
    told: list[Trial] = []
    trials = plan.tune(
        lambda chosen: build(chosen, network="convnet"),
        Plan(),
        site,
        free=("conv_form",),
        seconds=0.01,
        listener=told.append,
    )
    # lax is left out; "auto" computes the layer's convolution and norm as one product, which no form does.
    assert len(trials) == len(CONV_FORMS) - 1
    assert trials[0].plan == Plan()
    assert told == trials
    assert all(one.milliseconds and not one.passed_over for one in trials)


@pytest.mark.slow
def test_choices_without_a_difference_are_tried_once(site):
    trials = plan.tune(build, Plan(), site, seconds=0.01)  # an MLP with one θ0 leaves the strategy to choose
    assert [one.plan for one in trials] == [Plan(memory=name) for name in ("reverse", "recompute", "mixed")]


@pytest.mark.slow
def test_where_nothing_fits_every_strategy_is_compiled_and_the_budget_ends_it(site):
    everything = plan.tune(build, Plan(), site, free=("memory",), limit=1)
    assert {one.plan.memory for one in everything} == set(STRATEGIES)
    assert all(one.milliseconds is None for one in everything)
    assert len(plan.tune(build, Plan(), site, limit=1, budget_seconds=0)) == 1


# What is remembered.


def test_what_was_tuned_is_remembered(tmp_path):
    folder = tmp_path / "cache"
    assert plan.recall(folder, "first") is None
    trials = [Trial(Plan(), 2.0, CHEAP, None), Trial(Plan("banded", None, 2), 1.0, CHEAP, None)]
    plan.remember(folder, "first", trials)
    plan.remember(folder, "second", trials[:1])
    assert plan.recall(folder, "first") == Plan("banded", None, 2)
    assert plan.recall(folder, "second") == Plan()
    kept = json.loads((folder / plan.FILE_NAME).read_text())["first"]["trials"]
    assert [one["milliseconds"] for one in kept] == [2.0, 1.0]
    assert [path.name for path in folder.iterdir()] == [plan.FILE_NAME]


@pytest.mark.parametrize(
    "text", ['{"half', "[]", "\udcff", '{"key": 3}', '{"key": {"plan": {"conv_form": "auto"}}}']
)
def test_a_damaged_memory_is_a_warning(tmp_path, text):
    path = tmp_path / plan.FILE_NAME
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.warns(UserWarning, match=f"{path}.*tun"):
        assert plan.recall(tmp_path, "key") is None


def test_a_damaged_memory_is_written_anew(tmp_path):
    (tmp_path / plan.FILE_NAME).write_text("{")
    with pytest.warns(UserWarning, match="tuned again"):
        plan.remember(tmp_path, "key", [Trial(Plan(), 2.0, CHEAP, None)])
    assert plan.recall(tmp_path, "key") == Plan()


def test_a_memory_that_cannot_be_written_is_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="could not be kept"):
        plan.remember(tmp_path / "file" / "folder", "key", [Trial(Plan(), 2.0, CHEAP, None)])


def test_a_problem_is_known_by_its_facts_and_devices():
    key = plan.problem_key({"a": 1, "b": [2]}, jax.devices()[:1])
    assert key == plan.problem_key({"b": [2], "a": 1}, jax.devices()[:1])
    others = [
        plan.problem_key({"a": 2, "b": [2]}, jax.devices()[:1]),
        plan.problem_key({"a": 1, "b": [2]}, jax.devices()[:2]),
    ]
    assert len({key, *others}) == 3


# Levers.


def test_what_may_take_less_memory():
    everything = levers.changes(
        Plan("auto", "mixed", 4), num_slots=4, num_devices=2, batch_size=100, num_steps=30
    )
    assert [(dict(one.settings), one.gradient) for one in everything] == [
        ({"slots_per_chunk": 2}, "the same"),
        ({"slots_per_chunk": 1}, "the same"),
        ({"memory": "recompute"}, "the same"),
        ({"memory": "sqrt"}, "the same"),
        ({"memory": "mixed_sqrt"}, "the same"),
        ({"devices": 4}, "the same"),
        ({"devices": 8}, "the same"),
        ({"slots_per_chunk": 1, "memory": "mixed_sqrt"}, "the same"),
        ({"batch_size": 50}, "of fewer real images"),
        ({"batch_size": 25}, "of fewer real images"),
        ({"window": 15}, "truncated"),
        ({"window": 7}, "truncated"),
        (
            {"slots_per_chunk": 1, "memory": "mixed_sqrt", "batch_size": 25, "window": 7},
            "truncated, of fewer real images",
        ),
    ]
    least = levers.changes(Plan(memory=None), num_slots=1, num_devices=1, batch_size=1)
    assert least == []


@pytest.mark.slow
def test_levers_are_what_really_takes_less():
    sizes = {"slots_per_chunk": 80, "memory": 120, "batch_size": 40}
    asked: list[Any] = []

    def cost_of(settings: Any) -> Cost:
        asked.append(dict(settings))
        if "window" in settings:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")
        return Cost(1.0, min(sizes[name] for name in settings), 1)

    options = [
        Change(settings, "the same")
        for settings in (
            {"slots_per_chunk": 1},
            {"memory": "mixed"},
            {"window": 1},
            {"slots_per_chunk": 1, "memory": "mixed"},
            {"batch_size": 1},
            {"slots_per_chunk": 1, "batch_size": 1},
        )
    ]
    told: list[Any] = []
    found, untried = levers.levers(cost_of, options, limit=50, needed=100, listener=told.append)
    assert told == found
    assert [(lever.change, lever.estimate.needed_bytes, lever.estimate.fits) for lever in found] == [
        (options[0], 81, False),
        (options[3], 81, False),
        (options[4], 41, True),
    ]
    assert untried == []
    assert options[5].settings not in asked  # one setting is enough already
    assert levers.levers(cost_of, options, limit=50, budget_seconds=-1) == ([], options)
