"""How much a comparison of metrics depends on one dataset."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from seg_transfer.evaluation._controls import metric_kinds
from seg_transfer.evaluation._groups import mean_measures
from seg_transfer.evaluation._pairs import in_scenario, validate_pairs

NO_DATASET = ""

_SUMMARIZED = ("tau_w", "top1")


def leave_one_dataset_out(pairs: pd.DataFrame, *, scenario: str, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """Compute the mean measures of every metric with one dataset left out, as source and as target.

    Args:
        pairs: One row per pair: source, target, miou, optionally n_target_classes, and a column per metric.
        scenario: "fixed_target" or "fixed_source".
        metrics: As in `evaluate`.

    Returns:
        One row per (left_out, metric), controls last. Rows with all datasets come first, with "" as left_out. Columns:

        * left_out: the dataset; metrics and controls that combine several pairs are computed without its pairs
        * metric, kind ("metric" or "control"), n_groups
        * tau_w, top1: means over the groups, as `evaluate` computes them for the remaining pairs; NaN where there is
          no group
        * rank: rank of a metric by tau_w among the metrics; 1 is the best, and equal values share the smaller rank.
          Missing for controls and where tau_w is NaN.

    Raises:
        ResultsError: As in `evaluate`.

    Example:
        >>> pairs = pd.DataFrame({
        ...     "source": ["a", "b", "c"],
        ...     "target": ["t", "t", "t"],
        ...     "miou": [0.6, 0.4, 0.5],
        ...     "gbc": [-1.0, -3.0, -2.0],
        ... })
        >>> table = leave_one_dataset_out(pairs, scenario="fixed_target")
        >>> table.loc[table["metric"] == "gbc", ["left_out", "n_groups", "top1"]].to_numpy().tolist()
        [['', 1, 1.0], ['a', 1, 1.0], ['b', 1, 1.0], ['c', 1, 1.0], ['t', 0, nan]]
    """
    frame, names = validate_pairs(pairs, metrics)
    kinds = metric_kinds(in_scenario(frame, scenario, names), scenario)
    rows: list[dict[str, Any]] = []
    for dataset in [NO_DATASET, *sorted({*frame["source"], *frame["target"]})]:
        rest = frame[(frame["source"] != dataset) & (frame["target"] != dataset)]
        rows += [{"left_out": dataset, **row} for row in mean_measures(rest, scenario, names, kinds)]
    table = pd.DataFrame(rows)[["left_out", "metric", "kind", "n_groups", *_SUMMARIZED]]
    return table.assign(rank=ranks_of_metrics(table, ["left_out"]))


def ranks_of_metrics(table: pd.DataFrame, by: Sequence[str]) -> "pd.Series[int]":
    """Rank the metrics by tau_w in each part of a table: 1 is the best; missing for controls and without a tau_w."""
    taus = table[table["kind"] == "metric"].groupby([*by])["tau_w"]
    return taus.rank(method="min", ascending=False).astype("Int64").reindex(table.index)


def leave_out_summary(left_out: pd.DataFrame) -> pd.DataFrame:
    """Summarize `leave_one_dataset_out`: one row per metric, controls last.

    Args:
        left_out: The table that `leave_one_dataset_out` returns.

    Returns:
        Columns:

        * metric, kind ("metric" or "control")
        * NAME, NAME_min and NAME_max for tau_w, top1 and rank: the value with all datasets, and the smallest and
          largest with one dataset left out
        * n_left_out: number of datasets that were left out in turn
        * n_first: for how many of them the metric is the best by tau_w, alone or tied
        * n_best_changes: for how many of them the best metrics differ from those with all datasets; the same number in
          every row

    Example:
        >>> pairs = pd.DataFrame({
        ...     "source": ["a", "b", "c"],
        ...     "target": ["t", "t", "t"],
        ...     "miou": [0.6, 0.4, 0.5],
        ...     "gbc": [-1.0, -3.0, -2.0],
        ... })
        >>> summary = leave_out_summary(leave_one_dataset_out(pairs, scenario="fixed_target"))
        >>> summary.loc[[0], ["metric", "n_left_out", "n_first"]].to_numpy().tolist()
        [['gbc', 4, 3]]
    """
    everything = left_out[left_out["left_out"] == NO_DATASET].set_index("metric")
    others = left_out[left_out["left_out"] != NO_DATASET]
    datasets = others["left_out"].unique()
    best = _best_metrics(everything.reset_index())
    changes = sum(_best_metrics(rows) != best for _, rows in others.groupby("left_out"))
    summary = everything[["kind"]].copy()
    for name in (*_SUMMARIZED, "rank"):
        by_metric = others.groupby("metric")[name]
        summary[name], summary[f"{name}_min"] = everything[name], by_metric.min()
        summary[f"{name}_max"] = by_metric.max()
    summary["n_left_out"] = len(datasets)
    summary["n_first"] = (others["rank"] == 1).fillna(False).groupby(others["metric"]).sum()
    summary["n_best_changes"] = changes
    return summary.reset_index()


def _best_metrics(rows: pd.DataFrame) -> set[str]:
    return set(rows.loc[(rows["rank"] == 1).fillna(False), "metric"])
