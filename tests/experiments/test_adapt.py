"""Pools, adaptation and attack, as their users meet them."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from launchers import start
from problems import CLASSES, write_npz

from ddjax import artifact, inits, pool
from ddjax.data import load, resize
from ddjax.judge import evaluate
from ddjax.launch import EXIT_PREEMPTED, build_network, pools, results
from ddjax.launch.distillation import prepare
from experiments import adapt, attack, pretrain
from experiments import evaluate as evaluate_launcher

pytestmark = pytest.mark.slow

TINY: dict[str, Any] = {
    "num_outer_steps": 4,
    "inner_steps": 2,
    "inner_epochs": 1,
    "batch_size": 16,
    "num_eval_inits": 3,
    "num_val_inits": 2,
    "validate_every": 2,
    "record_every": 1,
}
POOL = {"network": "mlp", "num_train": 3, "num_held_out": 2, "epochs": 4, "batch_size": 16}
POOL_FILE = Path("pool") / "pool.npz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two data sets of three classes, a source and a target, and a pool of the source."""
    folder = tmp_path_factory.mktemp("adapt")
    for name, seed in (("source", 1), ("target", 2)):
        write_npz(folder / f"{name}.npz", np.random.default_rng(seed))
    settings: Any = POOL | {"dataset": str(folder / "source.npz"), "workdir": str(folder / "pool")}
    pretrain.run(pretrain.Config(**settings))
    return folder


def adaptation(folder: Path, workdir: Path, **changed: Any) -> adapt.Config:
    places: dict[str, Any] = {
        "dataset": str(folder / "target.npz"),
        "pool": str(folder / POOL_FILE),
        "workdir": str(workdir),
    }
    return adapt.Config(**(TINY | places | changed))


def attacking(folder: Path, workdir: Path, **changed: Any) -> attack.Config:
    places: dict[str, Any] = {"dataset": str(folder / "source.npz"), "pool": str(folder / POOL_FILE)}
    places |= {"workdir": str(workdir), "inner_steps": 1, "images_per_class_per_step": 2}
    return attack.Config(**(TINY | places | changed))


def test_a_pool_is_trained_recorded_and_found_trained(folder, capsys):
    members = pool.load(folder / POOL_FILE)
    assert (members.size("train"), members.size("held_out")) == (3, 2)
    facts = members.metadata
    assert (facts["dataset"], facts["network"], facts["image_shape"]) == ("source", "mlp", [8, 8, 1])
    assert facts["training"] == {
        "optimizer": "adam, cosine to 0",
        "epochs": 4,
        "batch_size": 16,
        "lr": 0.001,
    }
    result = json.loads((folder / "pool" / "result.json").read_text())
    for split in pool.SPLITS:
        assert result[split]["values"] == pytest.approx(members.accuracies(split).tolist())
        assert result[split]["mean"] > 60
    assert {"hardware", "versions", "command", "seconds", "seed"} <= set(result)
    before = (folder / POOL_FILE).read_bytes()
    settings: Any = POOL | {"dataset": str(folder / "source.npz"), "workdir": str(folder / "pool")}
    assert pretrain.run(pretrain.Config(**settings)) == result
    assert (folder / POOL_FILE).read_bytes() == before
    assert "is finished" in capsys.readouterr().out
    with pytest.raises(ValueError, match="epochs was 4, is 5"):
        pretrain.run(pretrain.Config(**(settings | {"epochs": 5})))


def test_a_killed_pretraining_continues_to_the_same_pool(folder, tmp_path):
    """SIGKILL after the first networks are saved; SIGTERM says that it was preempted; then to the end."""
    settings: Any = POOL | {"dataset": str(folder / "source.npz"), "num_train": 6, "epochs": 200}

    settings |= {"nets_per_chunk": 1}

    def interrupt(number: int, after: int) -> int:
        given = settings | {"workdir": str(tmp_path / "killed")}
        process = start("pretrain", *(f"--{name}={value}" for name, value in given.items()))
        while process.poll() is None and len(list((tmp_path / "killed").glob("parts/*.npz"))) < after:
            time.sleep(0.02)
        process.send_signal(number)
        process.communicate(timeout=120)
        return process.returncode

    assert interrupt(signal.SIGKILL, 1) == -signal.SIGKILL
    first = (tmp_path / "killed" / "parts" / "000000.npz").stat().st_mtime_ns
    assert interrupt(signal.SIGTERM, 3) == EXIT_PREEMPTED
    assert not (tmp_path / "killed" / "result.json").exists()
    for name in ("killed", "whole"):
        pretrain.run(pretrain.Config(**settings, workdir=str(tmp_path / name)))
    both = [(tmp_path / name / "pool.npz").read_bytes() for name in ("killed", "whole")]
    assert both[0] == both[1]
    assert (tmp_path / "killed" / "parts" / "000000.npz").stat().st_mtime_ns == first


