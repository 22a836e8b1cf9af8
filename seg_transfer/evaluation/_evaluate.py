"""Means of the evaluation measures over groups, with their intervals, and the ceiling that fine-tuning itself sets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from seg_transfer.evaluation._bootstrap import bootstrap_draws, percentile_intervals, weighted_means
from seg_transfer.evaluation._controls import metric_kinds
from seg_transfer.evaluation._fidelity import fidelity
from seg_transfer.evaluation._groups import values_of_groups
from seg_transfer.evaluation._measures import MEASURES, Array
from seg_transfer.evaluation._noise import by_seed_of, groups_of, measures_of_one_seed
from seg_transfer.evaluation._pairs import CEILING, SCENARIOS, axes_of, in_scenario, validate_pairs

_TAU_W = MEASURES.index("tau_w")
_SHARES = ("tau_w", "top1")


def evaluate(
    pairs: pd.DataFrame,
    *,
    metrics: Sequence[str] | None = None,
    fine_tunings: pd.DataFrame | None = None,
    n_bootstrap: int = 2000,
    seed: int = 0,
    scenarios: Sequence[str] = SCENARIOS,
) -> pd.DataFrame:
    """Average the evaluation measures over groups: one row per (scenario, metric), then controls, then the ceiling.

    Args:
        pairs: One row per pair: source, target, miou (drop pairs that are not fine-tuned yet), and a column per metric.
        metrics: The columns to judge, in the order of the result; all others are ignored. None means all columns that
            are not listed in the description of this package; each must be in `seg_transfer.metrics.METRICS`.
        fine_tunings: As in `fine_tuning_noise`. They give a ceiling where all pairs share two seeds or more.
        n_bootstrap: Number of bootstrap draws of groups.
        seed: Seed of the draws. All rows of a scenario share the draws, so their intervals are paired.
        scenarios: Some or all of `SCENARIOS`.

    Returns:
        A ceiling is a row one_fine_tuning with the measures of `fine_tuning_noise` alone. Columns:

        * scenario, metric, kind ("metric", "control" or "ceiling")
        * n_groups, n_too_small: number of groups evaluated, and of those left out for having fewer than two items
        * n_tau_undefined: number of groups without tau_w (constant scores or performance), which its mean leaves out
        * NAME, NAME_low, NAME_high for each of the `MEASURES`: mean over groups and its 95 % percentile-bootstrap
          interval over groups (NaN with one group)
        * fidelity and its interval: correlation (through 0) of the score differences of all rivals with their
          performance differences, over all groups, in [-1, 1]
        * tau_w_share, top1_share: the measure divided by the ceiling's; NaN without a ceiling above 0
        * beaten_by: list of the controls with a higher tau_w than a metric, or None

    Raises:
        ResultsError: A column is missing, unknown or not finite, or a pair is given twice or has its source as target.

    Example:
        >>> scores = {"gbc": [-1.0, -3.0, -2.0]}
        >>> pairs = pd.DataFrame({"source": ["a", "b", "c"], "target": ["t"] * 3, "miou": [0.6, 0.4, 0.5], **scores})
        >>> table = evaluate(pairs, scenarios=["fixed_target"]).set_index("metric")
        >>> table["top1"].round(3).to_dict()
        {'gbc': 1.0, 'mean_rank_elsewhere': 0.333, 'random': 0.333}
    """
    frame, names = validate_pairs(pairs, metrics)
    by_seed = None if fine_tunings is None else by_seed_of(fine_tunings, frame)
    rows: list[Mapping[Any, Any]] = []
    for scenario in scenarios:
        rows += _rows(in_scenario(frame, scenario, names), by_seed, scenario, n_bootstrap, seed)
    return pd.DataFrame(rows)


def _rows(
    frame: pd.DataFrame, by_seed: pd.DataFrame | None, scenario: str, n_bootstrap: int, seed: int
) -> list[Mapping[Any, Any]]:
    kinds = metric_kinds(frame, scenario)
    values = values_of_groups(frame, scenario, kinds)
    draws = bootstrap_draws(len(values), n_bootstrap, seed)
    table = pd.DataFrame({"scenario": scenario, "metric": list(kinds), "kind": list(kinds.values())})
    table["n_groups"] = len(values)
    table["n_too_small"] = frame[axes_of(scenario)[0]].nunique() - len(values)
    table["n_tau_undefined"] = np.isnan(values[:, :, _TAU_W]).sum(axis=0)
    means, intervals = weighted_means(np.ones((1, len(values))), values)[0], weighted_means(draws, values)
    _add(table, MEASURES, means, percentile_intervals(intervals))
    _add(table, ("fidelity",), *fidelity(frame, scenario, kinds, draws))
    ceiling = _ceiling(table, by_seed, scenario, draws)
    for name in _SHARES:
        reached = ceiling[name] if ceiling else np.nan
        table[f"{name}_share"] = table[name] / (reached if reached > 0 else np.nan)
    beaten_by = [_beaten_by(row, table) for row in table.to_dict("records")]
    table["beaten_by"] = pd.Series(beaten_by, dtype=object)
    return [*table.to_dict("records"), *([ceiling] if ceiling else [])]


def _add(table: pd.DataFrame, names: Sequence[str], means: Array, intervals: Array) -> None:
    """Add the columns NAME, NAME_low and NAME_high from means (metrics, names) and intervals (2, metrics, names)."""
    low, high = intervals
    for column, name in enumerate(names):
        table[name], table[f"{name}_low"], table[f"{name}_high"] = means[:, column], low[:, column], high[:, column]


def _ceiling(table: pd.DataFrame, by_seed: pd.DataFrame | None, scenario: str, draws: Array) -> dict[str, Any] | None:
    """Return the row of what one fine-tuning per pair reaches; None where that is unknown."""
    if by_seed is None or by_seed.shape[1] < 2 or not len(groups := groups_of(by_seed, scenario)):
        return None
    undefined, measured = measures_of_one_seed(groups, draws)
    counts = {name: int(table[name].iloc[0]) for name in ("n_groups", "n_too_small")} | {"n_tau_undefined": undefined}
    return {"scenario": scenario, "metric": CEILING, "kind": "ceiling", **counts, **measured, "beaten_by": None}


def _beaten_by(row: Mapping[Any, Any], table: pd.DataFrame) -> list[str] | None:
    better = table[(table["kind"] == "control") & (table["tau_w"] > row["tau_w"])]
    return better["metric"].tolist() if row["kind"] == "metric" and len(better) else None
