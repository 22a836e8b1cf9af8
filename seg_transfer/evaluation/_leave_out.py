"""How much a verdict on metrics rests on one dataset."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from seg_transfer.evaluation._bootstrap import weighted_means
from seg_transfer.evaluation._groups import values_of_groups
from seg_transfer.evaluation._measures import MEASURES, Array
from seg_transfer.evaluation._pairs import checked, in_scenario, kinds_of

NOTHING = ""

_SHOWN = ("tau_w", "top1")


def leave_one_dataset_out(pairs: pd.DataFrame, *, scenario: str, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """The mean measures of every metric when one dataset is left out, as source and as target.

    One row per (left_out, metric), controls last; first those of all datasets, whose left_out is "". Columns:
    left_out   the dataset; metrics and controls that are made of several pairs are made of the others'
    metric, kind ("metric" or "control"), n_groups
    tau_w, top1  means over the groups, as `evaluate` gives them for the remaining pairs; NaN where there is no group
    rank       place of a metric by tau_w among the metrics, 1 is best, equal ones share the smaller; missing for
               controls and where tau_w is NaN

    `metrics` as in `evaluate`, whose errors it raises.
    """
    frame, names = checked(pairs, metrics)
    kinds = kinds_of(in_scenario(frame, scenario, names), scenario)
    rows: list[dict[str, Any]] = []
    for dataset in [NOTHING, *sorted({*frame["source"], *frame["target"]})]:
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
    """What `leave_one_dataset_out` found, one row per metric, controls last. Columns: metric, kind, then

    tau_w, tau_w_min, tau_w_max, top1, top1_min, top1_max, rank, rank_min, rank_max
                     with all datasets, and the least and the most with one dataset left out
    n_left_out       datasets that were left out in turn
    n_first          with how many of them left out the metric is the best by tau_w, alone or with others
    n_best_changes   with how many of them left out other metrics are the best than with all datasets: one number for
                     the whole study, in every row
    """
    everything = left_out[left_out["left_out"] == NOTHING].set_index("metric")
    others = left_out[left_out["left_out"] != NOTHING]
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
