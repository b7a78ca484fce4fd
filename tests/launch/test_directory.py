"""Work directories: what makes a run is compared; what judges or watches may change."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launchers import TINY
from problems import write_npz

from ddjax import data, pool, report
from ddjax.launch import Launcher, directory, find, flags, inputs_of, results
from ddjax.launch.flags import EXTENDS, JUDGES, WATCHES
from ddjax.launch.pretraining import Job
from ddjax.recipes import Replay
from experiments import baselines, continual, coreset, linear_bound, pretrain, random_init

DISTILLATIONS = (
    *("adapt", "attack", "distribution_matching", "finetune", "fixed_init", "gradient_matching"),
    *("moment_matching", "quickstart", "random_init", "sweep"),
)
OTHERS = (
    *("architecture_search", "baselines", "continual", "coreset", "cross_architecture", "linear_bound"),
    "pretrain",
)


@pytest.fixture
def npz(tmp_path, rng) -> Path:
    return write_npz(tmp_path / "spots.npz", rng)


def settings(npz: Path, **changed: Any) -> random_init.Config:
    everything: dict[str, Any] = {"dataset": str(npz), "workdir": str(npz.parent / "run")}
    return random_init.Config(**(TINY | everything | changed))


def opened(npz: Path, **changed: Any) -> Path:
    """A work directory that was started, with its inputs."""
    config = settings(npz, **changed)
    workdir = Path(str(config.workdir))
    inputs = inputs_of(config, data.load(str(npz)))
    directory.open_workdir(workdir, config, experiment="random_init", inputs=inputs)
    return workdir


def check(folder: Path, npz: Path, **changed: Any) -> bool:
    config = settings(npz, **changed)
    inputs = inputs_of(config, data.load(str(npz)))
    return directory.check_workdir(folder, config, experiment="random_init", inputs=inputs)


def edit(path: Path, **changed: Any) -> None:
    """Change keys of a JSON file; None as a change of nothing is written as such, ... removes the key."""
    found = {**json.loads(path.read_text()), **changed}
    path.write_text(json.dumps({name: value for name, value in found.items() if value is not ...}))


@pytest.mark.parametrize(
    "changed",
    [
        {"save_seconds": 60.0},
        {"record_every": 5},
        {"tensorboard": True},
        {"num_eval_inits": 7},
        {"baselines": False},
        {"data_dir": "/elsewhere"},
        {"num_outer_steps": 9},
        {"on_nonfinite": "rollback"},
        {"max_rollbacks": 1},
        {"save_every": 2},
    ],
)
def test_what_judges_or_watches_may_change(npz, changed):
    """F10: refused before, all but the last."""
    assert check(opened(npz), npz, **changed)


@pytest.mark.parametrize(
    "changed",
    [
        *({"seed": 1}, {"batch_size": 32}, {"inner_lr": 0.5}, {"validate_every": 4}, {"num_val_inits": 3}),
        *({"network": "convnet"}, {"init": "pytorch"}, {"clip_norm": 1.0}, {"resize": 4}, {"original": True}),
    ],
)
def test_what_makes_a_run_may_not(npz, changed):
    workdir = opened(npz)
    (name,) = changed
    with pytest.raises(ValueError, match=f"{name} was "):
        check(workdir, npz, **changed)


def test_every_setting_has_a_role():
    """What is not said to judge, watch or extend makes the run: a new flag is compared unless it says so."""
    free = {
        name: {field.name for field in dataclasses.fields(find(name).config_class) if _is_free(field)}
        for name in (*DISTILLATIONS, *OTHERS)
    }
    common = {"data_dir", "num_eval_inits", "record_every", "save_seconds", "baselines", "tensorboard"}
    common |= {"num_outer_steps", "on_nonfinite", "max_rollbacks"}
    for name in DISTILLATIONS:
        assert free[name] == common, name
    for name in OTHERS:
        # Their scores are kept one by one, all under the same settings.
        assert free[name] <= {"data_dir"}, name


def _is_free(field: dataclasses.Field) -> bool:
    return field.metadata["recorded"] and field.metadata["role"] in (JUDGES, WATCHES, EXTENDS)


def test_replaced_data_are_refused_by_their_digests(npz):
    """F2: the same name with other content was taken for the same run."""
    workdir = opened(npz)
    assert check(workdir, npz)
    write_npz(npz, np.random.default_rng(99))
    with pytest.raises(ValueError, match=r"inputs\.data\.train was '[0-9a-f]{12}…', is '[0-9a-f]{12}…'"):
        check(workdir, npz)


@pytest.mark.parametrize("part", ["train", "test"])
def test_each_split_counts(npz, part):
    workdir = opened(npz)
    with np.load(npz) as file:
        arrays = dict(file)
    arrays[f"x_{part}"] = np.flip(arrays[f"x_{part}"], 1)
    np.savez(npz, **arrays)
    with pytest.raises(ValueError, match=rf"inputs\.data\.{part} was"):
        check(workdir, npz)


def test_moved_data_are_the_same_data(npz, tmp_path):
    workdir = opened(npz)
    (tmp_path / "moved").mkdir()
    moved = npz.rename(tmp_path / "moved" / npz.name)
    assert check(workdir, moved, workdir=str(workdir))


def write_pool(path: Path, scale: float) -> None:
    params = {"kernel": scale * np.ones((3, 2, 2), np.float32)}
    pool.save(path, pool.Pool(params, num_train=2, accuracy=np.full(3, 50, np.float32)))


@pytest.mark.parametrize(
    ("name", "flag"), [("adapt", "pool"), ("attack", "pool"), ("baselines", "pool"), ("finetune", "weights")]
)
def test_replaced_files_are_refused_by_their_bytes(npz, tmp_path, name, flag):
    path = tmp_path / "pool.npz"
    write_pool(path, 1.0)
    launcher = find(name)
    config = launcher.config_class(**{"dataset": str(npz), flag: str(path)})
    loaded, workdir = data.load(str(npz)), tmp_path / "run"

    def start() -> None:
        directory.open_workdir(workdir, config, experiment=name, inputs=inputs_of(config, loaded))

    start()
    start()
    write_pool(path, 2.0)
    with pytest.raises(ValueError, match=rf"inputs\.files\.{flag} was"):
        start()


def test_a_setting_that_an_older_version_did_not_have_takes_its_value(npz):
    """F9: a version with one flag more refused every older directory."""
    workdir = opened(npz)
    edit(workdir / "config.json", horizon=..., max_rollbacks=...)
    assert check(workdir, npz)
    with pytest.raises(ValueError, match="horizon was 'full', is 'random'"):
        check(workdir, npz, horizon="random")


def test_the_value_from_before_a_setting_existed_may_be_another_than_its_default(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Config:
        seed: int = flags.flag(0, "of everything random")
        better: bool = flags.flag(True, "what is done since", before=False)

    directory.open_workdir(tmp_path / "run", Config(better=False), experiment="one")
    edit(tmp_path / "run" / "config.json", better=...)
    assert directory.check_workdir(tmp_path / "run", Config(better=False), experiment="one")
    with pytest.raises(ValueError, match="better was False, is True"):
        directory.check_workdir(tmp_path / "run", Config(), experiment="one")


def test_a_setting_of_a_newer_version_counts_where_it_is_given(npz):
    workdir = opened(npz)
    edit(workdir / "config.json", novel=None, other=False)
    assert check(workdir, npz)
    edit(workdir / "config.json", novel=3)
    with pytest.raises(ValueError, match="novel was 3, which this version does not know"):
        check(workdir, npz)


def test_a_directory_of_an_older_version_is_known_by_names_and_then_by_digests(npz):
    workdir = opened(npz)
    edit(workdir / "config.json", inputs=...)
    other = write_npz(npz.parent / "dots.npz", np.random.default_rng(1))
    with pytest.raises(ValueError, match=r"dataset was '.*spots\.npz', is '.*dots\.npz'"):
        check(workdir, other, workdir=str(workdir))
    assert check(workdir, npz)
    opened(npz)
    assert "inputs" in json.loads((workdir / "config.json").read_text())
    write_npz(npz, np.random.default_rng(99))
    with pytest.raises(ValueError, match=r"inputs\.data\.train was"):
        check(workdir, npz)


RESULT = {"test_accuracy": {"mean": 1.0, "values": [1.0], "n": 1}}


@pytest.mark.parametrize("noted", [True, False])
def test_a_result_is_not_shown_for_other_settings_that_judge(npz, noted):
    workdir, config = opened(npz), settings(npz)
    directory.write_result(workdir, config, RESULT, experiment="random_init")
    if not noted:  # as older versions wrote it
        edit(workdir / "result.json", **{directory.JUDGED_BY: ...})

    def found(**changed: Any) -> dict[str, Any] | None:
        return directory.finished(workdir, settings(npz, **changed), experiment="random_init")

    assert found() is not None
    assert found(save_seconds=1.0, record_every=3) is not None
    assert found(num_eval_inits=9) is None
    assert found(baselines=False) is None
    assert found(num_outer_steps=5) is None


@pytest.mark.parametrize("module", [baselines, continual, coreset, linear_bound])
def test_every_other_launcher_gives_the_digests_of_its_data(npz, tmp_path, monkeypatch, module):
    monkeypatch.setattr("ddjax.launch.kept.once", lambda *arguments, **given: given)
    given = module.run(module.Config(dataset=str(npz), workdir=str(tmp_path / "run"), **_small(module)))
    own = data.digests(data.load(str(npz)))
    found = given["inputs"]["data"]
    assert own == {name: found[name] for name in ("train", "validation", "test")}
    write_npz(npz, np.random.default_rng(99))
    again = module.run(module.Config(dataset=str(npz), workdir=str(tmp_path / "run"), **_small(module)))
    assert again["inputs"]["data"]["train"] != found["train"]


def _small(module: types.ModuleType) -> dict[str, Any]:
    own = {
        baselines: {"network": "mlp", "inner_steps": 1},
        continual: {"num_tasks": 1, "network": "mlp", "memory": "random", "images_per_class": 1},
        coreset: {"network": "mlp", "select": "random"},
        linear_bound: {"num_features": 3},
    }
    return own[module]


def test_a_pool_of_replaced_data_is_refused(npz, tmp_path):
    config = pretrain.Config(dataset=str(npz), workdir=str(tmp_path / "pool"), network="mlp")
    inputs = inputs_of(config, Job.of(config).data)
    directory.open_workdir(tmp_path / "pool", config, experiment="pretrain", inputs=inputs)
    write_npz(npz, np.random.default_rng(99))
    with pytest.raises(ValueError, match=r"inputs\.data\.train was"):
        pretrain.run(config)


def test_the_seconds_of_a_record_are_those_of_the_work_directory():
    """F19: total was that of the last process, distil that of all of them."""
    seconds = {"compile": 1.0, "distil": 1000.0, "earlier": 990.0}
    outcome = types.SimpleNamespace(
        seconds=seconds,
        val_accuracy=None,
        num_outer_steps=1,
        best_step=1,
        distilled=types.SimpleNamespace(recipe=Replay()),
    )
    part = types.SimpleNamespace(name="part")
    launch = types.SimpleNamespace(
        experiment="one",
        data=part,
        parts=types.SimpleNamespace(network=part, judged_inits=part),
        config=types.SimpleNamespace(seed=0),
    )
    now = results.time.monotonic()
    finished: Any = types.SimpleNamespace(launch=launch, outcome=outcome, began=now - 15)
    found = results.record_of_run(finished, {}, {}, evaluating=now - 2)["seconds"]
    assert set(found) == {"compile", "distil", "evaluate", "total"}
    assert found["total"] >= found["distil"] + found["evaluate"]
    assert found["total"] == pytest.approx(1005, abs=1)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_phi_stays_where_only_the_judge_changes(npz, monkeypatch):
    """F2 and F10 as their users meet them: one directory, several starts."""
    run: Callable[[random_init.Config], dict[str, Any]] = random_init.LAUNCHER.run
    first = run(settings(npz, baselines=False))
    workdir = npz.parent / "run"
    before = contents(workdir)
    assert run(settings(npz, baselines=False, save_seconds=1.0, record_every=4)) == first
    assert contents(workdir) == before

    more = run(settings(npz, baselines=False, num_eval_inits=5))
    assert (first["test_accuracy"]["n"], more["test_accuracy"]["n"]) == (3, 5)
    after = contents(workdir)
    assert after[workdir / "distilled.npz"] == before[workdir / "distilled.npz"]
    changed = {path.name for path in after if after[path] != before.get(path)}
    assert changed == {"result.json", "config.json", "report.html"}
    assert more["seconds"]["total"] >= more["seconds"]["distil"] + more["seconds"]["evaluate"]
    assert run(settings(npz, baselines=False, num_eval_inits=5)) == more

    with pytest.raises(ValueError, match=r"was 4, is 6, and .* its rates follow from that number"):
        run(settings(npz, baselines=False, num_outer_steps=6))
    kept = contents(workdir)
    assert kept == after

    write_npz(npz, np.random.default_rng(99))
    with pytest.raises(ValueError, match=r"inputs\.data\.train was"):
        run(settings(npz, baselines=False, num_eval_inits=5))
    (workdir / "result.json").unlink()  # unfinished
    with pytest.raises(ValueError, match=r"inputs\.data\.train was"):
        run(settings(npz, baselines=False, num_eval_inits=5))


@pytest.mark.slow
def test_a_matching_run_is_moved_on(npz):
    """Its rate is constant: 5 steps after 3 are the 5 steps of one run."""
    launcher: Launcher[Any] = find("distribution_matching")

    def run(workdir: str, steps: int) -> dict[str, Any]:
        config = launcher.config_class(
            dataset=str(npz),
            workdir=str(npz.parent / workdir),
            network="mlp",
            num_outer_steps=steps,
            batch_size=8,
            train_epochs=2,
            num_eval_inits=2,
            num_val_inits=1,
            images_per_class=1,
            validate_every=1,
            baselines=False,
        )
        return launcher.run(config)

    run("run", 3)
    assert run("run", 5)["num_outer_steps"] == 5
    plan = json.loads((npz.parent / "run" / "plan.json").read_text())
    assert plan["num_outer_steps"] == 5
    metrics = report.read_metrics(npz.parent / "run" / "metrics.jsonl")
    assert metrics[-1]["step"] == 5
    with pytest.raises(ValueError, match="num_outer_steps: expected at least the 5 outer steps"):
        run("run", 4)
