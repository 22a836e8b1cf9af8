"""Two metrics compared on the same groups: which is better, and how certain that is.

The bootstrap draws of groups are those of `evaluate` with the same seed, and are the same for both metrics and for all
rows. The interval of a difference is therefore paired, and narrower than the intervals of the two means suggest. To
read a row in the other order of the two metrics, swap wins and losses and flip the signs.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from seg_transfer.errors import ResultsError
from seg_transfer.evaluation._bootstrap import bootstrap_draws, percentile_intervals, weighted_means
from seg_transfer.evaluation._controls import metric_kinds
from seg_transfer.evaluation._groups import values_of_groups
from seg_transfer.evaluation._measures import LOWER_IS_BETTER, MEASURES, Array
from seg_transfer.evaluation._pairs import in_scenario, validate_pairs

# Means of equal values may differ by rounding, which must not decide a comparison.
EQUAL_WITHIN = 1e-12

_COLUMNS = ("first", "second", "measure", "n_groups", "wins", "ties", "losses")
_DIFFERENCES = ("mean_difference", "difference_low", "difference_high", "share_first_better")


def compare_metrics(
    pairs: pd.DataFrame,
    *,
    scenario: str,
    metrics: Sequence[str] | None = None,
    measure: str = "tau_w",
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare every two metrics, including controls, on the same groups: one row per *unordered* pair of metrics.

    Args:
        pairs: One row per pair: source, target, miou, optionally n_target_classes, and a column per metric.
        scenario: "fixed_target" or "fixed_source".
        metrics: As in `evaluate`.
        measure: One of `MEASURES`.
        n_bootstrap: Number of bootstrap draws of groups.
        seed: Seed of the draws.

    Returns:
        ``first`` comes before ``second`` in the order of the metrics, controls last. Columns:

        * first, second, measure
        * n_groups: number of groups in which the measure is defined for both; only these count below
        * wins, ties, losses: groups in which the first is better (lower, for regret), equal (within 1e-12), worse
        * mean_difference: mean over groups of the first's measure minus the second's
        * difference_low, difference_high: its paired 95 % percentile-bootstrap interval over groups; NaN with one group
        * share_first_better: share in [0, 1] of the draws in which the first has the better mean; equal means count 1/2

    Raises:
        ResultsError: As in `evaluate`, or the measure is unknown.

    Example:
        >>> values = {"miou": [0.6, 0.4, 0.5], "gbc": [-1.0, -3.0, -2.0]}
        >>> pairs = pd.DataFrame({"source": ["a", "b", "c"], "target": ["t", "t", "t"], **values})
        >>> table = compare_metrics(pairs, scenario="fixed_target", measure="rel_at_1")
        >>> table.loc[[1], ["first", "second", "wins", "mean_difference"]].round(4).to_numpy().tolist()
        [['gbc', 'random', 1, 0.1667]]
    """
    column = _column_of(measure)
    frame, names = validate_pairs(pairs, metrics)
    frame = in_scenario(frame, scenario, names)
    kinds = metric_kinds(frame, scenario)
    values = values_of_groups(frame, scenario, kinds)[:, :, column]
    draws = bootstrap_draws(len(values), n_bootstrap, seed)
    rows = [
        {"first": first, "second": second, **_summarize(values[:, i] - values[:, j], draws, measure)}
        for (i, first), (j, second) in combinations(enumerate(kinds), 2)
    ]
    return pd.DataFrame(rows, columns=[*_COLUMNS, *_DIFFERENCES])


def _column_of(measure: str) -> int:
    if measure not in MEASURES:
        raise ResultsError(f"measure {measure!r} is unknown; choose one of {', '.join(MEASURES)}")
    return MEASURES.index(measure)


def signs(differences: Array) -> Array:
    """Return the sign 1, 0 or -1 of every difference; 0 within 1e-12, NaN for NaN."""
    return np.sign(np.where(np.abs(differences) <= EQUAL_WITHIN, 0.0, differences))


def _summarize(differences: Array, draws: Array, measure: str) -> dict[str, Any]:
    """Summarize the differences (groups,) of two metrics in a measure as columns of a row."""
    means = weighted_means(draws, differences)
    low, high = percentile_intervals(means)
    better = -1 if measure in LOWER_IS_BETTER else 1
    sign, mean_signs = better * signs(differences), better * signs(means[~np.isnan(means)])
    return {
        "measure": measure,
        "n_groups": int(np.count_nonzero(~np.isnan(differences))),
        "wins": int(np.count_nonzero(sign == 1)),
        "ties": int(np.count_nonzero(sign == 0)),
        "losses": int(np.count_nonzero(sign == -1)),
        "mean_difference": float(weighted_means(np.ones((1, len(differences))), differences)[0]),
        "difference_low": float(low),
        "difference_high": float(high),
        "share_first_better": float((mean_signs.mean() + 1) / 2) if len(mean_signs) else np.nan,
    }
