"""Scores of noisy labels over a training: each loss against the mean of its class's latest losses.

For an image with the given label y and logits z, with ŷ the network's own answer argmax z:

    ℓ_label = -log p_y,    ℓ_pred = -log p_ŷ <= ℓ_label    (p = softmax(z); equal where the network agrees)

Buffers keep the last L of both losses for each given label, and those of ℓ_pred for each answer too. With the
means m_y and q_y of the first two, and c_ŷ of the third:

    score1 = ℓ_label / m_y                       score2 = (ℓ_label - ℓ_pred) / m_y
    score3 = (ℓ_label - ℓ_pred) / (m_y - q_y)    score4 = ℓ_label / m_y - ℓ_pred / c_ŷ

A minibatch is put into the buffers before it is scored, so that no mean is of nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ddjax import checks

SCORES = ("loss", "score1", "score2", "score3", "score4")
"""The scores that `score` knows; `loss` is ℓ_label alone, the small-loss rule."""


class Losses(NamedTuple):
    """The losses of a minibatch.

    Attributes:
        label: `[B]`, ℓ_label, the cross-entropy with the given label.
        predicted: `[B]`, ℓ_pred, the cross-entropy with the network's own answer.
        labels: `[B]` int32, y, the given labels.
        answers: `[B]` int32, ŷ, the network's answers.
    """

    label: jax.Array
    predicted: jax.Array
    labels: jax.Array
    answers: jax.Array

    @classmethod
    def of(cls, logits: jax.Array, labels: jax.Array) -> Losses:
        """The losses of logits.

        Args:
            logits: `[B, K]`, z.
            labels: `[B]` whole numbers in [0, K), y.

        Returns:
            The losses.
        """
        surprise = -jax.nn.log_softmax(logits)
        label = jnp.take_along_axis(surprise, labels[:, None], -1)[:, 0]
        return cls(label, surprise.min(-1), labels, jnp.argmin(surprise, -1).astype(labels.dtype))


class Buffers(NamedTuple):
    """The latest losses of each class, in rings of length L.

    Attributes:
        label: `[K, L]`, ℓ_label by given label.
        predicted: `[K, L]`, ℓ_pred by given label.
        by_answer: `[K, L]`, ℓ_pred by the network's answer.
        count: `[K]` int32, the number of losses ever put into a class's rings of given labels; the next place
            is this number modulo L.
        count_by_answer: `[K]` int32, the same for the ring of answers.
    """

    label: jax.Array
    predicted: jax.Array
    by_answer: jax.Array
    count: jax.Array
    count_by_answer: jax.Array

    @classmethod
    def empty(cls, num_classes: int, length: int, dtype: jax.typing.DTypeLike = jnp.float32) -> Buffers:
        """Buffers without any loss.

        Args:
            num_classes: K.
            length: L, the number of losses that are kept of each class.
            dtype: the dtype of the losses.

        Returns:
            The buffers.

        Raises:
            ValueError: a count is below one.
        """
        checks.at_least("num_classes", num_classes, 1)
        checks.at_least("buffer length", length, 1)
        ring, none = jnp.zeros((num_classes, length), dtype), jnp.zeros(num_classes, jnp.int32)
        return cls(ring, ring, ring, none, none)


def push(buffers: Buffers, losses: Losses) -> Buffers:
    """The buffers after a minibatch, in the order of its images; pure.

    Args:
        buffers: the buffers before.
        losses: the losses of the minibatch.

    Returns:
        The buffers after. Of more than L losses of one class, the last L are kept.
    """
    at, count = _places(losses.labels, buffers.count, buffers.label.shape[1])
    answered, count_by_answer = _places(losses.answers, buffers.count_by_answer, buffers.label.shape[1])
    return Buffers(
        buffers.label.at[losses.labels, at].set(losses.label, mode="drop"),
        buffers.predicted.at[losses.labels, at].set(losses.predicted, mode="drop"),
        buffers.by_answer.at[losses.answers, answered].set(losses.predicted, mode="drop"),
        count,
        count_by_answer,
    )


def _places(classes: jax.Array, count: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
    """The place in its ring of each loss, `length` for one that later ones push out; the counts after."""
    same = jax.nn.one_hot(classes, len(count), dtype=jnp.int32)
    rank = jnp.take_along_axis(jnp.cumsum(same, 0), classes[:, None], 1)[:, 0] - 1
    added = same.sum(0)
    is_kept = rank >= added[classes] - length
    return jnp.where(is_kept, (count[classes] + rank) % length, length), count + added


def score(name: str, buffers: Buffers, losses: Losses) -> jax.Array:
    """The score of each image of a minibatch: the smaller, the likelier its label is right.

    Args:
        name: the name of the score, one of `SCORES`.
        buffers: the buffers, which hold this minibatch too (`push`).
        losses: the losses of the minibatch.

    Returns:
        `[B]`; where a denominator is zero, so is what stands over it, and the quotient is taken as zero.

    Raises:
        ValueError: there is no such score.
    """
    checks.choice("score", name, SCORES)
    if name == "loss":
        return losses.label
    of_label = _means(buffers.label, buffers.count)[losses.labels]
    excess = losses.label - losses.predicted
    if name == "score1":
        return _quotient(losses.label, of_label)
    if name == "score2":
        return _quotient(excess, of_label)
    if name == "score3":
        return _quotient(excess, of_label - _means(buffers.predicted, buffers.count)[losses.labels])
    of_answer = _means(buffers.by_answer, buffers.count_by_answer)[losses.answers]
    return _quotient(losses.label, of_label) - _quotient(losses.predicted, of_answer)


def _means(ring: jax.Array, count: jax.Array) -> jax.Array:
    """`[K]`, the mean of what is in each ring."""
    filled = jnp.minimum(count, ring.shape[1]).astype(ring.dtype)
    return ring.sum(1) / jnp.maximum(filled, 1)


def _quotient(over: jax.Array, under: jax.Array) -> jax.Array:
    return jnp.where(under > 0, over / jnp.where(under > 0, under, 1), 0)


def smallest(scores: jax.Array, count: jax.Array | int) -> jax.Array:
    """Whether each score is among the smallest ones, the first of equals first.

    Args:
        scores: `[B]`.
        count: how many are taken; may be traced.

    Returns:
        `[B]` bool, `count` of them true.
    """
    rank = jnp.argsort(jnp.argsort(scores, stable=True))
    return rank < count
