"""`auto`, `--tune` and `--dry_run`, as their users meet them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import jax
import pytest
from absl import flags
from launchers import start
from problems import write_npz
from test_parallel import finish, launcher, two

from ddjax import artifact, plan
from ddjax.data import to_device
from ddjax.engine import compile_dispatch, init_state
from ddjax.launch import distillation, parse, planning, process
from ddjax.plan import Plan, Site
from experiments import distribution_matching, random_init

TINY: dict[str, Any] = {
    "network": "mlp",
    "num_outer_steps": 2,
    "inner_steps": 2,
    "inner_epochs": 1,
    "batch_size": 16,
    "num_eval_inits": 1,
    "num_val_inits": 1,
    "record_every": 1,
    "baselines": False,
}
CONVNET: dict[str, Any] = {"network": "convnet", "width": 4, "depth": 1}
SMALL = 1 / 2**20  # GiB


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """A memory of choices of one's own."""
    monkeypatch.setenv("DDJAX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(planning, "TRIAL_SECONDS", 0.01)
    monkeypatch.setattr(planning, "BUDGET_SECONDS", math.inf)
    return tmp_path / "cache"


@pytest.fixture
def dataset(tmp_path, rng) -> Path:
    return write_npz(tmp_path / "spots.npz", rng)


def refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("a plan was chosen")


@pytest.fixture
def no_trials(monkeypatch) -> None:
    monkeypatch.setattr(plan, "trial", refuse)


def tiny(dataset: Path, workdir: Path, **settings: Any) -> random_init.Config:
    places: dict[str, Any] = {"dataset": str(dataset), "workdir": str(workdir)}
    return random_init.Config(**(TINY | places | settings))


def settled(dataset: Path, workdir: Path, **settings: Any) -> dict[str, Any]:
    """What a first start writes to `plan.json`, before its first outer step."""
    wanted = distillation.prepare("random_init", tiny(dataset, workdir, **settings), random_init.build)
    distillation.claim(wanted)
    distillation.settle(wanted)
    return json.loads((workdir / "plan.json").read_text())


@pytest.mark.slow
def test_the_defaults_are_resolved_once_and_the_question_is_recorded(dataset, tmp_path, capsys):
    workdir = tmp_path / "run"
    random_init.LAUNCHER.run(tiny(dataset, workdir, **CONVNET))
    resolved = json.loads((workdir / "plan.json").read_text())
    assert {name: resolved[name] for name in plan.CHOICES} == {
        "conv_form": "auto",
        "memory": "recompute",
        "slots_per_chunk": 1,
    }
    assert resolved["chosen"] == dict.fromkeys(plan.CHOICES, "default")
    assert "trials" not in resolved
    asked = json.loads((workdir / "config.json").read_text())
    assert (asked["conv_form"], asked["memory"], asked["slots_per_chunk"]) == ("auto", "auto", None)
    assert not {"tune", "dry_run", "memory_limit"} & set(asked)
    settings = artifact.load(workdir / "distilled.npz").metadata["network_settings"]
    assert {name: settings[name] for name in ("width", "depth")} == {"width": 4, "depth": 1}
    assert "plan: conv_form auto (default), memory recompute (default), " in capsys.readouterr().out


def test_flags_are_never_overridden(dataset, tmp_path, no_trials):
    explicit = {"conv_form": "im2col", "memory": "mixed_sqrt", "slots_per_chunk": 2}
    resolved = settled(dataset, tmp_path / "run", tune=True, num_inits=2, **explicit)
    assert {name: resolved[name] for name in plan.CHOICES} == explicit
    assert resolved["chosen"] == dict.fromkeys(plan.CHOICES, "flag")


def test_a_precision_is_a_flag_s_choice_alone(dataset, tmp_path, no_trials):
    """In the plan where it is given; the method's network computes at it, scores never do."""
    plain = distillation.prepare("random_init", tiny(dataset, tmp_path / "plain"), random_init.build)
    assert "precision" not in plain.plan.as_dict()
    asked = tiny(dataset, tmp_path / "rounded", precision="bf16")
    rounded = distillation.prepare("random_init", asked, random_init.build)
    assert planning.resolve(rounded.case)["chosen"]["precision"] == "flag"
    assert Plan.from_dict(rounded.plan.as_dict()) == rounded.plan
    products = []
    for launch in (plain, rounded):
        method, form = launch.parts.method, launch.parts.form
        keys = jax.random.split(jax.random.key(0), 3)
        batch = jax.eval_shape(method.sample, to_device(launch.data.train), keys[0])
        shapes = (
            jax.eval_shape(lambda form=form: form.unfold(form.init(jax.random.key(1)))),
            method.init(keys[1]),
        )
        products.append("bf16" in str(jax.make_jaxpr(method.loss)(*shapes, batch, keys[2])))
    assert products == [False, True]
    assert rounded.parts.network.made == plain.parts.network.made


@pytest.mark.slow
def test_tuning_takes_the_fastest_of_its_trials_and_remembers(dataset, tmp_path, cache, capsys, monkeypatch):
    asked = CONVNET | {"tune": True, "memory": "reverse"}
    first = settled(dataset, tmp_path / "first", **asked)
    assert first["chosen"] == {"conv_form": "tuned", "memory": "flag", "slots_per_chunk": "tuned"}
    assert {"auto", "im2col"} <= {one["conv_form"] for one in first["trials"]}
    assert {one["memory"] for one in first["trials"]} == {"reverse"}
    (taken,) = (one for one in first["trials"] if all(one[name] == first[name] for name in plan.CHOICES))
    fastest = min(one["milliseconds"] for one in first["trials"])
    assert taken["milliseconds"] <= plan.SAME_SPEED * fastest
    assert all(one["temporary_bytes"] > 0 and one["compile_seconds"] > 0 for one in first["trials"])
    told = capsys.readouterr().out
    assert told.count("ms a step") == len(first["trials"])
    assert (cache / plan.FILE_NAME).exists()

    monkeypatch.setattr(plan, "trial", refuse)
    # What does not change an outer step's cost does not change what is remembered.
    again = settled(dataset, tmp_path / "again", **asked, seed=3, num_outer_steps=9)
    assert again["chosen"] == {"conv_form": "remembered", "memory": "flag", "slots_per_chunk": "remembered"}
    assert {name: again[name] for name in plan.CHOICES} == {name: first[name] for name in plan.CHOICES}
    assert "trials" not in again
    with pytest.raises(AssertionError, match="a plan was chosen"):  # another problem is tuned on its own
        settled(dataset, tmp_path / "other", **asked, batch_size=8)


@pytest.mark.slow
def test_a_resumed_run_never_tunes_again(dataset, tmp_path, cache, monkeypatch):
    workdir = tmp_path / "run"
    before = settled(dataset, workdir, tune=True, memory="reverse")  # one trial
    (cache / plan.FILE_NAME).unlink()

    for name in ("tune", "recall", "trial"):
        monkeypatch.setattr(plan, name, refuse)
    for tune in (True, False):
        random_init.LAUNCHER.run(tiny(dataset, workdir, tune=tune, memory="reverse"))
        (workdir / "result.json").unlink()
    assert json.loads((workdir / "plan.json").read_text()) == before


@pytest.mark.slow
def test_the_plan_is_what_runs(dataset, tmp_path):
    workdir = tmp_path / "run"
    wanted = distillation.prepare(
        "random_init", tiny(dataset, workdir, **CONVNET, memory="mixed_sqrt"), random_init.build
    )
    distillation.claim(wanted)
    resolved = distillation.write_plan(wanted)
    (workdir / "plan.json").write_text(json.dumps(resolved | {"conv_form": "im2col", "slots_per_chunk": 2}))
    ready = distillation.settle(wanted)
    assert ready.plan == Plan("im2col", "mixed_sqrt", 2)
    params = ready.parts.network.init(jax.random.key(0))
    text = jax.jit(ready.parts.network.apply).lower(params, ready.data.test.encoded()[:2]).as_text()
    assert "stablehlo.convolution" not in text


def test_a_damaged_plan_is_refused(dataset, tmp_path):
    settled(dataset, tmp_path / "run")
    for text in ("{", "[]", '{"conv_form": "auto"}'):
        (tmp_path / "run" / "plan.json").write_text(text)
        with pytest.raises(ValueError, match=r"plan\.json: expected the plan"):
            settled(dataset, tmp_path / "run")


def test_a_damaged_memory_of_choices_is_a_warning(dataset, tmp_path, cache):
    cache.mkdir()
    (cache / plan.FILE_NAME).write_text("not JSON")
    with pytest.warns(UserWarning, match="They are tuned again"):
        resolved = settled(dataset, tmp_path / "run")
    assert resolved["chosen"]["memory"] == "default"


@pytest.mark.slow
def test_tuning_refuses_what_fits_nowhere(dataset, tmp_path):
    with pytest.raises(ValueError, match="tune: expected a plan that fits this machine; none of"):
        settled(dataset, tmp_path / "run", tune=True, memory="mixed", memory_limit=SMALL)
    assert not (tmp_path / "run" / "plan.json").exists()


@pytest.mark.slow
def test_two_processes_do_not_tune(dataset, tmp_path, cache):
    with two(*launcher(dataset, tmp_path, num_outer_steps=2, tune=True), cache=cache) as processes:
        codes, _, errors = finish(processes)
    assert codes == [2, 2]
    assert any("tune: expected one process; got 2" in error for error in errors)


@pytest.mark.slow
def test_a_dry_run_says_what_the_compiled_program_takes_and_leaves_nothing(dataset, tmp_path, capsys):
    workdir = tmp_path / "runs" / "run"
    settings = tiny(dataset, workdir, dry_run=True)
    assert process.guarded(lambda: random_init.LAUNCHER.run(settings)) == 0
    assert not workdir.parent.exists()
    told = capsys.readouterr().out
    ready = distillation.prepare("random_init", settings, random_init.build)
    problem, site = planning.problem_of(ready.case, ready.plan), planning.site_of(ready.case)
    state = init_state(problem, jax.random.key(0))
    _, cost = compile_dispatch(problem, site.mesh, state, to_device(ready.data.train), jax.random.key(0))
    assert cost.temporary_bytes > 0
    assert f"{cost.working_bytes / 2**20:.1f} MiB to work in" in told
    assert f"{cost.resident_bytes / 2**20:.1f} MiB of data" in told
    assert "plan: conv_form auto (default)" in told
    assert told.rstrip().endswith("it fits")


@pytest.mark.slow
def test_a_dry_run_that_does_not_fit_says_what_would(dataset, tmp_path, capsys):
    sizes = {"batch_size": 128, "inner_steps": 8}
    wanted = distillation.prepare("random_init", tiny(dataset, tmp_path / "run", **sizes), random_init.build)
    site: Site = planning.site_of(wanted.case)
    _, now = site.compile(planning.problem_of(wanted.case, wanted.plan))
    limit = 0.7 * now.total_bytes
    rehearsal = tiny(dataset, tmp_path / "run", dry_run=True, memory_limit=limit / 2**30, **sizes)
    code = process.guarded(lambda: random_init.LAUNCHER.run(rehearsal))
    assert code == 2
    assert not (tmp_path / "run").exists()
    told, refused = capsys.readouterr()
    assert refused.startswith("error: memory: expected outer steps that need at most ")
    found = re.findall(r"^  (--.*): ([\d.,]+) MiB in all, (fits|does not fit) \(", told, re.MULTILINE)
    that_fit = [one for one in found if one[-1] == "fits"]
    for change, size, fits in (found[0], found[-1], that_fit[0]):
        settings = dict(one.removeprefix("--").split("=") for one in change.split(" "))
        changed = {k: v if k == "memory" else int(v) for k, v in settings.items()}
        other = distillation.prepare(
            "random_init", tiny(dataset, tmp_path / "run", **(sizes | changed)), random_init.build
        )
        _, cost = site.compile(planning.problem_of(other.case, other.plan))
        needed = cost.total_bytes
        assert size == f"{needed / 2**20:,.1f}", change
        assert (fits == "fits") == (needed <= limit), change
        assert needed < now.total_bytes, change


@pytest.mark.slow
def test_no_unroll_no_strategy(dataset, tmp_path, capsys):
    workdir = tmp_path / "run"
    places: dict[str, Any] = {"dataset": str(dataset), "workdir": str(workdir)}
    sizes: dict[str, Any] = {"depth": 1, "width": 16, "batch_size": 2, "num_inits": 8, "slots_per_chunk": 2}
    settings = distribution_matching.Config(**places, **sizes)
    wanted = distillation.prepare("distribution_matching", settings, distribution_matching.build)
    distillation.claim(wanted)
    assert distillation.settle(wanted).plan == Plan("auto", None, 2)
    resolved = json.loads((workdir / "plan.json").read_text())
    assert "memory" not in resolved
    assert resolved["chosen"] == {"conv_form": "default", "slots_per_chunk": "flag"}
    rehearsal = distribution_matching.Config(**places, **sizes, dry_run=True, memory_limit=SMALL)
    with pytest.raises(ValueError, match=r"memory: expected outer steps that need at most 0\.0 MiB"):
        distribution_matching.LAUNCHER.run(rehearsal)
    told = capsys.readouterr().out
    assert len(jax.devices()) == 4  # with two θ0 each
    for change in ("--slots_per_chunk=1", "on 8 devices"):
        line = rf"\n  {change}: 0\.[01] MiB in all, does not fit \(the gradient: the same\)\n"
        assert re.search(line, told), change
    assert "--memory" not in told
    with pytest.raises(ValueError, match="Unknown command line flag 'memory'"):
        parse(distribution_matching.Config, ["program", "--memory=mixed"], flags.FlagValues())


@pytest.mark.slow
def test_a_dry_run_of_a_begun_run_reads_its_plan(dataset, tmp_path, capsys, no_trials):
    workdir = tmp_path / "run"
    settled(dataset, workdir, memory="mixed")
    before = {path: path.read_bytes() for path in workdir.iterdir()}
    told = dry(tiny(dataset, workdir, memory="mixed", tune=True, dry_run=True), capsys)
    assert "plan: conv_form auto (default), memory mixed (flag), slots_per_chunk 1 (default)" in told
    assert {path: path.read_bytes() for path in workdir.iterdir()} == before
    with pytest.raises(ValueError, match="memory was 'mixed', is 'auto'"):
        dry(tiny(dataset, workdir, dry_run=True), capsys)


def dry(settings: random_init.Config, capsys: pytest.CaptureFixture) -> str:
    assert random_init.LAUNCHER.run(settings) == {}
    return capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_may_not_fit_is_warned_of(dataset, tmp_path, capsys):
    settings = tiny(dataset, tmp_path / "run", memory_limit=SMALL, tune=False)
    assert random_init.LAUNCHER.run(settings)["num_outer_steps"] == 2
    assert "warning: this may not fit; --dry_run tells what would" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--conv_form=banded", "--memory=sqrt", "--slots_per_chunk=3"], ("banded", "sqrt", 3)),
        (["--conv_form=auto", "--memory=auto"], ("auto", "auto", None)),
    ],
)
def test_every_choice_is_a_flag(arguments, expected):
    parsed = parse(random_init.Config, ["program", *arguments], flags.FlagValues())
    assert (parsed.conv_form, parsed.memory, parsed.slots_per_chunk) == expected
    assert not parsed.tune
    assert not parsed.dry_run


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--conv_form=bands", "conv_form"),
        ("--memory=less", "memory"),
        ("--slots_per_chunk=0", "slots_per_chunk"),
        ("--memory_limit=-1", "memory_limit"),
        ("--tune=perhaps", "tune"),
    ],
)
def test_a_choice_that_there_is_not_is_refused(argument, message):
    with pytest.raises(ValueError, match=message):
        parse(random_init.Config, ["program", argument], flags.FlagValues())


@pytest.mark.slow
def test_a_process_that_only_rehearses(dataset, tmp_path):
    """With one real image of a class and one θ0 there is nothing left to give up."""
    sizes = ("--depth=1", "--width=4", "--batch_size=1", f"--memory_limit={SMALL}")
    process = start(
        "distribution_matching", f"--dataset={dataset}", f"--workdir={tmp_path / 'run'}", "--dry_run", *sizes
    )
    told, refused = process.communicate(timeout=500)
    assert process.returncode == 2
    assert told.rstrip().endswith("nothing that was compiled takes less")
    assert refused.startswith("error: memory: expected outer steps")
    assert "Traceback" not in refused
    assert not (tmp_path / "run").exists()


def test_several_processes_do_not_rehearse(dataset, tmp_path):
    settings = tiny(dataset, tmp_path / "run", dry_run=True, distributed=True)
    with pytest.raises(ValueError, match="dry_run: expected one process; got --distributed"):
        random_init.LAUNCHER.run(settings)
