"""Agreement of a proxy with what it stands for."""

from __future__ import annotations

import pytest
from scipy import stats

from ddjax.ranking import agreement


def test_agreement_is_spearman_s(rng):
    for _ in range(20):
        proxy, whole = rng.integers(0, 6, (2, 9)).tolist()  # with ties
        found = agreement(proxy, whole)
        assert found.rank_correlation == pytest.approx(stats.spearmanr(proxy, whole)[0], abs=1e-6)
        assert found.chosen == proxy.index(max(proxy))
        assert found.loss == max(whole) - whole[found.chosen]


def test_equal_scores_have_no_order():
    assert agreement([1, 1], [2, 3]).rank_correlation is None
    assert agreement([1, 2], [3, 3]).rank_correlation is None


@pytest.mark.parametrize(("proxy", "whole"), [([], []), ([1, 2], [1])])
def test_lists_that_do_not_fit_are_refused(proxy, whole):
    with pytest.raises(ValueError, match="scores of the proxy: expected"):
        agreement(proxy, whole)


def test_a_score_that_is_not_finite_chooses_nothing():
    """The largest of some numbers and NaN is NaN."""
    for proxy, whole in (([1.0, float("nan")], [1.0, 2.0]), ([1.0, 2.0], [float("inf"), 1.0])):
        with pytest.raises(ValueError, match="scores: expected finite numbers"):
            agreement(proxy, whole)
