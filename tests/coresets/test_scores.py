"""The scores of noisy labels, replayed minibatch by minibatch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.coresets import scores
from ddjax.coresets.scores import Buffers, Losses


def latest(ring, count):
    """The losses of each class, oldest first, NaN where there are none yet."""
    length = ring.shape[1]
    rows = [
        np.concatenate([np.roll(row, -number)[-min(number, length) :] if number >= length else row[:number],
                        np.full(max(length - number, 0), np.nan)])
        for row, number in zip(ring, count, strict=True)
    ]  # fmt: skip
    return np.stack(rows)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_scores_and_buffers_are_those_of_plain_loops(reference):
    with np.load(reference / "scores.npz") as file:
        golden = {name: file[name] for name in file}
    keep = int(golden["keep"])

    @jax.jit
    def step(buffers, logits, labels):
        losses = Losses.of(logits, labels)
        buffers = scores.push(buffers, losses)
        found = [scores.score(name, buffers, losses) for name in scores.SCORES]
        return buffers, losses, found, [scores.smallest(one, keep) for one in found]

    buffers = Buffers.empty(4, int(golden["buffer_length"]), jnp.float64)
    pure = np.zeros_like(golden["pure_rate"])
    for t, (logits, labels) in enumerate(zip(golden["logits"], golden["labels"], strict=True)):
        buffers, losses, found, kept = step(buffers, jnp.asarray(logits, jnp.float64), jnp.asarray(labels))
        np.testing.assert_allclose(losses.label, golden["label_loss"][t], rtol=1e-12)
        np.testing.assert_allclose(losses.predicted, golden["predicted_loss"][t], rtol=1e-12)
        np.testing.assert_array_equal(losses.answers, golden["predicted"][t])
        np.testing.assert_array_equal(found[0], losses.label)
        for n in range(1, 5):
            np.testing.assert_allclose(found[n], golden[f"score{n}"][t], rtol=1e-9, atol=1e-12)
            np.testing.assert_array_equal(kept[n], golden[f"kept{n}"][t])
            pure[n - 1, t] = (labels == golden["true_labels"][t])[np.asarray(kept[n])].mean()
    np.testing.assert_allclose(pure, golden["pure_rate"], rtol=1e-12)
    for name, ring, count in (
        ("label_buffer", buffers.label, buffers.count),
        ("predicted_buffer", buffers.predicted, buffers.count),
        ("predicted_class_buffer", buffers.by_answer, buffers.count_by_answer),
    ):
        np.testing.assert_allclose(latest(np.asarray(ring), np.asarray(count)), golden[name], rtol=1e-12)


@pytest.mark.slow
def test_of_more_losses_than_a_ring_holds_the_last_are_kept():
    losses = Losses(*map(jnp.asarray, (np.arange(5.0), np.zeros(5), np.zeros(5, int), np.ones(5, int))))
    push = jax.jit(scores.push)
    after = push(Buffers.empty(2, 3, losses.label.dtype), losses)
    assert sorted(after.label[0].tolist()) == [2, 3, 4]
    assert after.count.tolist() == [5, 0]
    assert after.count_by_answer.tolist() == [0, 5]
    one_more = push(after, jax.tree.map(lambda leaf: leaf[:1], losses)._replace(label=jnp.asarray([9.0])))
    assert sorted(one_more.label[0].tolist()) == [3, 4, 9]


def test_a_score_by_another_name_is_refused():
    with pytest.raises(ValueError, match=r"score: expected one of .*Did you mean 'score4'"):
        scores.score("score5", Buffers.empty(2, 3), None)  # type: ignore[arg-type] (the name is refused first)
    with pytest.raises(ValueError, match=r"buffer length: expected .* >= 1"):
        Buffers.empty(2, 0)
