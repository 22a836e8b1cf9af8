"""Tables that compare metrics: paired differences, leaving out one dataset, and other experimental setups."""

from __future__ import annotations

import pandas as pd

from seg_transfer.evaluation import (
    CONTROLS,
    SCENARIOS,
    SCRATCH,
    compare_metrics,
    leave_one_dataset_out,
    leave_out_summary,
    metric_columns,
    setup_stability,
)
from seg_transfer.reports.data_table import Table

# Pools of 90 % of the sources, as in the authors' release. Using a fifth as many pools changed the numbers by at most
# 0.04.
_SHARE_OF_SOURCES = 0.9
_POOLS = 20
_MIN_SOURCES = 3


def comparison(pairs: pd.DataFrame) -> pd.DataFrame:
    """Compare every two metrics and controls by tau_w in both scenarios.

    Args:
        pairs: Pairs in the form that `seg_transfer.evaluation` takes.

    Returns:
        scenario, then the columns of `compare_metrics`, with ``second`` named ``second_metric``.
    """
    metrics = metric_columns(pairs)
    parts = [
        compare_metrics(pairs, scenario=scenario, metrics=metrics).assign(scenario=scenario) for scenario in SCENARIOS
    ]
    frame = pd.concat(parts, ignore_index=True).rename(columns={"second": "second_metric"})
    return frame[["scenario", *(name for name in frame if name != "scenario")]]


def comparisons_of(compared: pd.DataFrame, scenario: str, metric: str) -> pd.DataFrame:
    """Return the comparisons of a metric with all others in a scenario, with that metric as the first of the two."""
    rows = compared[compared["scenario"] == scenario]
    as_first, as_second = rows[rows["first"] == metric], rows[rows["second_metric"] == metric]
    swapped = as_second.rename(
        columns={"first": "second_metric", "second_metric": "first", "wins": "losses", "losses": "wins"}
    ).assign(
        mean_difference=-as_second["mean_difference"],
        difference_low=-as_second["difference_high"],
        difference_high=-as_second["difference_low"],
        share_first_better=1 - as_second["share_first_better"],
    )
    return pd.concat([swapped, as_first], ignore_index=True)[list(rows)]


def comparison_tables(pairs: pd.DataFrame, compared: pd.DataFrame, metric: str) -> list[Table]:
    """Make tables of comparisons and, with enough sources, of the effects of leaving out a dataset and of other setups.

    Args:
        pairs: Pairs in the form that `seg_transfer.evaluation` takes.
        compared: Frame from `comparison`.
        metric: The metric that the page compares with all others.
    """
    page = comparisons_of(compared, "fixed_target", metric).drop(columns=["scenario", "measure"])
    title = "Every two metrics: difference in tau_w, paired over groups"
    page_title = f"Ranking sources: {metric} against every other metric and control, tau_w paired over targets"
    tables = [Table("comparison", title, compared, page=page, page_title=page_title)]
    sources = pairs.loc[pairs["source"] != SCRATCH, "source"].nunique()
    if sources < _MIN_SOURCES:
        return tables
    without_one = leave_one_dataset_out(pairs, scenario="fixed_target", metrics=metric_columns(pairs))
    left_out = leave_out_summary(without_one)
    shown = left_out.drop(columns=["n_best_changes", "kind"])
    title = "Ranking sources, one dataset left out in turn"
    tables.append(Table("leave_one_dataset_out", title, left_out.drop(columns="n_best_changes"), page=shown))
    return [*tables, *_setup_tables(pairs, compared, sources)]


def _setup_tables(pairs: pd.DataFrame, compared: pd.DataFrame, sources: int) -> list[Table]:
    if len({*compared["first"], *compared["second_metric"]} - set(CONTROLS)) < 2:
        return []
    size = max(2, int(_SHARE_OF_SOURCES * sources))
    frame = setup_stability(pairs, metrics=metric_columns(pairs), subset_sizes=[size], n_subsets=_POOLS)
    frame = frame.rename(columns={"second": "second_metric"})
    page = frame[frame["first"] == ""].drop(
        columns=["first", "second_metric", "first_better", "equal", "second_better"]
    )
    title = "Would another experimental setup rank the metrics alike?"
    return [Table("setup_stability", title, frame, page=page)]
