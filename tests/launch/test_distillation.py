"""Launchers, as their users meet them: files, exit codes, messages."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from absl import flags
from launchers import TINY, start
from problems import write_npz

from ddjax import report
from ddjax.launch import directory, distillation, parse, process
from experiments import distribution_matching, evaluate, fixed_init, random_init

pytestmark = pytest.mark.slow


@pytest.fixture
def dataset(tmp_path, rng) -> Path:
    return write_npz(tmp_path / "spots.npz", rng)


def tiny(dataset_path: Path, workdir: Path, **settings) -> random_init.Config:
    everything: dict[str, Any] = {"dataset": str(dataset_path), "workdir": str(workdir)}
    return random_init.Config(**(TINY | everything | settings))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_leaves_what_was_promised(dataset, tmp_path, capsys):
    workdir = tmp_path / "run"
    result = random_init.LAUNCHER.run(tiny(dataset, workdir))
    names = {path.name for path in workdir.iterdir()}
    assert names == {
        "checkpoints",
        "config.json",
        "report.html",
        "curves.png",
        "distilled.npz",
        "distilled.png",
        "metrics.jsonl",
        "plan.json",
        "result.json",
    }
    assert result == json.loads((workdir / "result.json").read_text())
    score = result["test_accuracy"]
    assert score["n"] == len(score["values"]) == 3
    assert score["mean"] == pytest.approx(np.mean(score["values"]))
    assert score["std"] == pytest.approx(np.std(score["values"]))
    assert set(result["seconds"]) == {"compile", "distil", "evaluate", "total"}
    assert {"hardware", "versions", "seed", "command", "val_accuracy", "num_outer_steps"} <= set(result)
    assert result["baselines"]["all data"]["mean"] > 90
    assert json.loads((workdir / "plan.json").read_text())["outer_lr"] == 0.05
    for picture in ("distilled.png", "curves.png"):
        assert (workdir / picture).read_bytes().startswith(b"\x89PNG")
    told = capsys.readouterr().out
    for words in ("6 images, 2 step(s) of 3", "4 steps of 16 real images", "MiB", "random real", "all data"):
        assert words in told


def test_a_finished_run_is_found_finished(dataset, tmp_path, capsys):
    first = random_init.LAUNCHER.run(tiny(dataset, tmp_path / "run"))
    before = contents(tmp_path / "run")
    again = random_init.LAUNCHER.run(tiny(dataset, tmp_path / "run"))
    assert again == first
    assert contents(tmp_path / "run") == before
    assert "is finished" in capsys.readouterr().out


def test_fixed_init_knows_one_theta(dataset, tmp_path):
    settings = fixed_init.Config(**TINY, dataset=str(dataset), workdir=str(tmp_path / "run"))
    result = fixed_init.LAUNCHER.run(settings)
    assert result["test_accuracy"]["n"] == 1
    assert result["init"] == "fixed(xavier_normal)"
    again = evaluate.Config(
        artifact=str(tmp_path / "run" / "distilled.npz"), dataset=str(dataset), fixed=True, baselines=False
    )
    assert evaluate.run(again)["test_accuracy"]["values"] == result["test_accuracy"]["values"]


def test_distribution_matching_then_evaluation_on_another_network(dataset, tmp_path, capsys):
    settings = distribution_matching.Config(
        dataset=str(dataset),
        workdir=str(tmp_path / "run"),
        depth=1,
        width=4,
        num_outer_steps=3,
        batch_size=8,
        train_epochs=5,
        num_eval_inits=2,
        num_val_inits=1,
        images_per_class=2,
    )
    distribution_matching.LAUNCHER.run(settings)
    with np.load(tmp_path / "run" / "distilled.npz") as file:
        assert "lrs" not in file.files
        assert file["images"].shape == (1, 6, 8, 8, 1)
    result = evaluate.run(
        evaluate.Config(
            artifact=str(tmp_path / "run" / "distilled.npz"),
            dataset=str(dataset),
            network="mlp",
            num_eval_inits=3,
            output=str(tmp_path / "scores.json"),
        )
    )
    assert result["network"] == "mlp"
    assert result["test_accuracy"]["n"] == 3
    assert {"hardware", "versions", "command"} <= set(json.loads((tmp_path / "scores.json").read_text()))
    assert "distilled images" in capsys.readouterr().out


def test_the_original_s_settings_are_one_flag(dataset, tmp_path):
    settings = tiny(dataset, tmp_path / "run", original=True, num_outer_steps=None)
    parts = distillation.prepare("random_init", settings, random_init.build).parts
    assert parts.num_outer_steps == 400 * (108 // 16)
    assert parts.outer.clip_norm is None
    assert parts.facts.plan == {
        "outer_optimizer": "adam(0.5, 0.999), halved every 240 steps",
        "outer_lr": 0.01,
    }


def test_every_field_is_a_flag_that_is_checked():
    argv = [
        "program",
        "--num_outer_steps=7",
        "--outer_lr=0.5",
        "--dataset=mnist",
        "--original",
        "--nobaselines",
    ]
    parsed = parse(random_init.Config, argv, flags.FlagValues())
    assert parsed == random_init.Config(
        num_outer_steps=7, outer_lr=0.5, dataset="mnist", original=True, baselines=False
    )


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--inner_steps=0", "inner_steps"),
        ("--inner_epochs=0", "inner_epochs"),
        ("--num_inits=0", "num_inits"),
        ("--batch_size=-4", "batch_size"),
        ("--clip_norm=-1", "clip_norm"),
        ("--num_outer_steps=many", "num_outer_steps"),
        ("--outer_lr=fast", "outer_lr"),
        ("--outer_step=3", "Unknown command line flag 'outer_step'"),
        ("stray", "expected only flags"),
    ],
)
def test_bad_flags_are_refused(argument, message):
    with pytest.raises(ValueError, match=message):
        parse(random_init.Config, ["program", argument], flags.FlagValues())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "mnits"}, "mnist"),
        ({"dataset": "nowhere.npz"}, "nowhere"),
        ({"network": "lennet"}, "Did you mean 'lenet'"),
        ({"network": "lenet"}, "lenet.*8x8|8.8"),
        ({"network": "mlp", "depth": 3}, "depth"),
        ({"init": "xavier"}, "xavier_normal"),
        ({"init_gain": 0.0}, "gain"),
        ({"inner_lr": -0.1}, "inner_lr: expected a finite number > 0"),
        ({"inner_steps": 30, "images_per_class_per_step": 9}, "images per class: expected at most"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(dataset, tmp_path, settings, message):
    workdir = tmp_path / "run"
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        distillation.prepare("random_init", tiny(dataset, workdir, **settings), random_init.build)
    assert not workdir.exists()


def test_another_experiment_s_directory_is_refused(dataset, tmp_path):
    workdir = tmp_path / "run"
    directory.open_workdir(workdir, tiny(dataset, workdir), experiment="random_init")
    before = contents(workdir)
    with pytest.raises(ValueError, match="seed was 0, is 1"):
        directory.open_workdir(workdir, tiny(dataset, workdir, seed=1), experiment="random_init")
    with pytest.raises(ValueError, match="experiment was 'random_init', is 'fixed_init'"):
        directory.open_workdir(workdir, tiny(dataset, workdir), experiment="fixed_init")
    with pytest.raises(ValueError, match="holds other files"):
        directory.open_workdir(tmp_path, tiny(dataset, tmp_path), experiment="random_init")
    assert contents(workdir) == before


def test_errors_become_the_documented_exit_codes(capsys):
    def raising(error: Exception):
        def action():
            raise error

        return process.guarded(action)

    assert process.guarded(lambda: None) == 0
    assert raising(ValueError("expected, got")) == 2
    assert raising(FileNotFoundError("no file")) == 2
    assert raising(process.DivergedError("at step 3")) == 3
    assert raising(process.PreemptedError("saved")) == 75
    assert capsys.readouterr().err.splitlines() == [
        "error: expected, got",
        "error: no file",
        "diverged: at step 3",
        "preempted: saved",
    ]


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("random_init", ["--inner_steps=0"]),
        ("fixed_init", ["--network=lennet"]),
        ("evaluate", ["--artifact=nowhere.npz"]),
    ],
)
def test_a_process_refuses_with_code_2_and_no_traceback(module, arguments):
    process = start(module, *arguments)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert error.startswith("error: ")
    assert "Traceback" not in error + out


def test_help_names_every_flag():
    process = start("distribution_matching", "--help")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    for name in ("--dataset", "--images_per_class", "--workdir", "--clip_norm"):
        assert name in out


def test_a_killed_run_continues_to_the_same_bytes(dataset, tmp_path):
    """SIGTERM once (saved, exit code 75), SIGKILL once (nothing saved at that moment), then to the end."""
    settings = TINY | {
        "num_outer_steps": 400,
        "validate_every": 50,
        "save_seconds": 0,
        "dataset": str(dataset),
    }

    def arguments(workdir: Path) -> list[str]:
        return [f"--{k}={v}" for k, v in settings.items()] + ["--nobaselines", f"--workdir={workdir}"]

    def steps_done(workdir: Path) -> int:
        return len(report.read_metrics(workdir / "metrics.jsonl"))

    def interrupt(number: int, after: int) -> subprocess.Popen:
        process = start("random_init", *arguments(tmp_path / "killed"))
        while process.poll() is None and steps_done(tmp_path / "killed") < after:
            time.sleep(0.02)
        process.send_signal(number)
        process.communicate(timeout=120)
        return process

    assert interrupt(signal.SIGTERM, 20).returncode == 75
    middle = steps_done(tmp_path / "killed")
    assert 20 <= middle < 400
    assert interrupt(signal.SIGKILL, middle + 50).returncode == -signal.SIGKILL
    for workdir in (tmp_path / "killed", tmp_path / "whole"):
        process = start("random_init", *arguments(workdir))
        process.communicate(timeout=300)
        assert process.returncode == 0
    artifacts = [(tmp_path / name / "distilled.npz").read_bytes() for name in ("killed", "whole")]
    assert artifacts[0] == artifacts[1]


def test_compilations_are_kept_where_the_user_has_not_said_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("DDJAX_CACHE_DIR", str(tmp_path))
    before = jax.config.values["jax_compilation_cache_dir"]
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        process.keep_compilations()
        assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path / "xla")
        jax.config.update("jax_compilation_cache_dir", "elsewhere")
        process.keep_compilations()
        assert jax.config.values["jax_compilation_cache_dir"] == "elsewhere"
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
