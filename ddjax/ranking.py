"""How well one list of scores orders things as another does: a proxy against what it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.scipy import stats

from ddjax import checks


class Agreement(NamedTuple):
    """How well a proxy stands for the whole.

    Attributes:
        rank_correlation: Spearman's ρ, the correlation of the ranks, of which equal scores share the mean;
            None where all scores of one list are equal.
        chosen: position of the best score of the proxy, the first of several.
        loss: by how much the score of the chosen one stays behind the best of the whole.
    """

    rank_correlation: float | None
    chosen: int
    loss: float


def agreement(proxy: Sequence[float], whole: Sequence[float]) -> Agreement:
    """Compare the order that a proxy gives with the order that it should give.

    Args:
        proxy: a score of each thing, e.g. the validation accuracy of each network trained on few images.
        whole: the score that it stands for, e.g. the test accuracy of each network trained on all images.

    Returns:
        The agreement.

    Raises:
        ValueError: the lists are empty, or not of the same length.
    """
    checks.at_least("scores of the proxy", len(proxy), 1, remedy="Give a score of each thing.")
    checks.equal(
        "scores of the proxy", len(proxy), len(whole), remedy="Give both scores of each thing, in one order."
    )
    is_constant = len(set(proxy)) == 1 or len(set(whole)) == 1
    ranks = np.asarray(stats.rankdata(np.array([proxy, whole]), axis=1))
    chosen = int(np.argmax(proxy))
    return Agreement(
        rank_correlation=None if is_constant else float(np.corrcoef(ranks)[0, 1]),
        chosen=chosen,
        loss=float(np.max(whole) - whole[chosen]),
    )
