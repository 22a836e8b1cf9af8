"""Sentences on what a verdict is worth: its gaps, the ceiling, and whether it holds for other sources."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from seg_transfer.evaluation import SCRATCH, largest_sources
from seg_transfer.reports.performance import POINTS

_QUESTION = {"fixed_target": "Ranking sources", "fixed_source": "Ranking targets"}
_WITHIN_THIRDS = "Within thirds by number of parameters"


def gap_sentences(evaluation: pd.DataFrame | None, scenario: str, metric: str) -> list[str]:
    """Say what the choices of a metric lose, against random ones and against one fine-tuning per pair.

    Args:
        evaluation: From `seg_transfer.evaluation.evaluate`; None if no pair is fine-tuned.
        scenario: "fixed_target" or "fixed_source".
        metric: The metric to speak of.
    """
    if evaluation is None:
        return []
    rows = evaluation[evaluation["scenario"] == scenario].set_index("metric").to_dict("index")
    if metric not in rows or math.isnan(rows[metric]["regret"]):
        return []
    row, random = rows[metric], rows["random"]
    low, high = (POINTS * row[f"regret_{end}"] for end in ("low", "high"))
    known = "" if math.isnan(low) else f" (95 % interval {low:.1f} to {high:.1f})"
    lost = f"{POINTS * row['regret']:.1f} points of mIoU{known}; random ones lose {POINTS * random['regret']:.1f}"
    return [f"{_QUESTION[scenario]}, the choices of {metric} lose {lost}.", *_ceiling_sentences(rows, metric)]


def _ceiling_sentences(rows: Mapping[Any, Mapping[Any, Any]], metric: str) -> list[str]:
    ceiling = next((row for row in rows.values() if row["kind"] == "ceiling"), None)
    if ceiling is None or math.isnan(ceiling["regret"]):
        return []
    share = rows[metric]["tau_w_share"]
    reached = "" if math.isnan(share) else f"; {metric} reaches {100 * share:.0f} % of that tau_w"
    tau = "" if math.isnan(ceiling["tau_w"]) else f"a tau_w of {ceiling['tau_w']:.3f}, "
    return [
        f"Fine-tuning every pair once, judged by other seeds, has {tau}a top-1 of {ceiling['top1']:.3f} and loses "
        f"{POINTS * ceiling['regret']:.1f} points{reached}."
    ]


def robustness_sentences(summary: pd.DataFrame, pairs: pd.DataFrame) -> list[str]:
    """Say whether the best metric for ranking sources stays the best with other sources.

    Args:
        summary: From `seg_transfer.evaluation.robustness_summary`.
        pairs: The pairs that it is about, as `seg_transfer.evaluation` takes them.
    """
    metrics = summary[summary["kind"] == "metric"].dropna(subset=["tau_w"]) if len(summary) else summary
    if metrics.empty:
        return []
    by_metric = metrics.set_index("metric")
    best = str(by_metric["tau_w"].idxmax())
    of_size = _size_sentences(by_metric, best, pairs, differ="parameters" in set(summary["metric"]))
    return [*of_size, *_left_out_sentences(best, by_metric.to_dict("index")[best])]


def _size_sentences(metrics: pd.DataFrame, best: str, pairs: pd.DataFrame, *, differ: bool) -> list[str]:
    """Say what the size of sources changes; the control `parameters` is there where sizes differ."""
    known = [name for name in ("tau_w_without_largest", "tau_w_equal_size") if metrics[name].notna().any()]
    if known:
        where = {"tau_w_without_largest": _without_largest(pairs), "tau_w_equal_size": _WITHIN_THIRDS}
        return [_still_best(metrics[name], best, where[name]) for name in known]
    if differ:  # but too few sources to leave any out
        return []
    if "parameters" in pairs:
        return ["All sources have the same size, so size explains no ranking."]
    return ["Their numbers of parameters are not recorded, so whether the size of sources explains it was not checked."]


def _without_largest(pairs: pd.DataFrame) -> str:
    largest = largest_sources(pairs)
    n_sources = pairs.loc[pairs["source"] != SCRATCH, "source"].nunique()
    return f"Without the {f'{len(largest)} largest' if len(largest) > 1 else 'largest'} of {n_sources} sources"


def _still_best(tau: pd.Series[float], best: str, where: str) -> str:
    leader = str(tau.idxmax())
    if tau[best] == tau[leader]:
        return f"{where}, {best} is still the best metric (tau_w {tau[best]:.3f})."
    own = "undefined" if math.isnan(tau[best]) else f"{tau[best]:.3f}"
    return f"{where}, {leader} is the best metric (tau_w {tau[leader]:.3f}; {best} {own})."


def _left_out_sentences(best: str, row: Mapping[Any, Any]) -> list[str]:
    n_left_out, n_first = int(row["n_left_out"]), int(row["n_first"])
    if not n_left_out or math.isnan(row["tau_w_min"]):
        return []
    span = f"its tau_w lies between {row['tau_w_min']:.3f} and {row['tau_w_max']:.3f}"
    if n_first == n_left_out:
        return [f"{best} is the best whichever source is left out; {span}."]
    return [f"With one source left out in turn, {best} is the best in {n_first} of {n_left_out} cases; {span}."]
