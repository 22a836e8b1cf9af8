"""Scores compared with actual performance group by group."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from seg_transfer.evaluation._bootstrap import weighted_means
from seg_transfer.evaluation._controls import controls_of, metric_kinds
from seg_transfer.evaluation._measures import MEASURES, Array, measures, measures_of_all
from seg_transfer.evaluation._noise import chance_margins
from seg_transfer.evaluation._pairs import (
    SCENARIOS,
    SCRATCH,
    axes_of,
    in_scenario,
    metrics_of,
    validate_pairs,
)


def evaluate_groups(
    pairs: pd.DataFrame, *, metrics: Sequence[str] | None = None, scenarios: Sequence[str] = SCENARIOS
) -> pd.DataFrame:
    """Compute the evaluation measures of every group: one row per (scenario, group, metric), including controls.

    Controls use no features:

    * minus_n_classes: minus n_target_classes; for fixed sources only, and only where that column is given
    * each of the `SOURCE_FACTS`: for fixed targets only, where it is given for every source and sources differ
    * mean_rank_elsewhere: the item's mean rank by performance in the *other* groups, never in the group itself
    * random: the expectation over all orders; nothing is drawn

    Args:
        pairs: One row per pair: source, target, miou, optionally n_target_classes, and a column per metric.
        metrics: As in `evaluate`.
        scenarios: Some or all of `SCENARIOS`.

    Returns:
        Columns: scenario, group, metric, kind ("metric" or "control"), n_items, the `MEASURES`, chosen and best (names;
        tied ones are joined by ", ", and chosen is empty for `random`), chosen_miou (mean over ties) and best_miou. A
        group with fewer than two items has nothing to rank and no row; `evaluate` counts such groups.

    Raises:
        ResultsError: As in `evaluate`.

    Example:
        >>> pairs = pd.DataFrame({
        ...     "source": ["a", "b", "c"],
        ...     "target": ["t", "t", "t"],
        ...     "miou": [0.6, 0.4, 0.5],
        ...     "gbc": [-1.0, -3.0, -2.0],
        ... })
        >>> groups = evaluate_groups(pairs, scenarios=["fixed_target"])
        >>> groups.loc[[0], ["group", "metric", "chosen", "best", "top1"]].to_numpy().tolist()
        [['t', 'gbc', 'a', 'a', 1.0]]
    """
    frame, names = validate_pairs(pairs, metrics)
    frames = {scenario: in_scenario(frame, scenario, names) for scenario in scenarios}
    rows = [row for name, ranked in frames.items() for row in _group_rows(ranked, name, metric_kinds(ranked, name))]
    extra = ["chosen", "best", "chosen_miou", "best_miou"]
    return pd.DataFrame(rows, columns=["scenario", "group", "metric", "kind", "n_items", *MEASURES, *extra])


def rankings(pairs: pd.DataFrame, scenario: str, *, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """Compare the ranking by each metric with the actual ranking: one row per (group, item, metric).

    Args:
        pairs: One row per pair: source, target, miou, optionally n_target_classes, and a column per metric.
        scenario: "fixed_target" or "fixed_source".
        metrics: As in `evaluate`.

    Returns:
        Columns: group, item, miou, miou_rank, metric, score, score_rank; rank 1 is the best, and equal values share
        the smaller rank. Rows are sorted by group, metric, miou_rank.

    Raises:
        ResultsError: As in `evaluate`.

    Example:
        >>> pairs = pd.DataFrame({
        ...     "source": ["a", "b", "c"],
        ...     "target": ["t", "t", "t"],
        ...     "miou": [0.6, 0.4, 0.5],
        ...     "gbc": [-1.0, -3.0, -2.0],
        ... })
        >>> table = rankings(pairs, "fixed_target")
        >>> table[["item", "miou_rank", "score_rank"]].to_numpy().tolist()
        [['a', 1, 1], ['c', 2, 2], ['b', 3, 3]]
    """
    frame, names = validate_pairs(pairs, metrics)
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


def scratch_report(pairs: pd.DataFrame, fine_tunings: pd.DataFrame | None = None) -> pd.DataFrame:
    """Report whether any source helps: one row per target with a fine-tuning from scratch and at least one source.

    No metric is judged here; other columns are ignored.

    Args:
        pairs: One row per pair: source, target, miou; fine-tunings from scratch are rows with the source `scratch`.
        fine_tunings: One row per fine-tuning, as in `fine_tuning_noise`. Those of the pairs determine the margin: 1.96
            standard errors of a difference due to seeds alone, and 0 without a second seed.

    Returns:
        Columns: target, scratch_miou, best_source (equally good ones joined by ", "), best_miou, margin, beats_scratch
        (bool: best_miou > scratch_miou + margin). Where it is False, a ranking of sources says little.

    Raises:
        ResultsError: As in `evaluate`.

    Example:
        >>> pairs = pd.DataFrame({"source": ["a", "b", "scratch"], "target": ["t"] * 3, "miou": [0.6, 0.4, 0.5]})
        >>> scratch_report(pairs)[["target", "best_source", "beats_scratch"]].to_numpy().tolist()
        [['t', 'a', True]]
    """
    frame, _ = validate_pairs(pairs, metrics=())
    margins = {} if fine_tunings is None else chance_margins(fine_tunings, frame)
    scratch = pairs[pairs["source"] == SCRATCH].set_index("target")["miou"]
    rows = []
    for target, members in frame.groupby("target"):
        if target in scratch.index:
            miou, best, margin = float(scratch[target]), float(members["miou"].max()), margins.get(str(target), 0.0)
            names = _best_names(members, "source", members["miou"])
            rows.append((target, miou, names, best, margin, best > miou + margin))
    columns = ["target", "scratch_miou", "best_source", "best_miou", "margin", "beats_scratch"]
    return pd.DataFrame(rows, columns=columns)


def scored_groups(frame: pd.DataFrame, scenario: str) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Yield name and rows of every group of two items or more, with a column of scores per metric and control."""
    for name, members in frame.assign(**controls_of(frame, scenario)).groupby(axes_of(scenario)[0]):
        if len(members) > 1:
            yield name, members


