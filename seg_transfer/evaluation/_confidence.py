"""What a lead in score has meant for mIoU: the share of rivals that won by mIoU too, as a function of the lead.

Two items of a group are rivals. Their lead is the difference of their scores in standard deviations (ddof 0) of the
scores of all items of the group, which no shift and no scale of the scores changes. The probability that the higher
score also has the higher mIoU is 1 / (1 + exp(-slope * lead)): one slope per metric, one half where scores are equal.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from scipy.special import expit

from seg_transfer.evaluation._bootstrap import bootstrap_draws, percentile_intervals
from seg_transfer.evaluation._measures import Array
from seg_transfer.evaluation._pairs import axes_of, in_scenario, validate_pairs
from seg_transfer.observations.ranks import shared_ranks

MAX_SLOPE = 20.0
"""Largest absolute slope. Where the higher score always wins, the fit has no optimum; at this slope a lead of one
standard deviation is certain to 2e-9."""
MIN_ITEMS = 3
"""Smallest group in which a lead says anything: that of two items is always two standard deviations.

Leads of groups of other sizes do not mean the same either, as the standard deviation depends on who is in the group.
One slope per metric is a mean over such groups.
"""
_LEAD_COLUMNS = ["group", "first", "second", "lead", "won"]
_N_CHANCE_DRAWS = 200


def rival_leads(pairs: pd.DataFrame, scenario: str, metric: str) -> pd.DataFrame:
    """List all pairs of rivals with their standardized leads: one row per two items of a group.

    Args:
        pairs: As in `evaluate`.
        scenario: "fixed_target" or "fixed_source".
        metric: The column of scores; rank_mean is computed from its parts.

    Returns:
        Columns: group; first and second, the rivals with the higher and the lower score; lead (>= 0, in standard
        deviations of the group's scores); won (1 where the first has the higher mIoU, 0 where it has the lower one,
        0.5 where mIoU or scores are equal). Groups with fewer than `MIN_ITEMS` items have no rows.

    Raises:
        ResultsError: As in `evaluate`.

    Example:
        >>> values = {"miou": [0.6, 0.4, 0.3], "gbc": [-1.0, -1.0, -4.0]}
        >>> pairs = pd.DataFrame({"source": ["a", "b", "c"], "target": ["t"] * 3, **values})
        >>> rival_leads(pairs, "fixed_target", "gbc")[["first", "second", "won"]].to_numpy().tolist()
        [['a', 'b', 0.5], ['a', 'c', 1.0], ['b', 'c', 1.0]]
    """
    frame, names = validate_pairs(pairs, [metric])
    group, item = axes_of(scenario)
    parts = [
        pd.DataFrame(
            {"group": name, **_leads_of(members[item].to_numpy(), *members[[metric, "miou"]].to_numpy(np.float64).T)}
        )
        for name, members in in_scenario(frame, scenario, names).groupby(group)
        if len(members) >= MIN_ITEMS
    ]
    return pd.concat(parts, ignore_index=True)[_LEAD_COLUMNS] if parts else pd.DataFrame(columns=_LEAD_COLUMNS)


def standardized(scores: Array) -> Array:
    """Return scores (n,) in standard deviations (ddof 0) from their mean; zeros where all are equal."""
    if scores.min() == scores.max():  # their standard deviation may be a rounding error
        return np.zeros_like(scores)
    values: Array = (scores - scores.mean()) / scores.std()
    return values


def win_probability(lead: float, slope: float) -> float:
    """Compute the probability that the rival with the higher score has the higher mIoU.

    Args:
        lead: Difference of the scores in standard deviations of the group's scores.
        slope: Slope of the metric, from `fit_slope`.

    Returns:
        1 / (1 + exp(-slope * lead)), in [0, 1].

    Example:
        >>> round(win_probability(2.0, 0.5), 4), win_probability(0.0, 0.5)
        (0.7311, 0.5)
    """
    return float(expit(slope * lead))


def confidences(scores: Array, slope: float | None) -> Array:
    """Compute how likely the first of n ranked items is to have a higher mIoU than each of the others.

    Args:
        scores: (n,) scores, the highest first.
        slope: Slope of the metric; None where it is unknown.

    Returns:
        (n,) probabilities that the first has a higher mIoU than this item; for the first itself, than the second. NaN
        where the slope is unknown or there are fewer than `MIN_ITEMS` items.

    Example:
        >>> confidences(np.array([3.0, 2.0, 1.0]), 1.0).round(3).tolist()
        [0.773, 0.773, 0.921]
    """
    if slope is None or len(scores) < MIN_ITEMS:
        return np.full(len(scores), np.nan)
    values = standardized(scores)
    leads = values[0] - values
    leads[0] = leads[1]
    probabilities: Array = expit(slope * leads)
    return probabilities


def fit_slope(leads_by_study: Mapping[str, pd.DataFrame]) -> float:
    """Fit the slope with the least cross-entropy over all pairs of rivals.

    Every study has the same weight, every group within a study, and every pair of rivals within a group. A pair with
    equal mIoU counts half for either rival.

    Args:
        leads_by_study: Study -> its frame from `rival_leads`.

    Returns:
        The slope, in [-MAX_SLOPE, MAX_SLOPE]; 0 where no score differs from another. Negative where the lower score
        tends to win.

    Example:
        >>> leads = pd.DataFrame({"group": ["t"] * 4, "lead": [1.0] * 4, "won": [1.0, 1.0, 1.0, 0.0]})
        >>> round(fit_slope({"study": leads}), 4)  # a lead of 1 wins 3 of 4 times: log(3)
        1.0986
    """
    frames = list(leads_by_study.values())
    lead, won = (np.concatenate([frame[column].to_numpy(np.float64) for frame in frames]) for column in ("lead", "won"))
    weight = np.concatenate([_weights(frame) for frame in frames])

    def derivative(slope: float) -> float:
        return float(np.sum(weight * lead * (expit(slope * lead) - won)))

    if not lead.any():
        return 0.0
    if derivative(MAX_SLOPE) <= 0:
        return MAX_SLOPE
    if derivative(-MAX_SLOPE) >= 0:
        return -MAX_SLOPE
    from scipy.optimize import brentq  # takes a tenth of a second, which `rank` need not wait for

    return float(brentq(derivative, -MAX_SLOPE, MAX_SLOPE, xtol=1e-12))


def reliability(leads: pd.DataFrame, slope: float, n_bins: int = 10, n_bootstrap: int = 2000) -> pd.DataFrame:
    """Compare predicted with observed shares in bins of as many pairs of rivals as possible: one row per bin.

    Args:
        leads: From `rival_leads`.
        slope: The slope to judge.
        n_bins: Number of bins; equal leads stay in one bin, so that there may be fewer.
        n_bootstrap: Number of bootstrap draws of groups, whose pairs are not independent.

    Returns:
        Columns: bin (from 0, by lead), n (pairs of rivals), predicted (mean probability), won (share in [0, 1]),
        won_low and won_high (95 % percentile-bootstrap interval over groups; NaN with one group).

    Example:
        >>> leads = pd.DataFrame({"group": ["t"] * 4, "lead": [0.5, 0.5, 1.0, 1.0], "won": [1.0, 0.0, 1.0, 1.0]})
        >>> reliability(leads, 1.0, n_bins=2)[["n", "predicted", "won"]].round(3).to_numpy().tolist()
        [[2.0, 0.622, 0.5], [2.0, 0.731, 1.0]]
    """
    bins, weight, predicted = _bins(leads, n_bins), _weights(leads), _predicted(leads, slope)
    group_of, groups = pd.factorize(leads["group"])
    totals, wins = np.zeros((2, len(groups), bins.max() + 1))
    np.add.at(totals, (group_of, bins), weight)
    np.add.at(wins, (group_of, bins), weight * leads["won"])
    draws = bootstrap_draws(len(groups), n_bootstrap, seed=0)
    low, high = percentile_intervals(_ratio(draws @ wins, draws @ totals))
    predictions = np.bincount(bins, weight * predicted) / totals.sum(axis=0)
    rows = {"n": np.bincount(bins), "predicted": predictions, "won": _ratio(wins.sum(axis=0), totals.sum(axis=0))}
    return pd.DataFrame({"bin": range(bins.max() + 1), **rows, "won_low": low, "won_high": high})


def expected_calibration_error(leads: pd.DataFrame, slope: float, n_bins: int = 10) -> float:
    """Compute the mean absolute difference between predicted and observed shares over the bins of `reliability`.

    Args:
        leads: From `rival_leads`.
        slope: The slope to judge.
        n_bins: As in `reliability`.

    Returns:
        A number in [0, 1]; bins count by the weight of their pairs. Few pairs per bin alone make it positive:
        `chance_calibration_error` says by how much.

    Example:
        >>> leads = pd.DataFrame({"group": ["t"] * 4, "lead": [0.0] * 4, "won": [1.0, 1.0, 1.0, 0.0]})
        >>> expected_calibration_error(leads, 1.0)
        0.25
    """
    return float(_calibration_errors(leads, slope, leads["won"].to_numpy(np.float64)[None], n_bins)[0])


def chance_calibration_error(leads: pd.DataFrame, slope: float, n_bins: int = 10) -> float:
    """Compute the calibration error that the slope would have on as many pairs if it were exactly right.

    Args:
        leads: From `rival_leads`; who won is drawn from the predicted probabilities, independently for each pair.
        slope: The slope that is taken for the truth.
        n_bins: As in `reliability`.

    Returns:
        The mean of `expected_calibration_error` over 200 draws. Pairs that share a rival are not independent, so that
        the real one is larger.

    Example:
        >>> leads = pd.DataFrame({"group": ["t"] * 4, "lead": [9.0] * 4, "won": [1.0] * 4})
        >>> round(chance_calibration_error(leads, 20.0), 4)  # certain wins leave nothing to chance
        0.0
    """
    drawn = np.random.default_rng(0).random((_N_CHANCE_DRAWS, len(leads))) < _predicted(leads, slope)
    return float(_calibration_errors(leads, slope, drawn.astype(np.float64), n_bins).mean())


def leave_one_study_out(leads_by_study: Mapping[str, pd.DataFrame], n_bins: int = 10) -> tuple[pd.DataFrame, float]:
    """Fit the slope on all studies but one, and judge it on that one: one row per study.

    Args:
        leads_by_study: Study -> its frame from `rival_leads`.
        n_bins: As in `reliability`.

    Returns:
        First, a frame without rows where there are fewer than two studies. Columns: study (the one left out),
        n_rival_pairs, slope (of the others), predicted (mean probability), won (share in [0, 1]), ece
        (`expected_calibration_error`), ece_by_chance (`chance_calibration_error`), cross_entropy (nats; log 2 = 0.693
        is that of a coin). Second, the mean of ece over the studies; NaN where there is none.

    Example:
        >>> leads = pd.DataFrame({"group": ["t"] * 4, "lead": [1.0] * 4, "won": [1.0, 1.0, 1.0, 0.0]})
        >>> frame, error = leave_one_study_out({"a": leads, "b": leads})
        >>> frame["predicted"].round(4).tolist(), round(error, 4)
        ([0.75, 0.75], 0.0)
    """
    rows = list(_left_out_rows(leads_by_study, n_bins)) if len(leads_by_study) > 1 else []
    names = ["slope", "predicted", "won", "ece", "ece_by_chance", "cross_entropy"]
    frame = pd.DataFrame(rows, columns=["study", "n_rival_pairs", *names])
    return frame, float(frame["ece"].mean()) if rows else np.nan


def _left_out_rows(leads_by_study: Mapping[str, pd.DataFrame], n_bins: int) -> Iterator[tuple[object, ...]]:
    for study, leads in leads_by_study.items():
        slope = fit_slope({other: frame for other, frame in leads_by_study.items() if other != study})
        weight, predicted, won = _weights(leads), _predicted(leads, slope), leads["won"].to_numpy(np.float64)
        # -log p = log(1 + exp(-slope * lead)), which does not overflow in this form.
        losses = np.logaddexp(0, -slope * leads["lead"]) + (1 - won) * slope * leads["lead"]
        errors = (expected_calibration_error(leads, slope, n_bins), chance_calibration_error(leads, slope, n_bins))
        means = (float(np.sum(weight * values)) for values in (predicted, won))
        yield study, len(leads), slope, *means, *errors, float(np.sum(weight * losses))


def _leads_of(items: np.ndarray, scores: Array, performance: Array) -> dict[str, np.ndarray]:
    one, other = np.triu_indices(len(items), 1)
    swap = scores[one] < scores[other]
    first, second = np.where(swap, other, one), np.where(swap, one, other)
    values = standardized(scores)
    won = (1 + np.sign(performance[first] - performance[second])) / 2
    won[scores[first] == scores[second]] = 0.5  # neither leads
    return {"first": items[first], "second": items[second], "lead": values[first] - values[second], "won": won}


def _weights(leads: pd.DataFrame) -> Array:
    """Return the weight of every pair of rivals: with sum 1, equal for all groups, equal within a group."""
    sizes = leads.groupby("group")["lead"].transform("size").to_numpy(np.float64)
    weights: Array = 1 / (sizes * leads["group"].nunique())
    return weights


def _predicted(leads: pd.DataFrame, slope: float) -> Array:
    values: Array = expit(slope * leads["lead"].to_numpy(np.float64))
    return values


def _bins(leads: pd.DataFrame, n_bins: int) -> np.ndarray:
    """Return the bin of every pair of rivals, from 0 without gaps; equal leads share one."""
    places = (shared_ranks(leads["lead"]) - 0.5) / len(leads)
    return np.unique(np.floor(places * n_bins), return_inverse=True)[1]


def _calibration_errors(leads: pd.DataFrame, slope: float, won: Array, n_bins: int) -> Array:
    """Return the calibration error of every row of won (draws, pairs): (draws,)."""
    in_bin = np.eye(n_bins)[_bins(leads, n_bins)]
    # The weight of a bin cancels: it multiplies the difference of two weighted means.
    errors: Array = np.abs((_weights(leads) * (_predicted(leads, slope) - won)) @ in_bin).sum(axis=1)
    return errors


def _ratio(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
