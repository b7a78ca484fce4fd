"""The launchers of the 2018 paper's tables and plots, as their users meet them."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from absl import flags
from launchers import TINY
from problems import CLASSES, write_npz

from ddjax import inits, linear, networks
from ddjax import pool as pools
from ddjax.launch import (
    Scores,
    comparison,
    distillation,
    load_data,
    parse,
    planning,
    regenerate,
    results,
    sweeps,
)
from ddjax.launch.tables import Cell, Published, Run, Table
from ddjax.pool import Pool
from experiments import baselines, finetune, fixed_init, linear_bound, paper, sweep

QUICK: dict[str, Any] = {
    "network": "mlp",
    "inner_steps": 2,
    "inner_epochs": 2,
    "num_eval_inits": 3,
    "num_tuning_inits": 2,
    "num_candidates": 4,
    "num_selection_inits": 2,
    "num_kept": 2,
    "num_clusterings": 1,
    "learning_rates": "0.01,0.1",
}


@pytest.fixture
def dataset(tmp_path, rng) -> Path:
    return write_npz(tmp_path / "spots.npz", rng)


def quick(dataset: Path, workdir: Path, **settings: Any) -> baselines.Config:
    places: dict[str, Any] = {"dataset": str(dataset), "workdir": str(workdir)}
    return baselines.Config(**(QUICK | places | settings))


# Baselines.


@pytest.mark.slow
def test_all_baselines_are_measured_kept_and_found(dataset, tmp_path, capsys):
    settings = quick(dataset, tmp_path / "run")
    result = baselines.run(settings)
    assert list(result["baselines"]) == list(comparison.CHOICES)
    assert result["layout"] == {"steps": 2, "epochs": 2, "images": 2 * CLASSES}
    assert result["baselines"]["random real"]["n"] == 3
    assert result["baselines"]["random real"]["lr"] in (0.01, 0.1)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json",
        "scores.json",
        "report.html",
        "result.json",
    }
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    assert "optimized real" in capsys.readouterr().out
    assert baselines.run(settings) == result
    assert "is finished" in capsys.readouterr().out


@pytest.mark.slow
def test_a_stopped_measurement_continues_with_what_is_missing(dataset, tmp_path, monkeypatch):
    wanted = ("class mean", "k-NN, class mean", "k-NN, k-means")
    settings = {"baselines": "; ".join(wanted)}
    whole = baselines.run(quick(dataset, tmp_path / "whole", **settings))["baselines"]
    add = Scores.add

    def stop(self: Scores, name: str, score: Any) -> None:
        add(self, name, score)
        if name == wanted[1]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Scores, "add", stop)
        with pytest.raises(KeyboardInterrupt):
            baselines.run(quick(dataset, tmp_path / "stopped", **settings))
    known = json.loads((tmp_path / "stopped" / "scores.json").read_text())
    assert list(known) == list(wanted[:2])
    # What is there is not measured again: a mark on it stays.
    known["class mean"]["mark"] = 1
    (tmp_path / "stopped" / "scores.json").write_text(json.dumps(known))
    continued = baselines.run(quick(dataset, tmp_path / "stopped", **settings))["baselines"]
    assert continued["class mean"].pop("mark") == 1
    assert continued == whole


@pytest.mark.slow
def test_the_fixed_theta_is_that_of_fixed_init(dataset, tmp_path):
    settings = quick(dataset, tmp_path / "run", theta="fixed", seed=3)
    data = load_data(settings)
    setting = comparison.setting_of(settings, data)
    config = fixed_init.Config(dataset=str(dataset), network="mlp", seed=3)
    theirs = fixed_init.LAUNCHER.parts(config, data).inits
    key = jax.random.key(0)
    jax.tree.map(np.testing.assert_array_equal, setting.inits.sample(key), theirs.sample(key))


@pytest.mark.slow
def test_a_pool_s_held_out_members_are_scored(dataset, tmp_path):
    data = load_data(quick(dataset, tmp_path / "run"))
    network = networks.mlp(data.image_shape, CLASSES, widths=(6,))
    params = jax.vmap(inits.random(network).sample)(jax.random.split(jax.random.key(0), 5))
    facts = {"dataset": "spots", "network": "mlp", "network_settings": {"widths": [6]}}
    pools.save(tmp_path / "pool.npz", Pool(jax.device_get(params), 3, np.zeros(5, np.float32), facts))
    settings = quick(
        dataset,
        tmp_path / "run",
        theta="pool",
        pool=str(tmp_path / "pool.npz"),
        network=None,
        baselines="k-means",
    )
    result = baselines.run(settings)
    assert result["init"] == "pretrained(spots, held_out)"
    assert result["baselines"]["k-means"]["n"] == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"baselines": "random real; kmeans"}, "Did you mean 'k-means'.*semicolons"),
        ({"learning_rates": "0.1;0.2"}, "learning_rates: expected numbers"),
        ({"learning_rates": ""}, "learning_rates: expected one or more"),
        ({"epochs": "0"}, "epochs: expected a whole number >= 1"),
        ({"num_kept": 9}, "num_candidates"),
        ({"images_per_class_per_step": 100}, "images per class: expected at most"),
        ({"theta": "pool"}, "pool: expected the pool.npz"),
    ],
)
def test_bad_comparisons_are_refused_before_anything_is_written(dataset, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        baselines.run(quick(dataset, tmp_path / "run", **settings))
    assert not (tmp_path / "run").exists()


# Sweeps.


def swept(dataset: Path, workdir: Path, **settings: Any) -> sweep.Config:
    places: dict[str, Any] = {"dataset": str(dataset), "workdir": str(workdir), "inner_steps": 1}
    return sweep.Config(**(TINY | places | settings))


@pytest.mark.slow
def test_a_sweep_s_plot_comes_from_the_records_of_its_runs(dataset, tmp_path):
    settings = swept(dataset, tmp_path / "sweep", axis="images", values="2", seeds="0,1", of="fixed_init")
    result = sweep.run(settings)
    assert [(point["value"], point["images"]) for point in result["points"]] == [(2, 6)]
    own = [json.loads((tmp_path / "sweep" / f"2-seed{seed}" / "result.json").read_text()) for seed in (0, 1)]
    values = [one["test_accuracy"]["values"][0] for one in own]
    assert result["points"][0]["test_accuracy"]["values"] == values
    assert result["points"][0]["test_accuracy"]["n"] == 2
    picture = (tmp_path / "sweep" / "sweep.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    sweeps.draw(
        tmp_path / "again.png", json.loads((tmp_path / "sweep" / "result.json").read_text()), sweep.PUBLISHED
    )
    assert (tmp_path / "again.png").read_bytes() == picture


@pytest.mark.slow
def test_a_sweep_continues_after_its_finished_runs(dataset, tmp_path, monkeypatch):
    settings = swept(dataset, tmp_path / "sweep", axis="init", values="xavier_normal,orthogonal")
    first = sweep.run(settings)
    before = (tmp_path / "sweep" / "orthogonal-seed0" / "metrics.jsonl").stat().st_mtime_ns
    monkeypatch.setattr(distillation, "distil", None)
    assert sweep.run(settings)["points"] == first["points"]
    assert (tmp_path / "sweep" / "orthogonal-seed0" / "metrics.jsonl").stat().st_mtime_ns == before
    assert [point["value"] for point in first["points"]] == ["xavier_normal", "orthogonal"]


def test_every_axis_sets_what_it_names(dataset, tmp_path):
    def varied(axis: str, values: str) -> list[Any]:
        found = sweeps.cells(swept(dataset, tmp_path, axis=axis, values=values, seeds="0,1"))
        setting = sweeps.AXES[axis].setting
        assert [cell.seed for cell in found] == [0, 1] * (len(found) // 2)
        return [getattr(cell.config, setting) for cell in found[::2]]

    assert varied("labels", "softmax, free") == ["softmax", "free"]
    assert varied("init", "orthogonal") == ["orthogonal"]
    for axis in ("steps", "epochs", "images", "images_per_step"):
        assert varied(axis, "1,5") == [1, 5]


def test_the_rate_of_labels_has_an_effect_where_labels_are_swept(dataset, tmp_path):
    given = {"outer_lr_of_labels": 0.1, "values": "softmax"}
    assert "outer_lr_of_labels" in swept(dataset, tmp_path, axis="epochs", **given).idle()
    assert "outer_lr_of_labels" not in swept(dataset, tmp_path, axis="labels", **given).idle()


def test_baselines_are_drawn_where_all_runs_have_them(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        sweeps.figures, "lines", lambda path, lines, **settings: drawn.append([line.name for line in lines])
    )
    score = {"mean": 50.0, "std": 1.0, "n": 1, "values": [50.0]}
    record = {
        "axis": "steps",
        "of": "random_init",
        "dataset": "mnist",
        "network": "lenet",
        "points": [
            {"value": value, "images": 10, "test_accuracy": score, "baselines": {"k-means": score}}
            for value in (1, 2)
        ],
    }
    sweeps.draw(tmp_path / "with.png", record, {})
    record["points"][0]["baselines"] = {}
    sweeps.draw(tmp_path / "without.png", record, {})
    assert drawn == [["distilled images", "k-means"], ["distilled images"]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"values": ""}, "values: expected one or more"),
        ({"values": "1,1"}, "each once"),
        ({"values": "1,x"}, "values: expected numbers"),
        ({"values": "0,1"}, "values: expected a whole number >= 1"),
        ({"seeds": ""}, "seeds: expected one or more"),
        ({"distributed": True}, "distributed: expected one process"),
        ({"axis": "labels", "values": "wet", "of": "fixed_init"}, "label_form: expected"),
    ],
)
def test_bad_sweeps_are_refused(dataset, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        sweep.run(swept(dataset, tmp_path / "sweep", **settings))
    assert not (tmp_path / "sweep").exists()


# Fine-tuning.


@pytest.fixture(scope="module")
def large_images(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.npz"
    return write_npz(path, np.random.default_rng(0), shape=(64, 64, 3))


@pytest.fixture(scope="module")
def alexnet_file(tmp_path_factory) -> Path:
    """Weights made here, of a narrow AlexNet with four classes."""
    network, tmp_path = networks.alexnet((64, 64, 3), 4, width=2), tmp_path_factory.mktemp("weights")
    params = jax.jit(inits.random(network).sample)(jax.random.key(0))
    leaves = jax.tree_util.tree_leaves_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    np.savez(tmp_path / "narrow.npz", **dict(zip(names, (leaf for _, leaf in leaves), strict=True)))
    return tmp_path / "narrow.npz"


def tuned(large_images: Path, alexnet_file: Path, workdir: Path, **settings: Any) -> finetune.Config:
    own: dict[str, Any] = {
        "network": "alexnet",
        "width": 2,
        "inner_steps": 1,
        "inner_epochs": 3,
        "pixels": "imagenet",
        "dataset": str(large_images),
        "workdir": str(workdir),
        "weights": str(alexnet_file),
        "baselines": False,
    }
    return finetune.Config(**(TINY | own | settings))


@pytest.mark.slow
def test_alexnet_is_fine_tuned_from_a_file_with_a_fresh_last_layer(large_images, alexnet_file, tmp_path):
    settings = tuned(large_images, alexnet_file, tmp_path / "run")
    result = finetune.LAUNCHER.run(settings)
    assert result["test_accuracy"]["n"] == 1
    assert result["init"] == "loaded(narrow)"
    assert result["layout"] == {"steps": 1, "epochs": 3, "images": CLASSES}
    with np.load(tmp_path / "run" / "distilled.npz") as file:
        assert file["images"].shape == (1, CLASSES, 64, 64, 3)
        assert file["mean"].tolist() == pytest.approx([0.485, 0.456, 0.406])
    parts = distillation.prepare("finetune", settings, finetune.build).parts
    params = jax.jit(parts.inits.sample)(jax.random.key(0))
    with np.load(alexnet_file) as file:
        np.testing.assert_array_equal(params["fc2"]["kernel"], file["fc2.kernel"])
    assert params["fc3"]["kernel"].shape == (128, CLASSES)


@pytest.mark.slow
def test_memory_of_a_fine_tuning_is_known_beforehand_and_what_lessens_it(
    large_images, alexnet_file, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("DDJAX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(planning, "BUDGET_SECONDS", 0.1)  # for one other strategy
    settings = tuned(large_images, alexnet_file, tmp_path / "run", dry_run=True, memory="reverse")
    assert finetune.LAUNCHER.run(settings) == {}
    told = capsys.readouterr().out
    (needed,) = re.findall(r"([\d.]+) MiB of [\d,.]+ MiB in all", told)
    assert not (tmp_path / "run").exists()
    tight = tuned(
        large_images,
        alexnet_file,
        tmp_path / "run",
        dry_run=True,
        memory="reverse",
        memory_limit=0.95 * float(needed) / 2**10,
    )
    with pytest.raises(ValueError, match="memory: expected outer steps that need at most"):
        finetune.LAUNCHER.run(tight)
    assert re.search(r"--(memory|batch_size|inner_epochs)=\S+: [\d.]+ MiB in all", capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": ""}, "weights: expected a file; got none"),
        ({"weights": "nowhere.npz"}, "there is none at nowhere.npz"),
        ({"last_layer": "loaded"}, r"fc3.bias is \[4\] instead of \[3\]"),
        ({"width": 3}, r"conv1.bias is \[2\] instead of \[3\]"),
        ({"network": "mlp", "width": None}, "network: expected one of alexcifar, alexnet"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_anything_is_written(
    large_images, alexnet_file, tmp_path, settings, message
):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        finetune.LAUNCHER.run(tuned(large_images, alexnet_file, tmp_path / "run", **settings))
    assert not (tmp_path / "run").exists()


# The linear analysis.


@pytest.mark.slow
def test_the_linear_analysis_is_measured_and_drawn(tmp_path, capsys):
    settings = linear_bound.Config(
        workdir=str(tmp_path / "run"),
        num_features=2,
        num_examples=200,
        num_unseen=20,
        num_starts=2,
        num_outer_steps=2000,
    )
    result = linear_bound.run(settings)
    assert result["largest_difference"] < 1e-6
    families = result["families"]
    assert [family["least_points"] for family in families.values()] == [2, 2, 1]
    anywhere = families["any initial weights"]
    assert anywhere["one_fewer"]["largest_unseen_excess"] > 0.1
    assert anywhere["enough"]["largest_unseen_excess"] < 1e-12
    assert anywhere["enough"]["largest_unseen_distance"] < 1e-6
    assert [row["num_points"] for row in anywhere["points"]] == [1, 2, 3, 4]
    assert (tmp_path / "run" / "linear_bound.png").read_bytes().startswith(b"\x89PNG")
    before = capsys.readouterr().out
    assert "any initial weights" in before
    assert linear_bound.run(settings) == json.loads((tmp_path / "run" / "result.json").read_text())
    assert "is finished" in capsys.readouterr().out


# Tables.


def asked_for(table: str, dataset: str, budget: str) -> Table:
    config = paper.Config(
        table=table, dataset=dataset, budget=budget, usps="usps.npz", svhn="svhn_cropped", workdir="runs"
    )
    return paper.table_of(config)


# Runs and cells, small and full.
SIZES: dict[tuple[str, str], tuple[tuple[int, int], tuple[int, int]]] = {
    ("basic", "mnist"): ((9, 16), (9, 16)),
    ("basic", "cifar10"): ((4, 15), (6, 15)),
    ("basic", "digits"): ((9, 16), (9, 16)),
    ("adaptation", "mnist"): ((15, 24), (15, 24)),
    ("attack", "mnist"): ((4, 12), (4, 12)),
    ("attack", "cifar10"): ((4, 12), (4, 12)),
    ("ablation", "mnist"): ((11, 33), (11, 33)),
    ("linear", "mnist"): ((1, 12), (1, 12)),
}


@pytest.mark.parametrize(("which", "budget"), [*itertools.product(SIZES, regenerate.BUDGETS)])
def test_the_runs_of_every_table_are_command_lines_that_parse(which, budget):
    name, dataset = which
    table = asked_for(name, dataset, budget)
    assert (len(table.runs), len(table.cells)) == SIZES[which][regenerate.BUDGETS.index(budget)]
    assert {name for cell in table.cells for name in cell.runs} <= {run.name for run in table.runs}
    assert len({(cell.row, cell.column) for cell in table.cells}) == len(table.cells)
    assert len({run.name for run in table.runs}) == len(table.runs)
    for run in table.runs:
        module: Any = __import__(f"experiments.{run.launcher}", fromlist=["Config"])
        argv = [run.launcher, *regenerate.command(run, Path("runs") / run.name)]
        parsed = parse(module.Config, argv, flags.FlagValues())
        for flag_name, value in run.flags.items():
            assert getattr(parsed, flag_name) == value, (run.name, flag_name)


def test_the_full_budget_is_the_paper_s():
    table = asked_for("basic", "mnist", "full")
    steps = {run.flags.get("num_outer_steps") for run in table.runs if run.launcher != "baselines"}
    assert steps == {23_600}
    by_name = {run.name: run for run in table.runs}
    assert by_name["random-100"].flags["num_eval_inits"] == 200
    assert by_name["baselines"].flags["num_eval_inits"] == 200
    cifar = asked_for("basic", "cifar10", "full")
    assert {run.flags.get("num_outer_steps") for run in cifar.runs} == {19_600, None}


def test_adaptation_needs_data_to_adapt_to():
    with pytest.raises(ValueError, match=r"--usps=path/to/usps\.npz"):
        paper.table_of(paper.Config(table="adaptation"))


def test_published_accuracies_of_sweeps_are_of_networks_that_there_are():
    assert {launcher for launcher, _, _ in sweep.PUBLISHED} == {"random_init", "fixed_init"}
    assert {network for _, _, network in sweep.PUBLISHED} <= {*networks.NAMES}


def test_flags_stand_on_the_command_line_as_they_always_did():
    told = {
        (*which, run.name): " ".join(regenerate.command(run, Path("w")))
        for which in (("basic", "cifar10", "small"), ("adaptation", "mnist", "full"))
        for run in asked_for(*which).runs
    }
    assert told["basic", "cifar10", "small", "random-100"] == (
        "--dataset=cifar10 --nobaselines --network=alexcifar --initial_images=k_means --label_confidence=0.9 "
        "--inner_epochs=10 --inner_optimizer=adam --inner_lr=0.001 --window=20 --horizon=random "
        "--batch_size=256 --num_inits=1 --outer_lr=0.03 --num_val_inits=4 --num_outer_steps=600 "
        "--num_eval_inits=50 --validate_every=50 --record_every=5 --workdir=w"
    )
    assert told["adaptation", "mnist", "full", "mnist-to-usps-fixed2"] == (
        "--pool=runs/pretrain-mnist/pool.npz --dataset=usps.npz --initial_images=k_means "
        "--label_confidence=0.9 --resize=28 --inner_epochs=10 --inner_optimizer=momentum --inner_lr=0.01 "
        "--batch_size=512 --outer_lr=0.03 --fixed --nobaselines --num_outer_steps=23600 "
        "--augment=scale+rotate --member=2 --workdir=w"
    )


def test_the_linear_table_is_of_the_launcher_s_defaults():
    config, table = linear_bound.Config(), asked_for("linear", "mnist", "small")
    assert table.unit == f"D = {config.num_features}"
    names = list(linear.distributions(config.num_features, config.seed))
    assert list(dict.fromkeys(cell.row for cell in table.cells)) == names
    assert table.cells[0].published == Published(config.num_features)


def made_up(*_: Any) -> Table:
    runs = [
        *(Run(f"fixed{seed}", "fixed_init", {**TINY, "seed": seed, "baselines": False}) for seed in (0, 1)),
        Run("baselines", "baselines", {**QUICK, "baselines": "k-means; class mean"}, is_pictured=True),
    ]
    runs = [run._replace(flags={**run.flags, "dataset": made_up.dataset}) for run in runs]
    return Table(
        runs,
        [
            Cell("fixed init", "spots", ("fixed0", "fixed1"), ("test_accuracy",), Published(96.6)),
            Cell("k-means", "spots", ("baselines",), ("baselines", "k-means"), Published(76.4, 9.5)),
            Cell("absent", "spots", ("baselines",), ("baselines", "random real")),
            Cell("k-means", "images", ("baselines",), ("layout", "images")),
        ],
    )


@pytest.mark.slow
def test_a_table_is_run_written_and_found_again(dataset, tmp_path, monkeypatch, capsys):
    made_up.dataset = str(dataset)
    monkeypatch.setattr(paper, "table_of", made_up)
    settings = paper.Config(
        dataset=str(dataset), workdir=str(tmp_path / "runs"), output=str(tmp_path / "results")
    )
    records = paper.run(settings)
    record = json.loads((tmp_path / "results" / "paper-basic-spots-small.json").read_text())
    ours = {(cell["row"], cell["column"]): cell["ours"] for cell in record["cells"]}
    values = [records[f"fixed{seed}"]["test_accuracy"]["values"][0] for seed in (0, 1)]
    assert ours["fixed init", "spots"] == {
        "mean": pytest.approx(np.mean(values)),
        "std": pytest.approx(np.std(values)),
        "n": 2,
    }
    assert ours["absent", "spots"] is None
    assert ours["k-means", "images"]["mean"] == 2 * CLASSES
    assert record["runs"]["fixed1"]["run_with"].startswith("python -m experiments.fixed_init --network=mlp")
    lines = (tmp_path / "results" / "paper-basic-spots-small.txt").read_text().splitlines()
    assert re.split(r"\s{2,}", lines[0]) == ["%", "spots", "the paper's", "images"]
    assert next(line for line in lines if line.startswith("k-means")).split()[-4:] == [
        "76.4",
        "±",
        "9.5",
        "6.0",
    ]
    assert "–" in next(line for line in lines if line.startswith("absent"))
    capsys.readouterr()
    monkeypatch.setattr(distillation, "distil", None)
    paper.run(settings)
    assert capsys.readouterr().out.count("is finished") == 3


def test_a_dry_run_tells_the_commands_and_runs_nothing(tmp_path, capsys):
    settings = paper.Config(workdir=str(tmp_path / "runs"), output=str(tmp_path / "results"), dry_run=True)
    assert paper.run(settings) == {}
    assert "python -m experiments.baselines --dataset=mnist" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_result_without_distilled_images_is_a_table_of_baselines():
    score = {"mean": 50.0, "std": 1.0, "n": 2, "values": [49.0, 51.0], "lr": 0.1, "epochs": 3}
    text = results.table({"baselines": {"k-means": score}})
    assert "learning rate 0.1, epochs 3" in text
    assert "distilled" not in text
