"""What a lead in score means for mIoU: leads by hand, a known slope found again, calibration of known worlds."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit

from seg_transfer.errors import ResultsError
from seg_transfer.evaluation import (
    chance_calibration_error,
    expected_calibration_error,
    fit_slope,
    leave_one_study_out,
    reliability,
    rival_leads,
    win_probability,
    with_rank_mean,
)
from seg_transfer.evaluation._confidence import MAX_SLOPE, confidences

PAIRS = pd.DataFrame(
    {
        "source": ["a", "b", "c", "scratch"],
        "target": ["t"] * 4,
        "miou": [0.5, 0.4, 0.5, 0.1],
        "gbc": [-4.0, -1.0, -1.0, np.nan],
        "nleep": [-0.1, -0.2, -0.3, np.nan],
        "logme": [2.0, 1.0, 3.0, np.nan],
    }
)


def world(slope: float, n_groups: int, seed: int, n_items: int = 8) -> pd.DataFrame:
    """Leads of groups of random scores, won as often as the slope says."""
    rng = np.random.default_rng(seed)
    parts = []
    for group in range(n_groups):
        scores = np.sort(rng.normal(size=n_items))[::-1]
        first, second = np.triu_indices(n_items, 1)
        lead = (scores[first] - scores[second]) / scores.std()
        won = (rng.random(len(lead)) < expit(slope * lead)).astype(float)
        parts.append(pd.DataFrame({"group": group, "first": first, "second": second, "lead": lead, "won": won}))
    return pd.concat(parts, ignore_index=True)


def leads(*rows: tuple[str, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["group", "lead", "won"])


def test_leads_of_three_rivals_by_hand() -> None:
    found = rival_leads(PAIRS, "fixed_target", "gbc").set_index(["first", "second"])
    # The mean of -4, -1, -1 is -2, their variance (4 + 1 + 1) / 3.
    assert found.loc[("b", "a"), ["lead", "won"]].tolist() == pytest.approx([3 / math.sqrt(2), 0.0])
    assert found.loc[("c", "a"), ["lead", "won"]].tolist() == pytest.approx([3 / math.sqrt(2), 0.5])  # equal mIoU
    assert found.loc[("b", "c"), ["lead", "won"]].tolist() == [0.0, 0.5]  # equal scores: neither leads
    assert set(found["group"]) == {"t"}


def test_the_groups_of_a_fixed_source_are_its_targets() -> None:
    values = {"miou": [0.1, 0.2, 0.3], "gbc": [1.0, 3.0, 2.0]}
    pairs = pd.DataFrame({"source": ["a"] * 3, "target": ["t", "u", "v"], **values})
    rows = [list(row) for row in rival_leads(pairs, "fixed_source", "gbc").drop(columns="lead").to_numpy()]
    assert rows == [["a", "u", "t", 1.0], ["a", "v", "t", 1.0], ["a", "u", "v", 0.0]]
    assert rival_leads(pairs[:2], "fixed_source", "gbc").empty  # two items are always two standard deviations apart
    assert rival_leads(pairs, "fixed_target", "gbc").empty
    with pytest.raises(ResultsError, match="scenario 'both' is unknown"):
        rival_leads(pairs, "both", "gbc")
    with pytest.raises(ResultsError, match="metric 'leep' is not among the columns"):
        rival_leads(pairs, "fixed_target", "leep")


def test_the_mean_rank_is_that_of_the_scenario() -> None:
    scored = with_rank_mean(PAIRS[PAIRS["source"] != "scratch"], "fixed_target")
    expected = rival_leads(scored, "fixed_target", "rank_mean")
    pd.testing.assert_frame_equal(rival_leads(PAIRS, "fixed_target", "rank_mean"), expected)


def test_leads_do_not_depend_on_scale_shift_order_and_equal_scores_lead_nothing() -> None:
    rng = np.random.default_rng(3)
    names = [f"s{number}" for number in range(9)]
    pairs = pd.DataFrame({"source": names, "target": "t", "miou": rng.random(9), "gbc": rng.normal(size=9)})
    expected = rival_leads(pairs, "fixed_target", "gbc").sort_values(["first", "second"], ignore_index=True)
    for other in (pairs.assign(gbc=pairs["gbc"] * 1e-6), pairs.assign(gbc=7 * pairs["gbc"] - 40), pairs[::-1]):
        found = rival_leads(other, "fixed_target", "gbc").sort_values(["first", "second"], ignore_index=True)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-9)
    # 0.1 + 0.1 + 0.1 is not 0.3 in floating point: the standard deviation of equal scores need not be 0.
    equal = rival_leads(pairs.assign(gbc=0.1), "fixed_target", "gbc")
    assert set(equal["lead"]) == {0.0}
    assert set(equal["won"]) == {0.5}


def test_the_slope_of_a_single_lead_has_a_closed_form() -> None:
    assert win_probability(2.0, 0.25) == pytest.approx(1 / (1 + math.exp(-0.5)))
    # 3.5 of 5 at a lead of 2: log(3.5 / 1.5) / 2
    found = fit_slope({"study": leads(*[("t", 2.0, won) for won in (1, 1, 1, 0.5, 0)])})
    assert found == pytest.approx(math.log(3.5 / 1.5) / 2, rel=1e-9)
    assert fit_slope({"study": leads(*[("t", 2.0, 1 - won) for won in (1, 1, 1, 0.5, 0)])}) == pytest.approx(-found)


def test_studies_and_groups_have_equal_weight_whatever_their_size() -> None:
    small = leads(("t", 1.0, 1.0), ("t", 1.0, 0.0), ("u", 1.0, 1.0))
    large = leads(*[("t", 1.0, 1.0)] * 300)
    share = ((1 / 2 + 1) / 2 + 1) / 2  # of groups in the small study, then of studies
    assert fit_slope({"small": small, "large": large}) == pytest.approx(math.log(share / (1 - share)), rel=1e-9)


def test_the_slope_has_the_least_cross_entropy() -> None:
    frame = world(0.8, 5, seed=1)

    def cross_entropy(slope: float) -> float:
        predicted = expit(slope * frame["lead"])
        return float(-np.mean(frame["won"] * np.log(predicted) + (1 - frame["won"]) * np.log1p(-predicted)))

    expected = minimize_scalar(cross_entropy, bracket=(0, 1), tol=1e-10).x
    assert fit_slope({"study": frame}) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("slope", [-0.5, 0.0, 0.7, 2.0])
def test_a_known_slope_is_found_again(slope: float) -> None:
    studies = {"one": world(slope, 400, seed=5), "other": world(slope, 100, seed=6)}
    assert fit_slope(studies) == pytest.approx(slope, abs=0.06)


def test_a_slope_stays_finite_where_the_higher_score_always_wins_and_zero_where_none_leads() -> None:
    certain = leads(("t", 0.5, 1.0), ("t", 1.5, 1.0))
    assert fit_slope({"study": certain}) == MAX_SLOPE
    assert fit_slope({"study": certain.assign(won=0.0)}) == -MAX_SLOPE
    assert fit_slope({"study": certain.assign(lead=0.0, won=0.5)}) == 0.0


def test_a_calibrated_world_has_the_error_of_chance_and_another_slope_a_larger_one() -> None:
    frame = world(0.9, 300, seed=11)
    by_chance = chance_calibration_error(frame, 0.9)
    assert by_chance < 0.012
    assert expected_calibration_error(frame, 0.9) < 2 * by_chance
    assert expected_calibration_error(frame, 3.0) > 0.1
    assert expected_calibration_error(frame, -0.9) > 0.3


def test_shuffled_results_have_no_slope() -> None:
    frame = world(2.0, 300, seed=12)
    order = np.random.default_rng(0).random(len(frame)) < 0.5
    shuffled = frame.assign(won=np.where(order, frame["won"], 1 - frame["won"]))
    assert fit_slope({"study": frame}) > 1.8
    assert abs(fit_slope({"study": shuffled})) < 0.05


def test_reliability_by_hand() -> None:
    frame = leads(("t", 0.0, 0.5), ("t", 0.0, 0.5), ("t", 1.0, 1.0), ("t", 1.0, 0.0), ("u", 0.0, 1.0), ("u", 1.0, 1.0))
    bins = reliability(frame, 1.0, n_bins=5)
    assert bins["n"].tolist() == [3, 3]  # equal leads stay together
    # A group of four pairs and one of two weigh the same: 1/8 and 1/4 per pair.
    assert bins["won"].tolist() == pytest.approx([0.75, 0.75])
    assert bins["predicted"].tolist() == pytest.approx([0.5, expit(1.0)])
    assert bins[["won_low", "won_high"]].to_numpy().tolist() == [
        [0.5, 1.0],
        [0.5, 1.0],
    ]  # each group alone, drawn twice
    assert expected_calibration_error(frame, 1.0, n_bins=5) == pytest.approx((0.25 + 0.75 - expit(1.0)) / 2)
    alone = reliability(frame[frame["group"] == "t"], 1.0, n_bins=5)
    assert alone[["won_low", "won_high"]].isna().all(axis=None)


def test_reliability_of_a_calibrated_world_follows_the_diagonal() -> None:
    bins = reliability(world(0.9, 300, seed=13), 0.9)
    assert bins["n"].tolist() == [840] * 10
    assert (bins["predicted"] - bins["won"]).abs().max() < 0.06
    inside = (bins["won_low"] <= bins["predicted"]) & (bins["predicted"] <= bins["won_high"])
    assert inside.sum() >= 8


def test_a_left_out_study_is_judged_by_the_others_alone() -> None:
    steep, flat = world(2.0, 40, seed=21), world(0.2, 40, seed=22)
    frame, error = leave_one_study_out({"steep": steep, "flat": flat})
    rows = frame.set_index("study")
    assert rows.loc["steep", "slope"] == fit_slope({"flat": flat})
    assert rows.loc["flat", "slope"] == fit_slope({"steep": steep})
    assert rows.loc["flat", "won"] == pytest.approx(flat["won"].mean())
    assert rows.loc["flat", "predicted"] == pytest.approx(expit(rows.loc["flat", "slope"] * flat["lead"]).mean())
    assert rows.loc["flat", "ece"] == expected_calibration_error(flat, rows.loc["flat", "slope"])
    assert error == pytest.approx(rows["ece"].mean())
    assert (rows["ece"] > 5 * rows["ece_by_chance"]).all()
    # Worse than a coin where confidence is misplaced, better where it is only too low.
    assert rows.loc["flat", "cross_entropy"] > math.log(2) > rows.loc["steep", "cross_entropy"]


def test_nothing_is_left_out_of_a_single_study() -> None:
    frame, error = leave_one_study_out({"only": world(1.0, 3, seed=0)})
    assert frame.empty
    assert math.isnan(error)


def test_confidence_in_the_first_of_several() -> None:
    scores = np.array([3.0, 2.0, 2.0, 1.0])  # standard deviation 1 / sqrt(2)
    expected = [expit(0.5 * math.sqrt(2))] * 3 + [expit(math.sqrt(2))]
    assert confidences(scores, 0.5).tolist() == pytest.approx(expected)
    assert confidences(np.full(3, 0.1), 0.5).tolist() == [0.5] * 3
    assert np.isnan(confidences(scores, None)).all()
    assert np.isnan(confidences(scores[:2], 0.5)).all()  # their lead is 2 whatever the scores are
    assert np.isnan(confidences(scores[:1], 0.5)).all()
