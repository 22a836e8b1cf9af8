"""The mean rank: by hand, by counting rivals, and what it refuses."""

import numpy as np
import pytest

from seg_transfer.errors import ConfigError, ObservationsError
from seg_transfer.metrics._rank_mean import METRIC, rank_mean


def slow_rank(scores):
    """One more than the rivals that score higher, and half a place for every equal one."""
    return np.array([1 + np.sum(scores > one) + (np.sum(scores == one) - 1) / 2 for one in scores])


def test_by_hand():
    first, second, third = [10, 30, 20, 0], [-1e9, 5, 5, 6], [0.1, 0.1, 0.1, 0.1]
    np.testing.assert_allclose(rank_mean(first), [-3, -1, -2, -4], rtol=1e-15)
    np.testing.assert_allclose(rank_mean(first, second), [-3.5, -1.75, -2.25, -2.5], rtol=1e-15)
    np.testing.assert_allclose(rank_mean(first, second, third), (np.array([-7, -3.5, -4.5, -5]) - 2.5) / 3, rtol=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_against_counted_rivals_with_ties(seed):
    rng = np.random.default_rng(seed)
    scores = [np.round(rng.standard_normal(13), 1) * scale for scale in (1e-8, 3, 1e12)]
    found = rank_mean(*scores)
    np.testing.assert_allclose(found, -np.mean([slow_rank(one) for one in scores], axis=0), rtol=1e-14)
    assert -13 <= found.min() <= found.max() <= -1


def test_only_the_order_of_the_scores_counts_and_equal_means_are_exactly_equal():
    a, b, c = [1.0, 2.0, 3.0], [2.0, 3.0, 1.0], [3.0, 1.0, 2.0]
    np.testing.assert_array_equal(rank_mean(a, b), rank_mean(np.exp(a), np.array(b) * 1e9 - 7))
    assert len(set(rank_mean(a, b, c))) == 1


def test_one_item_and_whole_numbers():
    assert rank_mean([4], [-2]).tolist() == [-1]
    assert rank_mean(np.array([1, 2], np.uint8), np.array([5, 9], np.float16)).tolist() == [-2, -1]


def test_scores_are_not_changed():
    scores = np.array([0.5, -1.0, 2.0])
    rank_mean(scores, scores)
    assert scores.tolist() == [0.5, -1.0, 2.0]


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ([], "no scores are given"),
        ([[1, 2, 3], [1, 2]], r"scores 1 have shape \(2,\), scores 0 \(3,\)"),
        ([[[1, 2, 3]]], r"scores 0 have shape \(1, 3\)"),
        ([3.0], r"scores 0 have shape \(\)"),
        ([[1, 2], [1, np.nan]], "scores 1 hold nan at 1; every score must be finite"),
        ([[np.inf, 2]], "scores 0 hold inf at 0"),
    ],
)
def test_what_is_refused(scores, reason):
    with pytest.raises(ObservationsError, match=reason) as caught:
        rank_mean(*scores)
    assert "\n" not in str(caught.value)


def test_it_is_no_score_of_one_pair():
    assert (METRIC.name, METRIC.needs) == ("rank_mean", {"scores"})
    assert METRIC.settings == {"fixed_target": "gbc,logme", "fixed_source": "gbc,nleep"}
    with pytest.raises(ConfigError, match="score its parts, gbc, logme, nleep"):
        METRIC.scores(None, **METRIC.settings)
