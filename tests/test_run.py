"""A run: it stops where it diverges, saves when it is told to, refuses what cannot work."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import relative, small_form, small_run, three_digits

import ddjax
from ddjax import Recipe, forms, report
from ddjax.checkpoint import Store
from ddjax.types import Method

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data():
    return three_digits()


def exploding(at_step: int) -> optax.GradientTransformation:
    """Gradient descent that throws φ to infinity at one outer step."""

    def update(updates, state, params=None):
        del params
        scale = jnp.where(state == at_step, jnp.inf, 0.01)
        return jax.tree.map(lambda g: -scale * g, updates), state + 1

    return optax.GradientTransformation(lambda params: jnp.int32(0), update)


class Luck(NamedTuple):
    luck: jax.Array


def unlucky(chance: float) -> Method:
    """Pulls the images towards zero; with some chance an outer step's draw makes the loss NaN."""

    def loss(schedule, state, luck, key):
        del state, key
        value = jnp.sum(schedule.inputs**2) * (1 + luck) + jnp.sum(schedule.lrs)
        return jnp.where(luck < chance, jnp.nan, value), Luck(luck)

    return Method(
        sample=lambda data, key: jax.random.uniform(key),
        loss=loss,
        name="unlucky",
        recipe=Recipe(),
        outer=ddjax.optimizers.unrolled_outer,
    )


def unlucky_run(data, *, steps: int = 260, chance: float = 0.008, **settings) -> ddjax.Run:
    defaults = {"key": jax.random.key(3), "form": small_form(inner_lr=0.1), "optimizer": optax.sgd(1e-3)}
    defaults |= {"on_nonfinite": "rollback"}
    return ddjax.distill(data, unlucky(chance), num_outer_steps=steps, **(defaults | settings))


def saved_step(workdir: Path) -> int:
    return int(Store(workdir / "checkpoints").paths()[0].stem[5:])


def test_metrics_hold_every_diagnostic_of_every_step(data, tmp_path):
    run = small_run(data, workdir=tmp_path)
    records = report.read_metrics(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert len(run.history) == 6
    for record in records:
        assert len(record["lrs"]) == len(record["inner_losses"]) == 4
        assert record["clipped"] == (record["grad_norm"] > 0.2)
        assert 0 <= record["accuracy"] <= 100


def test_divergence_stops_the_run_and_keeps_the_last_finite_state(data, tmp_path):
    with pytest.raises(ddjax.DivergedError) as caught:
        small_run(data, optimizer=exploding(3), workdir=tmp_path)
    message = str(caught.value)
    assert "outer step 4 is not finite" in message
    assert "inner_losses" in message
    assert "largest learning rate" in message
    assert "epoch 0, step" in message
    assert saved_step(tmp_path) == 3
    whole = small_run(data, optimizer=exploding(3), num_outer_steps=3, workdir=tmp_path)
    untouched = small_run(data, optimizer=exploding(99), num_outer_steps=3)
    assert relative(whole.distilled.params, untouched.distilled.params) == 0


def test_a_rollback_goes_back_with_a_smaller_step_and_says_so(data, tmp_path):
    run = unlucky_run(data, workdir=tmp_path, max_rollbacks=9, reporting=ddjax.Reporting(every=1))
    records = report.read_metrics(tmp_path / "metrics.jsonl")
    told = [record for record in records if "rollback" in record]
    assert [record["rollback"] for record in told] == [*range(1, len(told) + 1)]
    assert told, "the seed must be an unlucky one"
    assert [record["scale"] for record in told] == [0.5 ** record["rollback"] for record in told]
    reached = 0  # by the last rollback
    for record in told:
        assert record["loss"] is None  # NaN, in JSON
        assert record["step"] % 50 == 0
        after = [r for r in records[: records.index(record)] if "rollback" not in r]
        assert after[-1]["step"] == record["not_finite"] - 1
        back = record["not_finite"] - 1 - record["step"]
        assert back < 100
        assert back >= 50 or record["step"] == reached
        reached = record["step"]
        following = records[records.index(record) + 1]
        assert following["step"] == record["step"] + 1
        assert following["luck"] not in [r["luck"] for r in after]  # a fresh key
    assert run.num_outer_steps == 260
    assert np.isfinite(run.distilled.schedule.inputs).all()


def test_each_rollback_halves_the_step(data):
    """One outer step whose loss is NaN a few times: φ moves by the gradient's 2 (1 + luck) φ, scaled."""
    key = jax.random.key(2)
    run = unlucky_run(data, steps=1, chance=0.7, key=key, reporting=ddjax.Reporting(every=1))
    rollbacks = len(run.history) - 1
    assert rollbacks == 2
    begin = small_form(inner_lr=0.1).init(jax.random.split(jax.random.split(key)[1])[0])
    rate = 1e-3 * 0.5**rollbacks
    expected = begin.images * (1 - rate * 2 * (1 + run.history[-1]["luck"]))
    np.testing.assert_allclose(run.distilled.schedule.inputs, expected, rtol=1e-6)


class KilledError(Exception):
    """What ends a run between a rollback and the next checkpoint."""


def test_a_run_that_rolls_back_resumes_bit_for_bit(data, tmp_path):
    def dies(record):
        if "rollback" in record:
            raise KilledError

    settings = {"max_rollbacks": 9}
    whole = unlucky_run(data, workdir=tmp_path / "whole", **settings)
    with pytest.raises(KilledError):
        unlucky_run(
            data,
            workdir=tmp_path / "killed",
            save_every=20,
            reporting=ddjax.Reporting(listener=dies),
            **settings,
        )
    for steps in (230, 245):  # stopped on the way, after the rollback
        unlucky_run(data, workdir=tmp_path / "killed", save_every=20, steps=steps, **settings)
    resumed = unlucky_run(data, workdir=tmp_path / "killed", **settings)
    assert relative(resumed.distilled.params, whole.distilled.params) == 0
    metrics = [report.read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "killed")]
    rollbacks = [[r["not_finite"] for r in records if "rollback" in r] for records in metrics]
    assert rollbacks[0] == rollbacks[1]
    assert len(rollbacks[0]) >= 1


