"""Scores held against actual performance group by group, and their means over groups."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from seg_transfer.evaluation._bootstrap import draws_of, intervals, weighted_means
from seg_transfer.evaluation._measures import MEASURES, Array, measures
from seg_transfer.evaluation._noise import chance_margins
from seg_transfer.evaluation._pairs import (
    SCENARIOS,
    SCRATCH,
    axes_of,
    checked,
    controls_of,
    in_scenario,
    kinds_of,
    metrics_of,
)

_TAU_W = MEASURES.index("tau_w")


def evaluate_groups(
    pairs: pd.DataFrame, *, metrics: Sequence[str] | None = None, scenarios: Sequence[str] = SCENARIOS
) -> pd.DataFrame:
    """Evaluation measures of every group: one row per (scenario, group, metric), controls among the metrics.

    Columns: scenario, group, metric, kind ("metric" or "control"), n_items, the measures, chosen and best (names; tied
    ones joined by ", ", chosen is empty for `random`), chosen_miou (mean over the tied) and best_miou.
    A group with fewer than two items has nothing to rank and no row; `evaluate` counts such groups.

    Controls look at no feature:
    minus_n_classes      minus n_target_classes; fixed source only, and only where that column is given
    mean_rank_elsewhere  the item's mean rank by performance in the *other* groups, never in its own
    random               the expectation over all orders: no draw is made

    `metrics` as in `evaluate`.
    """
    frame, names = checked(pairs, metrics)
    rows = [row for scenario in scenarios for row in _group_rows(in_scenario(frame, scenario, names), scenario)]
    extra = ["chosen", "best", "chosen_miou", "best_miou"]
    return pd.DataFrame(rows, columns=["scenario", "group", "metric", "kind", "n_items", *MEASURES, *extra])


def evaluate(
    pairs: pd.DataFrame,
    *,
    metrics: Sequence[str] | None = None,
    n_bootstrap: int = 2000,
    seed: int = 0,
    scenarios: Sequence[str] = SCENARIOS,
) -> pd.DataFrame:
    """Mean evaluation measures over groups: one row per (scenario, metric), metrics first, then controls.

    Columns: scenario, metric, kind ("metric" or "control"), then
    n_groups         groups evaluated
    n_too_small      groups left out because they hold fewer than two items
    n_tau_undefined  groups whose tau_w is NaN (constant scores or performance); they are left out of that mean
    <measure>, <measure>_low, <measure>_high
                     mean over groups and its 95 % percentile-bootstrap interval over groups (NaN with one group);
                     all rows of a scenario see the same `n_bootstrap` draws of groups, so they are paired
    beaten_by        of a metric: the list of controls with a higher tau_w, None where there is none

    `miou` must be there for every row: drop pairs that are not fine-tuned yet.

    `metrics` names the columns that are judged; all others are ignored then. Without it these are all columns beside
    the names, miou and n_target_classes, and each must be a metric that `seg_transfer.metrics.METRICS` knows.
    """
    frame, names = checked(pairs, metrics)
    rows = [_summary(in_scenario(frame, scenario, names), scenario, n_bootstrap, seed) for scenario in scenarios]
    return pd.DataFrame([row for of_scenario in rows for row in of_scenario])


def rankings(pairs: pd.DataFrame, scenario: str, *, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """The ranking that each metric gives, beside the actual one: one row per (group, item, metric).

    Columns: group, item, miou, miou_rank, metric, score, score_rank; ranks start at 1 = best, equal values share the
    smaller rank. Rows are in the order of group, metric, miou_rank. `metrics` as in `evaluate`.
    """
    frame, names = checked(pairs, metrics)
    frame = in_scenario(frame, scenario, names)
    group, item = axes_of(scenario)
    ranked = frame.assign(miou_rank=_ranks(frame, group, "miou"))
    parts = [
        ranked[[group, item, "miou", "miou_rank"]].assign(
            metric=metric, position=position, score=frame[metric], score_rank=_ranks(frame, group, metric)
        )
        for position, metric in enumerate(metrics_of(frame))
    ]
    columns = ["group", "item", "miou", "miou_rank", "metric", "score", "score_rank"]
    if not parts:
        return pd.DataFrame(columns=columns)
    long = pd.concat(parts).rename(columns={group: "group", item: "item"})
    return long.sort_values(["group", "position", "miou_rank", "item"], ignore_index=True)[columns]


def scratch_report(pairs: pd.DataFrame, trials: pd.DataFrame | None = None) -> pd.DataFrame:
    """Does any source help? One row per target that was also fine-tuned from scratch and has at least one source.

    Columns: target, scratch_miou, best_source (equally good ones joined by ", "), best_miou, margin, beats_scratch
    (bool: best_miou > scratch_miou + margin). Where it is False, a ranking of sources says little.

    `trials`, one row per fine-tuning as in `fine_tuning_noise`, give the margin: 1.96 standard errors of a difference
    by seeds alone, 0 without a second seed. No metric is judged here: other columns are ignored.
    """
    frame, _ = checked(pairs, metrics=())
    margins = {} if trials is None else chance_margins(trials)
    scratch = pairs[pairs["source"] == SCRATCH].set_index("target")["miou"]
    rows = []
    for target, members in frame.groupby("target"):
        if target in scratch.index:
            miou, best, margin = float(scratch[target]), float(members["miou"].max()), margins.get(str(target), 0.0)
            names = _best_names(members, "source", members["miou"])
            rows.append((target, miou, names, best, margin, best > miou + margin))
    columns = ["target", "scratch_miou", "best_source", "best_miou", "margin", "beats_scratch"]
    return pd.DataFrame(rows, columns=columns)


def _group_rows(frame: pd.DataFrame, scenario: str) -> Iterator[dict[str, Any]]:
    group, item = axes_of(scenario)
    scored = frame.assign(**controls_of(frame, scenario))
    kinds = kinds_of(frame, scenario)
    for name, members in scored.groupby(group):
        if len(members) < 2:
            continue
        performance = members["miou"].to_numpy()
        best = {"best": _best_names(members, item, members["miou"]), "best_miou": performance.max()}
        for metric, kind in kinds.items():
            head = {"scenario": scenario, "group": name, "metric": metric, "kind": kind, "n_items": len(members)}
            if metric == "random":
                yield {**head, **_random_measures(performance), "chosen": "", "chosen_miou": performance.mean(), **best}
                continue
            score = members[metric].to_numpy()
            chosen = _best_names(members, item, members[metric])
            chosen_miou = performance[score == score.max()].mean()
            yield {**head, **measures(performance, score), "chosen": chosen, "chosen_miou": chosen_miou, **best}


def _random_measures(performance: Array) -> dict[str, float]:
    """Equal scores choose every item with the same chance; the signs of random pairs cancel in every tau."""
    tau = np.nan if np.ptp(performance) == 0 else 0.0
    return {**measures(performance, np.zeros_like(performance)), "tau_w": tau, "kendall": tau, "pearson": tau}


def values_of_groups(frame: pd.DataFrame, scenario: str) -> Array:
    """(groups, metrics, measures) of a frame of `in_scenario`, in the order of `kinds_of` and MEASURES."""
    values = np.array([[row[measure] for measure in MEASURES] for row in _group_rows(frame, scenario)])
    return values.reshape(-1, len(kinds_of(frame, scenario)), len(MEASURES))


def _summary(frame: pd.DataFrame, scenario: str, n_bootstrap: int, seed: int) -> list[dict[str, Any]]:
    kinds = kinds_of(frame, scenario)
    values = values_of_groups(frame, scenario)
    n_groups = len(values)
    means = weighted_means(np.ones((1, n_groups)), values)[0]
    low, high = intervals(weighted_means(draws_of(n_groups, n_bootstrap, seed), values))
    taus = {name: means[row, _TAU_W] for row, name in enumerate(kinds)}
    rows = []
    for row, (name, kind) in enumerate(kinds.items()):
        beaten_by = [other for other in kinds if kinds[other] == "control" and taus[other] > taus[name]]
        entry: dict[str, Any] = {"scenario": scenario, "metric": name, "kind": kind, "n_groups": n_groups}
        entry["n_too_small"] = frame[axes_of(scenario)[0]].nunique() - n_groups
        entry["n_tau_undefined"] = int(np.isnan(values[:, row, _TAU_W]).sum())
        for column, measure in enumerate(MEASURES):
            entry[measure] = means[row, column]
            entry[f"{measure}_low"], entry[f"{measure}_high"] = low[row, column], high[row, column]
        rows.append({**entry, "beaten_by": beaten_by if kind == "metric" and beaten_by else None})
    return rows


def _best_names(members: pd.DataFrame, item: str, value: "pd.Series[float]") -> str:
    return ", ".join(members.loc[value == value.max(), item])


def _ranks(frame: pd.DataFrame, group: str, column: str) -> "pd.Series[int]":
    return frame.groupby(group)[column].rank(method="min", ascending=False).astype(int)
