"""How well the order of one list of scores agrees with that of another: a proxy against the full measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.scipy import stats

from ddjax import checks


class Agreement(NamedTuple):
    """How well the scores of a proxy agree with the full scores that they stand for.

    Attributes:
        rank_correlation: Spearman's ρ, the correlation of the ranks, where equal scores share the mean of
            their ranks; None where all scores of one list are equal.
        chosen: the position of the best proxy score, the first one of several.
        loss: the best full score minus the full score at `chosen`, at least 0.
    """

    rank_correlation: float | None
    chosen: int
    loss: float


def agreement(proxy: Sequence[float], whole: Sequence[float]) -> Agreement:
    """Compare the order that proxy scores give with the order that the full scores give.

    Args:
        proxy: a cheap score of each candidate, e.g. the validation accuracy of each network trained on few
            images.
        whole: the full score of each candidate in the same order, e.g. the test accuracy of each network
            trained on all images.

    Returns:
        The rank correlation, the candidate that the proxy chooses, and the loss by that choice.

    Raises:
        ValueError: the lists are empty, not of the same length, or hold a score that is not finite.
    """
    checks.at_least("scores of the proxy", len(proxy), 1, remedy="Give a score of each thing.")
    checks.equal(
        "scores of the proxy", len(proxy), len(whole), remedy="Give both scores of each thing, in one order."
    )
    if not np.isfinite([*proxy, *whole]).all():
        raise ValueError(
            "scores: expected finite numbers, so that nothing is chosen by NaN; got one that is not. Give 0 "
            "to a network that diverged."
        )
    is_constant = len(set(proxy)) == 1 or len(set(whole)) == 1
    ranks = np.asarray(stats.rankdata(np.array([proxy, whole]), axis=1))
    chosen = int(np.argmax(proxy))
    return Agreement(
        rank_correlation=None if is_constant else float(np.corrcoef(ranks)[0, 1]),
        chosen=chosen,
        loss=float(np.max(whole) - whole[chosen]),
    )
