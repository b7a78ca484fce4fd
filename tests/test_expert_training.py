"""Training experts: a plain loop of SGD, checkpoints across epochs, stopped and resumed without loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import CLASSES, SHAPE, relative

from ddjax import experts, files, inits, networks
from ddjax.data import Dataset, to_device
from ddjax.expert_training import ExpertTraining, Gsam, check_room, gsam_gradient, train_experts
from ddjax.experts import Flat
from ddjax.training import Minibatch, steps_of_epoch

NETWORK = networks.mlp(SHAPE, CLASSES, widths=(4,))
INITS = inits.random(NETWORK)
# Five steps an epoch, the last of an incomplete minibatch; every fourth step, across the epochs' ends.
TRAINING = ExpertTraining(4, 4, lr=0.1, momentum=0.5, batch_size=80, augmentation="crop")


class StoppedError(Exception):
    """Stands for a kill."""


def trained(data: Dataset, directory: Path, *, total: int = 2, stop_at: Any = None, **changed: Any) -> Any:
    def listen(number: int, recorded: int) -> None:
        if (number, recorded) == stop_at:
            raise StoppedError

    given = {"seed": 3, "directory": directory, "total": total, "save_seconds": 0, "listener": listen}
    return train_experts(NETWORK, INITS, data, TRAINING, **(given | changed))


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@pytest.mark.slow
def test_a_kill_inside_an_expert_loses_nothing(few_digits, tmp_path):
    assert steps_of_epoch(len(few_digits.train), 80) == 5
    seen: list[tuple[int, int]] = []
    trained(few_digits, tmp_path / "whole", finished=lambda entries: seen.append((len(entries), 0)))
    assert seen == [(1, 0), (2, 0)]
    for stop in ((0, 3), (1, 2)):
        with pytest.raises(StoppedError):
            trained(few_digits, tmp_path / "halves", stop_at=stop)
    again: list[tuple[int, int]] = []
    found = trained(few_digits, tmp_path / "halves", listener=lambda *at: again.append(at))
    # After the kill at the second checkpoint of expert 1 the first, which was saved, is not trained again.
    assert again == [(1, 2), (1, 3), (1, 4)]
    assert contents(tmp_path / "halves") == contents(tmp_path / "whole")
    assert not list((tmp_path / "halves" / "unfinished").glob("*.npz"))
    assert found.steps.tolist() == [0, 4, 8, 12, 16]
    assert np.all(found.accuracy > 40)
    # More of them are added to those that are there; the third has weights of its own.
    more = trained(few_digits, tmp_path / "halves", total=3).stacked()
    np.testing.assert_array_equal(more[:2], found.stacked())
    assert len({one.tobytes() for one in more[:, 0]}) == 3
    assert trained(few_digits, tmp_path / "halves", total=1).stacked().shape[0] == 3


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_it_is_a_plain_loop_of_sgd(few_digits, tmp_path):
    training = ExpertTraining(2, 4, lr=0.1, momentum=0.5, weight_decay=0.01, batch_size=80)
    found = train_experts(NETWORK, INITS, few_digits, training, seed=3, total=1, directory=tmp_path)
    init_key, epochs_key = jax.random.split(jax.random.fold_in(jax.random.key(3), 0))
    theta, moves = INITS.sample(init_key), None
    data, t = to_device(few_digits.train), 0
    flat, weights = Flat.of(NETWORK), [np.asarray(Flat.of(NETWORK).vector(theta))]

    @jax.jit
    def gradient(params: Any, rows: jax.Array) -> Any:
        def loss(params: Any) -> jax.Array:
            logits = NETWORK.apply(params, data.inputs_at(rows))
            return optax.softmax_cross_entropy_with_integer_labels(logits, data.labels[rows]).mean()

        return jax.grad(loss)(params)

    for epoch in range(2):
        order = jax.random.permutation(jax.random.fold_in(epochs_key, epoch), len(data.labels))
        for start in range(0, len(order), 80):
            if t == 8:
                break
            grads = gradient(theta, order[start : start + 80])
            grads = jax.tree.map(lambda g, p: g + 0.01 * p, grads, theta)
            moves = grads if moves is None else jax.tree.map(lambda m, g: 0.5 * m + g, moves, grads)
            theta, t = jax.tree.map(lambda p, m: p - 0.1 * m, theta, moves), t + 1
            if t % 4 == 0:
                weights.append(np.asarray(flat.vector(theta)))
    assert relative(found.trajectories[0], np.stack(weights)) < 1e-6


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_gsam_is_its_formula():
    rng = np.random.default_rng(0)
    matrix, theta = rng.normal(size=(5, 5)), rng.normal(size=5)

    def gradient(at: np.ndarray) -> np.ndarray:
        """Of ¼ Σ (M θ)⁴."""
        return matrix.T @ (matrix @ at) ** 3

    plain = gradient(theta)
    flat = gradient(theta + 0.05 * theta**2 * plain / np.linalg.norm(np.abs(theta) * plain))
    across = plain - (plain @ flat) * flat / (flat @ flat)

    def loss(params: Any, batch: Any) -> tuple[jax.Array, tuple[()]]:
        return jnp.sum((jnp.asarray(matrix) @ jnp.concatenate([params["a"], params["b"]])) ** 4) / 4, ()

    params = {"a": jnp.asarray(theta[:2]), "b": jnp.asarray(theta[2:])}
    batch = Minibatch(jnp.zeros(1), jnp.zeros(1), jnp.zeros(1))
    found, aux = gsam_gradient(Gsam(0.05, 0.4))(loss, params, batch)
    assert aux == ()
    assert relative(jnp.concatenate([found["a"], found["b"]]), flat - 0.4 * across) < 1e-12


def test_a_disk_that_is_too_small_is_refused_before_the_first_step(few_digits, tmp_path, monkeypatch):
    def full(directory: Path, size: int) -> None:
        raise files.WriteError(f"{directory}: expected room for {size:,} bytes; got No space left.")

    monkeypatch.setattr(files, "check_room", full)
    with pytest.raises(OSError, match="2 experts of 5 checkpoints of 275 weights are to be written: fewer"):
        trained(few_digits, tmp_path, listener=lambda *at: pytest.fail("it was trained"))
    asked: list[int] = []
    monkeypatch.setattr(files, "check_room", lambda directory, size: asked.append(size))
    check_room(tmp_path, NETWORK, count=7, checkpoints=5)
    assert 7 * 5 * 4 * 275 < asked[0] < 1.5 * 8 * 5 * 4 * 275 + 8 * 1024


def test_other_settings_are_refused_by_name(few_digits, tmp_path):
    experts.Directory(tmp_path, TRAINING.steps(len(few_digits.train)).tolist(), {"seed": 3}).open()
    with pytest.raises(ValueError, match=r"expected experts with .*or another directory"):
        trained(few_digits, tmp_path, seed=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"checkpoints": 0}, "checkpoints: expected"),
        ({"checkpoints": 1, "record_every": 0}, "record_every: expected"),
        ({"checkpoints": 1, "lr": 0.0}, "lr: expected"),
        ({"checkpoints": 1, "momentum": 1.0}, "momentum: expected"),
        ({"checkpoints": 1, "weight_decay": -1.0}, "weight_decay: expected"),
        ({"checkpoints": 1, "batch_size": 0}, "batch_size: expected"),
        ({"checkpoints": 1, "gsam": Gsam(0.0)}, "gsam: rho: expected"),
        ({"checkpoints": 1, "gsam": Gsam(alpha=-1.0)}, "gsam: alpha: expected"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ExpertTraining(**settings)
