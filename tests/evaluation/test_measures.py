"""Evaluation measures of one group: by hand, by a slow obvious reference, and golden values."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from seg_transfer.evaluation import _measures, measures
from seg_transfer.evaluation._measures import measures_of_all

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "weighted_tau.json").read_text())["cases"]


def slow_weighted_tau(x, y):
    """Mean over the two lexicographic rankings of a sum over all ordered pairs, weight 1/(1+rank) added."""

    def against(order):
        rank = {item: position for position, item in enumerate(order)}
        agree = in_x = in_y = 0.0
        for i, j in itertools.permutations(range(len(x)), 2):
            weight = 1 / (1 + rank[i]) + 1 / (1 + rank[j])
            sign_x, sign_y = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
            agree, in_x, in_y = agree + weight * sign_x * sign_y, in_x + weight * sign_x**2, in_y + weight * sign_y**2
        return agree / np.sqrt(in_x * in_y)

    items = range(len(x))
    by_x = sorted(items, key=lambda i: (x[i], y[i]), reverse=True)
    by_y = sorted(items, key=lambda i: (y[i], x[i]), reverse=True)
    return (against(by_x) + against(by_y)) / 2


@pytest.mark.parametrize("seed", range(20))
def test_tau_w_is_the_slow_reference_with_and_without_ties(seed):
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal(11)
    performance, score = latent, latent + rng.standard_normal(11)
    if seed % 2:
        performance, score = np.round(performance), np.round(score)
        assert len(set(performance)) < 11 > len(set(score))
    assert measures(performance, score)["tau_w"] == pytest.approx(slow_weighted_tau(performance, score), abs=1e-13)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_taus(name):
    case = GOLDEN[name]
    found = measures(np.array(case["performance"]), np.array(case["score"]))
    for measure in ("tau_w", "kendall"):
        expected = np.nan if case[measure] is None else case[measure]
        assert found[measure] == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("performance", "score", "top1", "rel_at_1"),
    [
        ([0.2, 0.5, 0.4], [1.0, 9.0, 2.0], 1.0, 1.0),
        ([0.2, 0.5, 0.4], [9.0, 1.0, 2.0], 0.0, 0.4),
        ([0.2, 0.5, 0.4], [1.0, 2.0, 2.0], 1 / 2, 0.9),  # two tied scores, one of them the best
        ([0.2, 0.5, 0.4], [2.0, 1.0, 2.0], 0.0, 0.6),  # two tied scores, neither the best
        ([0.2, 0.5, 0.4], [7.0, 7.0, 7.0], 1 / 3, 11 / 15),  # all tied: as good as random
        ([0.5, 0.5, 0.4], [1.0, 2.0, 0.0], 1.0, 1.0),  # two equally best items, one of them chosen
        ([0.5, 0.5, 0.4], [0.0, 2.0, 2.0], 1 / 2, 0.9),  # ties on both sides, one in common
        ([0.0, 0.0], [1.0, 2.0], 1.0, np.nan),  # nothing to be relative to
    ],
)
def test_top1_and_rel_at_1_by_hand(performance, score, top1, rel_at_1):
    found = measures(np.array(performance), np.array(score))
    assert found["top1"] == pytest.approx(top1)
    assert found["rel_at_1"] == pytest.approx(rel_at_1, nan_ok=True)


def test_kendall_and_pearson_by_hand():
    found = measures(np.array([1.0, 2.0, 3.0, 5.0]), np.array([20.0, 10.0, 30.0, 30.0]))
    assert found["kendall"] == pytest.approx((4 - 1) / np.sqrt(6 * 5))  # 4 pairs agree, 1 does not, 1 tied in the score
    assert found["pearson"] == pytest.approx(32.5 / np.sqrt(8.75 * 275))


def test_pearson_of_a_small_spread_far_from_zero():
    x = np.array([0.1, 0.4, 0.2, 0.9])
    assert measures(x, 1e8 + x)["pearson"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("performance", [[0.1, 0.4, 0.2, 0.9], [0.3, 0.3, 0.1, 0.0]])
@pytest.mark.parametrize("factor", [1e-300, 1e-200, 1e-150, 1e150, 1e200, 1e307])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_unit_of_the_scores_changes_no_measure(performance, factor, sign):
    score = sign * np.array([3.0, -1.5, 4.0, 8.0])
    assert measures(np.array(performance), factor * score) == pytest.approx(
        measures(np.array(performance), score), rel=1e-14
    )


def test_a_power_of_two_and_a_whole_shift_change_no_bit():
    performance, score = np.array([0.1, 0.4, 0.2, 0.9]), np.array([3.0, -1.0, 4.0, 10.0])
    expected = measures(performance, score)
    for turned in (np.ldexp(score, -600), np.ldexp(score, 1000), np.ldexp(score, -1074), score + 2**40):
        assert measures(performance, turned) == expected


@pytest.mark.parametrize("score", [[-1.7e308, 0.0, 1.7e308], [0.0, 5e-324, 1e-323], [1e-200, 0.5, 1e200]])
def test_scores_at_the_ends_of_the_range_are_ordered(score):
    found = measures(np.array([0.1, 0.2, 0.3]), np.array(score))
    assert found["kendall"] == found["tau_w"] == found["top1"] == 1
    assert found["pearson"] == pytest.approx(np.sqrt(3) / 2 if score[2] == 1e200 else 1)


@pytest.mark.parametrize("constant", ["performance", "score"])
def test_nothing_is_ordered_when_one_side_is_constant(constant):
    x, ones = np.array([0.1, 0.2, 0.4]), np.ones(3)
    found = measures(ones, x) if constant == "performance" else measures(x, ones)
    assert all(np.isnan(found[name]) for name in ("tau_w", "kendall", "pearson"))


@pytest.mark.parametrize(
    ("performance", "score", "regret"),
    [
        ([0.2, 0.5, 0.4], [1.0, 9.0, 2.0], 0.0),
        ([0.2, 0.5, 0.4], [9.0, 1.0, 2.0], 0.3),
        ([0.2, 0.5, 0.4], [2.0, 1.0, 2.0], (0.3 + 0.1) / 2),  # tied for the first place
        ([0.2, 0.5, 0.4], [7.0, 7.0, 7.0], (0.3 + 0.0 + 0.1) / 3),  # all tied: as good as random
        ([0.5, 0.5, 0.4], [0.0, 2.0, 2.0], (0.0 + 0.1) / 2),  # two equally best items, one of them chosen
        ([0.3, 0.3], [1.0, 2.0], 0.0),
        ([-0.2, -0.5], [1.0, 2.0], 0.3),  # defined where Rel@1 is not
    ],
)
def test_regret_by_hand(performance, score, regret):
    assert measures(np.array(performance), np.array(score))["regret"] == pytest.approx(regret)


def test_regret_scales_with_performance_and_sees_the_order_of_scores_alone():
    rng = np.random.default_rng(3)
    performance, score = rng.random(9), np.round(rng.standard_normal(9), 1)
    regret = measures(performance, score)["regret"]
    assert regret > 0
    assert measures(100 * performance + 7, np.exp(score))["regret"] == pytest.approx(100 * regret)


def test_many_scores_at_once_are_measured_as_each_alone():
    rng = np.random.default_rng(3)
    performance = np.round(rng.random(9), 1)
    scores = np.round(rng.standard_normal((40, 9)), 1)
    scores[::7] = 1.0  # constant
    together = measures_of_all(performance, scores)
    alone = [list(measures(performance, score).values()) for score in scores]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-15)


@pytest.mark.parametrize("seed", range(10))
def test_tau_w_is_that_of_scipy(seed):
    rng = np.random.default_rng(seed)
    performance, score = rng.integers(0, 6, (2, 15)) / 7
    expected = scipy.stats.weightedtau(performance, score).statistic
    assert measures(performance, score)["tau_w"] == pytest.approx(expected, abs=1e-14)


def test_scores_of_many_items_are_split_and_measured_the_same(monkeypatch):
    rng = np.random.default_rng(1)
    performance, scores = rng.random(6), rng.random((5, 6))
    whole = measures_of_all(performance, scores)
    monkeypatch.setattr(_measures, "_MAX_SIGNS", 40)
    np.testing.assert_array_equal(measures_of_all(performance, scores), whole)