def test_an_adaptation_is_scored_on_each_held_out_member_once(folder, tmp_path, capsys):
    result = adapt.LAUNCHER.run(adaptation(folder, tmp_path / "run"))
    members = pool.load(folder / POOL_FILE)
    data = load(folder / "target.npz")
    network = build_network(("mlp", {}), data)
    members = members.fit(network)
    expected, untouched = [], []
    phi = artifact.load(tmp_path / "run" / "distilled.npz")
    for member in range(2):
        theta = inits.pretrained(members, split="held_out", member=member)
        expected += evaluate(
            phi, network, theta, data.test, key=jax.random.key(0), num_inits=1
        ).values.tolist()
        logits = network.apply(theta.sample(jax.random.key(0)), jnp.asarray(data.test.encoded()))
        untouched.append(100 * float(np.mean(np.argmax(logits, -1) == data.test.labels)))
    assert result["test_accuracy"]["values"] == pytest.approx(expected, abs=1e-4)
    assert result["init"] == "pretrained(source, held_out)"
    assert result["pool"]["dataset"] == "source"
    compared = result["baselines"]
    assert compared["no adaptation"]["values"] == pytest.approx(untouched, abs=1e-4)
    assert set(compared) == {
        *pools.REAL,
        "no adaptation",
        "all of the target",
        "all of the target, from scratch",
    }
    assert all(compared[name]["n"] == 2 for name in (*pools.REAL, "no adaptation"))
    assert all(compared[name]["lr"] in pools.TUNING.learning_rates for name in pools.REAL)
    assert compared["all of the target"]["mean"] > 90
    told = capsys.readouterr().out
    assert "weights from pretrained(source, train)" in told
    assert "no adaptation" in told
    assert adapt.LAUNCHER.run(adaptation(folder, tmp_path / "run")) == result


def test_one_known_member_is_adapted_and_scored(folder, tmp_path):
    settings = adaptation(folder, tmp_path / "run", fixed=True, member=2, baselines=False)
    result = adapt.LAUNCHER.run(settings)
    assert result["init"] == "pretrained(source, train 2)"
    assert result["test_accuracy"]["n"] == result["baselines"]["no adaptation"]["n"] == 1
    network = build_network(("mlp", {}), load(folder / "target.npz"))
    theta = inits.pretrained(pool.load(folder / POOL_FILE).fit(network), member=2)
    phi = artifact.load(tmp_path / "run" / "distilled.npz")
    again = evaluate(phi, network, theta, load(folder / "target.npz").test, key=jax.random.key(5))
    assert result["test_accuracy"]["values"] == again.values.tolist()


def test_images_of_another_size_are_brought_to_the_pool_s(folder, tmp_path):
    write_npz(tmp_path / "large.npz", np.random.default_rng(3), shape=(12, 10, 1))
    given: dict[str, Any] = {"dataset": str(tmp_path / "large.npz"), "baselines": False}
    with pytest.raises(
        ValueError, match=r"image shape .*expected \[12, 10, 1\]; got \[8, 8, 1\]. .*--resize"
    ):
        prepare("adapt", adaptation(folder, tmp_path / "run", **given), adapt.build)
    assert not (tmp_path / "run").exists()
    ready = prepare("adapt", adaptation(folder, tmp_path / "run", **given, resize=8), adapt.build)
    assert ready.data.image_shape == (8, 8, 1)
    assert np.array_equal(ready.data.mean, resize(load(tmp_path / "large.npz"), 8).mean)
    colour = adaptation(folder, tmp_path / "run", **given, resize=8, channels=3)
    with pytest.raises(ValueError, match="image shape"):
        prepare("adapt", colour, adapt.build)


def test_an_attack_counts_what_it_says(folder, tmp_path, capsys):
    result = attack.LAUNCHER.run(attacking(folder, tmp_path / "run", attacked=2, target=0))
    data = load(folder / "source.npz")
    network = build_network(("mlp", {}), data)
    members = pool.load(folder / POOL_FILE).fit(network)
    held_out = members.members("held_out")
    phi = artifact.load(tmp_path / "run" / "distilled.npz").schedule
    assert phi.lrs is not None
    assert phi.inputs.shape == (1, 6, 8, 8, 1)
    assert phi.lrs.shape == (1, 1)
    x, y = jnp.asarray(data.test.encoded()), data.test.labels

    def poisoned(theta: Any) -> np.ndarray:
        def loss(theta: Any) -> jax.Array:
            chances = jax.nn.log_softmax(network.apply(theta, phi.inputs[0]))
            return -(phi.labels[0] * chances).sum(-1).mean()

        lr = phi.lrs[0, 0] if phi.lrs is not None else 0.0
        return jax.tree.map(lambda p, g: p - lr * g, theta, jax.grad(loss)(theta))

    for step, row in ((poisoned, result), (lambda theta: theta, result["baselines"]["no step"])):
        for member in range(2):
            theta = step(jax.tree.map(lambda leaf, member=member: leaf[member], held_out))
            told = np.argmax(network.apply(theta, x), -1)
            rate, others = 100 * np.mean(told[y == 2] == 0), 100 * np.mean((told == y)[y != 2])
            assert row["attacked_to_target"]["values"][member] == pytest.approx(float(rate), abs=1e-3)
            assert row["other_classes"]["values"][member] == pytest.approx(float(others), abs=1e-3)
    assert result["baselines"]["random real images, wrong labels"]["lr"] in pools.LEARNING_RATES
    assert "2 taken for 0, %" in capsys.readouterr().out
    again = attack.LAUNCHER.run(attacking(folder, tmp_path / "run", attacked=2, target=0))
    assert again == result


