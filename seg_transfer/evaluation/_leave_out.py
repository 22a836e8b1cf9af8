"""How much a verdict on metrics depends on one dataset."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from seg_transfer.evaluation._bootstrap import weighted_means
from seg_transfer.evaluation._groups import values_of_groups
from seg_transfer.evaluation._measures import MEASURES, Array
from seg_transfer.evaluation._pairs import in_scenario, metric_kinds, validate_pairs

NO_DATASET = ""

_SHOWN = ("tau_w", "top1")


def leave_one_dataset_out(pairs: pd.DataFrame, *, scenario: str, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """The mean measures of every metric when one dataset is left out, as source and as target.

    Args:
        pairs: One row per pair: source, target, miou, optionally n_target_classes, and a column per metric.
        scenario: "fixed_target" or "fixed_source".
        metrics: As in `evaluate`.

    Returns:
        One row per (left_out, metric), controls last; first those of all datasets, whose left_out is "". Columns:

        * left_out: the dataset; metrics and controls that combine several pairs are computed without its pairs
        * metric, kind ("metric" or "control"), n_groups
        * tau_w, top1: means over the groups, as `evaluate` gives them for the remaining pairs; NaN where there is no
          group
        * rank: place of a metric by tau_w among the metrics, 1 is best, equal ones share the smaller; missing for
          controls and where tau_w is NaN

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
        values = _values(rest.reset_index(drop=True), scenario, names, len(kinds))
        means = weighted_means(np.ones((1, len(values))), values)[0]
        shown = {name: means[:, MEASURES.index(name)] for name in _SHOWN}
        rows += [
            {"left_out": dataset, "metric": metric, "kind": kind, "n_groups": len(values)}
            | {name: float(column[place]) for name, column in shown.items()}
            for place, (metric, kind) in enumerate(kinds.items())
        ]
    table = pd.DataFrame(rows)
    of_metrics = table[table["kind"] == "metric"].groupby("left_out")["tau_w"]
    return table.assign(rank=of_metrics.rank(method="min", ascending=False).astype("Int64"))


def leave_out_summary(left_out: pd.DataFrame) -> pd.DataFrame:
    """Summarize `leave_one_dataset_out`: one row per metric, controls last.

    Args:
        left_out: What `leave_one_dataset_out` returns.

    Returns:
        Columns:

        * metric, kind ("metric" or "control")
        * of tau_w, top1 and rank, NAME, NAME_min and NAME_max: with all datasets, and the least and the largest with
          one dataset left out
        * n_left_out: datasets that were left out in turn
        * n_first: with how many of them left out the metric is the best by tau_w, alone or with others
        * n_best_changes: with how many of them left out other metrics are the best than with all datasets: one number
          for the whole study, in every row

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
    for name in (*_SHOWN, "rank"):
        of_metric = others.groupby("metric")[name]
        summary[name], summary[f"{name}_min"] = everything[name], of_metric.min()
        summary[f"{name}_max"] = of_metric.max()
    summary["n_left_out"] = len(datasets)
    summary["n_first"] = (others["rank"] == 1).fillna(False).groupby(others["metric"]).sum()
    summary["n_best_changes"] = changes
    return summary.reset_index()


def _values(frame: pd.DataFrame, scenario: str, names: Sequence[str], n_metrics: int) -> Array:
    """(groups, metrics, measures); no group where no pair is left."""
    if frame.empty:
        return np.zeros((0, n_metrics, len(MEASURES)))
    return values_of_groups(in_scenario(frame, scenario, names), scenario)


def _best_metrics(rows: pd.DataFrame) -> set[str]:
    return set(rows.loc[(rows["rank"] == 1).fillna(False), "metric"])