def test_rollbacks_come_to_an_end(data, tmp_path):
    with pytest.raises(ddjax.DivergedError, match=r"outer step 1 is not finite after 2 rollback\(s\)"):
        unlucky_run(data, chance=1.0, max_rollbacks=2, workdir=tmp_path)
    with pytest.raises(ddjax.DivergedError, match=r'or on_nonfinite="rollback"'):
        unlucky_run(data, chance=1.0, on_nonfinite="stop")


def test_a_run_that_stopped_may_be_started_again_to_roll_back(data, tmp_path):
    with pytest.raises(ddjax.DivergedError):
        unlucky_run(data, on_nonfinite="stop", workdir=tmp_path)
    run = unlucky_run(data, max_rollbacks=9, workdir=tmp_path, reporting=ddjax.Reporting(every=1))
    assert run.num_outer_steps == 260
    assert any("rollback" in record for record in run.history)
    with pytest.raises(ValueError, match="on_nonfinite: expected 'rollback' and max_rollbacks >= "):
        unlucky_run(data, on_nonfinite="stop", workdir=tmp_path)  # which would have had no φ


def test_nan_is_never_best(data):
    scores = iter([float("nan"), 20.0, float("nan")])
    run = small_run(data, validation=ddjax.Validation(lambda schedule: next(scores), every=2))
    assert (run.best_step, run.val_accuracy) == (4, 20.0)
    nothing = small_run(data, validation=ddjax.Validation(lambda schedule: float("nan"), every=2))
    assert nothing.best_step == 6  # the last, rather than the noise it began with
    last = small_run(data)
    assert relative(nothing.distilled.params, last.distilled.params) == 0


def test_a_signal_saves_and_the_same_call_continues(data, tmp_path):
    def interrupt(record):
        if record["step"] == 1:  # the first dispatch holds one step
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ddjax.PreemptedError, match="saved"):
        small_run(data, workdir=tmp_path, reporting=ddjax.Reporting(every=1, listener=interrupt))
    assert signal.getsignal(signal.SIGTERM) is before
    assert saved_step(tmp_path) == 1
    resumed, whole = small_run(data, workdir=tmp_path), small_run(data)
    assert relative(resumed.distilled.params, whole.distilled.params) == 0


def test_a_finished_run_is_not_computed_again(data, tmp_path):
    first = small_run(data, workdir=tmp_path)
    again = small_run(data, workdir=tmp_path)
    assert again.seconds["compile"] == 0
    assert again.seconds["earlier"] == again.seconds["distil"] == first.seconds["distil"]
    assert again.history == first.history
    assert len(again.history) == 6
    assert relative(again.distilled.params, first.distilled.params) == 0


def test_validation_chooses_the_best_phi(data):
    scores = iter([10.0, 30.0, float("nan")])
    seen = []

    def score(schedule):
        seen.append(np.asarray(schedule.inputs))
        return next(scores)

    run = small_run(data, validation=ddjax.Validation(score, every=2))
    assert run.best_step == 4
    assert run.val_accuracy == 30.0
    assert np.array_equal(run.distilled.schedule.inputs, seen[1])


def test_clipping_bounds_the_gradient(data):
    unit = optax.sgd(1.0)
    start, method_key = small_form(inner_lr=0.1), jax.random.key(0)
    run = small_run(data, num_outer_steps=1, optimizer=unit, clip_norm=1e-3, key=method_key)
    init_key = jax.random.split(method_key)[1]
    begin = start.init(jax.random.split(init_key)[0])
    moved = optax.tree.norm(jax.tree.map(jnp.subtract, run.distilled.params, begin))
    assert run.history[0]["clipped"]
    assert float(moved) == pytest.approx(1e-3, rel=1e-3)


def test_another_run_s_directory_is_refused(data, tmp_path):
    small_run(data, workdir=tmp_path)
    kept = {path: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()}
    with pytest.raises(ValueError, match="other settings"):
        small_run(data, workdir=tmp_path, form=small_form(inner_lr=0.1, inner_steps=3))
    with pytest.raises(ValueError, match=r"key was .*, is "):
        small_run(data, workdir=tmp_path, key=jax.random.key(1))
    assert {path: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()} == kept


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_outer_steps": 0}, "num_outer_steps: expected a whole number >= 1; got 0"),
        ({"num_inits": 0}, "num_inits: expected a whole number >= 1; got 0"),
        ({"slots_per_chunk": 0}, "slots_per_chunk: expected"),
        ({"clip_norm": 0.0}, "clip_norm: expected a finite number > 0"),
        ({"clip_norm": float("nan")}, "clip_norm: expected a finite number > 0"),
        ({"form": forms.pixels((9, 9, 1), 3)}, r"image shape .*: expected \(8, 8, 1\); got \(9, 9, 1\)"),
        ({"form": forms.pixels((8, 8, 1), 4)}, "number of classes: expected 3; got 4"),
        ({"num_inits": 3, "devices": "two"}, "expected a multiple of the 2 devices; got 3. Use 2 or 4 inits"),
    ],
)
def test_bad_input_is_refused(data, settings, message, tmp_path):
    if settings.get("devices") == "two":
        settings = settings | {"devices": jax.devices()[:2]}
    with pytest.raises(ValueError, match=message):
        small_run(data, workdir=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()