def test_an_attack_is_learnt(folder, tmp_path):
    settings = attacking(
        folder, tmp_path / "run", num_outer_steps=150, validate_every=25, batch_size=64, baselines=False
    )
    result = attack.LAUNCHER.run(settings)
    before = result["baselines"]["no step"]
    assert before["attacked_to_target"]["mean"] < 20
    assert result["attacked_to_target"]["mean"] > 60
    assert result["other_classes"]["mean"] > 60


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pool": ""}, "pool: expected the pool.npz of `ddjax pretrain`; got none"),
        ({"pool": "nowhere.npz"}, "ddjax pretrain"),
        ({"network": "convnet"}, "expected weights of convnet|depth|convnet"),
        ({"fixed": True, "member": 3}, "one of the 3 train members"),
    ],
)
def test_bad_adaptations_are_refused_before_anything_is_written(folder, tmp_path, settings, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        prepare("adapt", adaptation(folder, tmp_path / "run", **settings), adapt.build)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attacked": 3}, "attacked: expected one of the classes 0 to 2 of source; got 3"),
        ({"target": CLASSES}, "target: expected one of the classes"),
        ({"attacked": 1, "target": 1}, "got 1 twice"),
        ({"dataset": "target"}, "the pool's data: expected target; got source"),
    ],
)
def test_bad_attacks_are_refused_before_anything_is_written(folder, tmp_path, settings, message):
    if "dataset" in settings:
        settings = {"dataset": str(folder / f"{settings['dataset']}.npz")}
    with pytest.raises(ValueError, match=message):
        prepare("attack", attacking(folder, tmp_path / "run", **settings), attack.build)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "nowhere.npz"}, "nowhere"),
        ({"batch_size": 10**6}, "batch_size: expected at most the 108 training images"),
        ({"lr": 0.0}, "lr: expected a finite number > 0"),
        ({"init": "xavier"}, "xavier_normal"),
    ],
)
def test_bad_pools_are_refused_before_anything_is_written(folder, tmp_path, settings, message):
    given: Any = POOL | {"dataset": str(folder / "source.npz"), "workdir": str(tmp_path / "run")} | settings
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        pretrain.run(pretrain.Config(**given))
    assert not (tmp_path / "run").exists()


def test_digits_teach_networks_that_adapt_to_mnist(tmp_path):
    if not (Path(os.environ.get("TFDS_DATA_DIR", "nowhere")) / "mnist").is_dir():
        pytest.skip("MNIST is not in TFDS_DATA_DIR")
    source: Any = {"dataset": "digits", "resize": 28, "network": "mlp", "epochs": 6}
    source |= {"num_train": 4, "num_held_out": 2, "workdir": str(tmp_path / "pool")}
    pretrain.run(pretrain.Config(**source))
    settings = adapt.Config(
        dataset="mnist",
        pool=str(tmp_path / POOL_FILE),
        workdir=str(tmp_path / "run"),
        num_outer_steps=150,
        inner_steps=2,
        batch_size=256,
        validate_every=50,
        baselines=False,
    )
    result = adapt.LAUNCHER.run(settings)
    assert result["baselines"]["no adaptation"]["mean"] < 60
    assert result["test_accuracy"]["mean"] > result["baselines"]["no adaptation"]["mean"] + 5
    assert "distilled images" in results.table(result)


def test_an_artifact_is_evaluated_on_a_pool(folder, tmp_path):
    result = adapt.LAUNCHER.run(adaptation(folder, tmp_path / "run", baselines=False))
    settings = evaluate_launcher.Config(
        artifact=str(tmp_path / "run" / "distilled.npz"),
        dataset=str(folder / "target.npz"),
        pool=str(folder / POOL_FILE),
        baselines=False,
    )
    again = evaluate_launcher.run(settings)
    assert again["test_accuracy"] == result["test_accuracy"]
    with pytest.raises(ValueError, match="pool: expected it alone; got --fixed too"):
        evaluate_launcher.run(dataclasses.replace(settings, fixed=True))