def _group_rows(frame: pd.DataFrame, scenario: str, kinds: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    item = axes_of(scenario)[1]
    for name, members in scored_groups(frame, scenario):
        performance = members["miou"].to_numpy()
        best = {"best": _best_names(members, item, members["miou"]), "best_miou": performance.max()}
        for metric, kind in kinds.items():
            head = {"scenario": scenario, "group": name, "metric": metric, "kind": kind, "n_items": len(members)}
            score = None if metric == "random" else members[metric].to_numpy()
            row = {**head, **_measures_of(performance, score), **best}
            if score is None:
                yield {**row, "chosen": "", "chosen_miou": performance.mean()}
                continue
            chosen_miou = performance[score == score.max()].mean()
            yield {**row, "chosen": _best_names(members, item, members[metric]), "chosen_miou": chosen_miou}


def _measures_of(performance: Array, score: Array | None) -> dict[str, float]:
    return _random_measures(performance) if score is None else measures(performance, score)


def _random_measures(performance: Array) -> dict[str, float]:
    """Return expected measures: every item is equally likely to be chosen, and correlations are 0."""
    tau = np.nan if np.ptp(performance) == 0 else 0.0
    return {**measures(performance, np.zeros_like(performance)), "tau_w": tau, "kendall": tau, "pearson": tau}


def values_of_groups(frame: pd.DataFrame, scenario: str, kinds: Mapping[str, str]) -> Array:
    """Return measures (groups, metrics, MEASURES) for a frame from `in_scenario`; kinds from `metric_kinds`."""
    scored, blocks = [metric for metric in kinds if metric != "random"], []
    is_random = np.array([metric == "random" for metric in kinds])
    for _, members in scored_groups(frame, scenario):
        performance, values = members["miou"].to_numpy(), np.empty((len(kinds), len(MEASURES)))
        values[~is_random] = measures_of_all(performance, members[scored].to_numpy(dtype=np.float64).T)
        values[is_random] = list(_random_measures(performance).values())
        blocks.append(values)
    return np.array(blocks).reshape(-1, len(kinds), len(MEASURES))


def mean_measures(
    frame: pd.DataFrame, scenario: str, names: Sequence[str], kinds: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Average the measures over groups: metric, kind, n_groups and the `MEASURES` of every metric.

    Args:
        frame: Some of the validated pairs; the means are NaN where no group is left.
        scenario: As in `evaluate`.
        names: The metrics.
        kinds: The metrics and controls to return, from `metric_kinds` of all pairs: a control that is constant in these
            has no tau_w.
    """
    values = np.zeros((0, len(kinds), len(MEASURES)))
    if not frame.empty:
        values = values_of_groups(in_scenario(frame.reset_index(drop=True), scenario, names), scenario, kinds)
    means = weighted_means(np.ones((1, len(values))), values)[0]
    return [
        {"metric": metric, "kind": kind, "n_groups": len(values), **dict(zip(MEASURES, row.tolist(), strict=True))}
        for (metric, kind), row in zip(kinds.items(), means, strict=True)
    ]


def _best_names(members: pd.DataFrame, item: str, value: "pd.Series[float]") -> str:
    return ", ".join(members.loc[value == value.max(), item])


def _ranks(frame: pd.DataFrame, group: str, column: str) -> "pd.Series[int]":
    return frame.groupby(group)[column].rank(method="min", ascending=False).astype(int)
