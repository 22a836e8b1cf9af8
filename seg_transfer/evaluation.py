"""How well a transferability metric ranks: its scores held against actual performance, group by group.

A group of the fixed-target scenario is one target with its sources; a group of the fixed-source scenario is one source
with its targets. Every function takes `pairs`, one row per pair:

    source, target      names; rows whose source is `scratch` are a control of fine-tuning and are never ranked
    miou                actual performance, a fraction in [0, 1]
    n_target_classes    optional, the number of classes of the target
    any other numeric column is a transferability metric (higher is better)

Where all parts of the metric `rank_mean` are columns and it is none itself, it is added, from the ranks in each group.

A pair that was not fine-tuned yet has no miou: the caller drops its row first, nothing here guesses it.
Functions raise ResultsError on a missing column, a pair given twice, source == target, or a value that is not finite.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import kendalltau, weightedtau

from seg_transfer.errors import ResultsError
from seg_transfer.metrics._rank_mean import PARTS, rank_mean

Array = npt.NDArray[np.float64]

GROUP_AND_ITEM = {"fixed_target": ("target", "source"), "fixed_source": ("source", "target")}
SCENARIOS = tuple(GROUP_AND_ITEM)
MEASURES = ("top1", "tau_w", "rel_at_1", "kendall", "pearson")
CONTROLS = ("minus_n_classes", "mean_rank_elsewhere", "random")
SCRATCH = "scratch"

_NOT_METRICS = ("source", "target", "miou", "n_target_classes")
_TAU_W = MEASURES.index("tau_w")


def measures(performance: Array, score: Array) -> dict[str, float]:
    """Evaluation measures of one group of n >= 2 items; both arrays have shape (n,) and are finite.

    top1      chance in [0, 1] to pick an item of the best performance when a tie for the highest score is broken at
              random: of k tied items each counts 1/k. Any of several equally best items is a hit.
    tau_w     weighted Kendall tau in [-1, 1] (Vigna 2015): additive hyperbolic weights, mean of the two rankings
    rel_at_1  performance of the chosen item over the best, mean over the items tied for the highest score;
              in [0, 1], NaN unless the best performance is positive
    kendall   Kendall tau-b in [-1, 1]
    pearson   correlation coefficient in [-1, 1]

    The last two and tau_w are NaN where scores or performance are constant: nothing is ordered there.

    >>> measures(np.array([0.2, 0.4, 0.5]), np.array([1.0, 3.0, 3.0]))["top1"]
    0.5
    """
    best = performance.max()
    chosen = performance[score == score.max()]
    constant = bool(np.ptp(performance) == 0 or np.ptp(score) == 0)
    return {
        "top1": float(np.mean(chosen == best)),
        "tau_w": np.nan if constant else float(weightedtau(performance, score).statistic),
        "rel_at_1": float(np.mean(chosen / best)) if best > 0 else np.nan,
        "kendall": np.nan if constant else float(kendalltau(performance, score).statistic),
        "pearson": np.nan if constant else _pearson(performance, score),
    }


def evaluate_groups(pairs: pd.DataFrame, *, scenarios: Sequence[str] = SCENARIOS) -> pd.DataFrame:
    """Evaluation measures of every group: one row per (scenario, group, metric), controls among the metrics.

    Columns: scenario, group, metric, kind ("metric" or "control"), n_items, the measures, chosen and best (names; tied
    ones joined by ", ", chosen is empty for `random`), chosen_miou (mean over the tied) and best_miou.
    A group with fewer than two items has nothing to rank and no row; `evaluate` counts such groups.

    Controls look at no feature:
    minus_n_classes      minus n_target_classes; fixed source only, and only where that column is given
    mean_rank_elsewhere  the item's mean rank by performance in the *other* groups, never in its own
    random               the expectation over all orders: no draw is made
    """
    frame = _checked(pairs)
    rows = [row for scenario in scenarios for row in _group_rows(_with_rank_mean(frame, scenario), scenario)]
    extra = ["chosen", "best", "chosen_miou", "best_miou"]
    return pd.DataFrame(rows, columns=["scenario", "group", "metric", "kind", "n_items", *MEASURES, *extra])


def evaluate(
    pairs: pd.DataFrame, *, n_bootstrap: int = 2000, seed: int = 0, scenarios: Sequence[str] = SCENARIOS
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
    """
    frame = _checked(pairs)
    rows = [_summary(_with_rank_mean(frame, scenario), scenario, n_bootstrap, seed) for scenario in scenarios]
    return pd.DataFrame([row for of_scenario in rows for row in of_scenario])


def rankings(pairs: pd.DataFrame, scenario: str) -> pd.DataFrame:
    """The ranking that each metric gives, beside the actual one: one row per (group, item, metric).

    Columns: group, item, miou, miou_rank, metric, score, score_rank; ranks start at 1 = best, equal values share the
    smaller rank. Rows are in the order of group, metric column, miou_rank.
    """
    frame = _with_rank_mean(_checked(pairs), scenario)
    group, item = _axes(scenario)
    ranked = frame.assign(miou_rank=_ranks(frame, group, "miou"))
    parts = [
        ranked[[group, item, "miou", "miou_rank"]].assign(
            metric=metric, position=position, score=frame[metric], score_rank=_ranks(frame, group, metric)
        )
        for position, metric in enumerate(_metrics(frame))
    ]
    columns = ["group", "item", "miou", "miou_rank", "metric", "score", "score_rank"]
    if not parts:
        return pd.DataFrame(columns=columns)
    long = pd.concat(parts).rename(columns={group: "group", item: "item"})
    return long.sort_values(["group", "position", "miou_rank", "item"], ignore_index=True)[columns]


def scratch_report(pairs: pd.DataFrame) -> pd.DataFrame:
    """Does any source help? One row per target that was also fine-tuned from scratch and has at least one source.

    Columns: target, scratch_miou, best_source (equally good ones joined by ", "), best_miou, beats_scratch (bool:
    best_miou > scratch_miou). Where it is False, a ranking of sources says little.
    """
    frame = _checked(pairs)
    scratch = pairs[pairs["source"] == SCRATCH].set_index("target")["miou"]
    rows = []
    for target, members in frame.groupby("target"):
        if target in scratch.index:
            miou, best = float(scratch[target]), float(members["miou"].max())
            rows.append((target, miou, _best_names(members, "source", members["miou"]), best, best > miou))
    return pd.DataFrame(rows, columns=["target", "scratch_miou", "best_source", "best_miou", "beats_scratch"])


def _with_rank_mean(frame: pd.DataFrame, scenario: str) -> pd.DataFrame:
    """The frame with the metric that is made of others' ranks in the groups of a scenario."""
    if "rank_mean" in frame or not set(PARTS) <= set(frame):
        return frame
    groups = frame.groupby(_axes(scenario)[0])
    values = [pd.Series(rank_mean(*(members[part] for part in PARTS)), members.index) for _, members in groups]
    return frame.assign(rank_mean=pd.concat(values))


def _group_rows(frame: pd.DataFrame, scenario: str) -> Iterator[dict[str, Any]]:
    group, item = _axes(scenario)
    scored = frame.assign(**_controls(frame, scenario))
    kinds = _kinds(frame, scenario)
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


def _controls(frame: pd.DataFrame, scenario: str) -> dict[str, "pd.Series[float]"]:
    controls = {}
    if scenario == "fixed_source" and "n_target_classes" in frame:
        controls["minus_n_classes"] = -frame["n_target_classes"]
    return {**controls, "mean_rank_elsewhere": _mean_rank_elsewhere(frame, *_axes(scenario))}


def _mean_rank_elsewhere(frame: pd.DataFrame, group: str, item: str) -> "pd.Series[float]":
    """Rivals that an item beats minus rivals that beat it, in all groups but its own, per comparison: in [-1, 1].

    That is the mean rank, put so that groups of unequal size can be added and an item that is nowhere else lies in the
    middle (0). The sums are of whole numbers: equal means stay exactly equal, whatever the order of addition.
    """
    groups = frame.groupby(group)["miou"]
    size = groups.transform("size")
    lead = 2 * groups.rank() - (size + 1)
    lead_elsewhere = lead.groupby(frame[item]).transform("sum") - lead
    rivals_elsewhere = (size - 1).groupby(frame[item]).transform("sum") - (size - 1)
    return (lead_elsewhere / rivals_elsewhere.where(rivals_elsewhere > 0)).fillna(0.0)


def _summary(frame: pd.DataFrame, scenario: str, n_bootstrap: int, seed: int) -> list[dict[str, Any]]:
    kinds = _kinds(frame, scenario)
    groups = evaluate_groups(frame, scenarios=[scenario])
    values = groups[list(MEASURES)].to_numpy(dtype=np.float64).reshape(-1, len(kinds), len(MEASURES))
    n_groups = len(values)
    means = _weighted_means(np.ones((1, n_groups)), values)[0]
    low, high = _intervals(values, n_bootstrap, np.random.default_rng(seed))
    taus = {name: means[row, _TAU_W] for row, name in enumerate(kinds)}
    rows = []
    for row, (name, kind) in enumerate(kinds.items()):
        beaten_by = [other for other in kinds if kinds[other] == "control" and taus[other] > taus[name]]
        entry: dict[str, Any] = {"scenario": scenario, "metric": name, "kind": kind, "n_groups": n_groups}
        entry["n_too_small"] = frame[_axes(scenario)[0]].nunique() - n_groups
        entry["n_tau_undefined"] = int(np.isnan(values[:, row, _TAU_W]).sum())
        for column, measure in enumerate(MEASURES):
            entry[measure] = means[row, column]
            entry[f"{measure}_low"], entry[f"{measure}_high"] = low[row, column], high[row, column]
        rows.append({**entry, "beaten_by": beaten_by if kind == "metric" and beaten_by else None})
    return rows


def _intervals(values: Array, n_bootstrap: int, rng: np.random.Generator) -> Array:
    """Values (groups, metrics, measures) -> the 2.5 and 97.5 percentiles of the mean, (2, metrics, measures)."""
    n_groups = len(values)
    if n_groups < 2:
        return np.full((2, *values.shape[1:]), np.nan)
    draws = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_bootstrap).astype(np.float64)
    means = _weighted_means(draws, values)
    undefined = np.isnan(means).all(axis=0)
    bounds: Array = np.nanpercentile(np.where(undefined, 0.0, means), (2.5, 97.5), axis=0)
    bounds[:, undefined] = np.nan
    return bounds


def _weighted_means(weights: Array, values: Array) -> Array:
    """Weights (draws, groups), values (groups, ...) -> means over the groups that are not NaN, (draws, ...)."""
    defined = ~np.isnan(values)
    total: Array = np.tensordot(weights, np.where(defined, values, 0.0), axes=1)
    count = np.tensordot(weights, defined.astype(np.float64), axes=1)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _pearson(x: Array, y: Array) -> float:
    # Not scipy's pearsonr: that warns where scores are nearly constant, and a small spread is still a ranking.
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x / np.linalg.norm(x)) @ (y / np.linalg.norm(y)), -1, 1))


def _best_names(members: pd.DataFrame, item: str, value: "pd.Series[float]") -> str:
    return ", ".join(members.loc[value == value.max(), item])


def _ranks(frame: pd.DataFrame, group: str, column: str) -> "pd.Series[int]":
    return frame.groupby(group)[column].rank(method="min", ascending=False).astype(int)


def _metrics(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in frame.select_dtypes("number") if name not in _NOT_METRICS]


def _kinds(frame: pd.DataFrame, scenario: str) -> dict[str, str]:
    controls = [*_controls(frame, scenario), "random"]
    return dict.fromkeys(_metrics(frame), "metric") | dict.fromkeys(controls, "control")


def _axes(scenario: str) -> tuple[str, str]:
    if scenario not in GROUP_AND_ITEM:
        raise ResultsError(f"scenario {scenario!r} is unknown; choose one of {', '.join(SCENARIOS)}")
    return GROUP_AND_ITEM[scenario]


def _checked(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs that are ranked, without scratch, in the order of target and source, numbers as float64."""
    missing = [name for name in ("source", "target", "miou") if name not in pairs]
    if missing:
        raise ResultsError(f"pairs: column {missing[0]!r} is missing among {', '.join(map(str, pairs))}; add it")
    if pairs[["source", "target"]].isna().any(axis=None):
        raise ResultsError("pairs: a row has no source or no target; every row needs both names")
    numbers = ["miou", *(["n_target_classes"] if "n_target_classes" in pairs else []), *_metrics(pairs)]
    for name in CONTROLS:
        if name in numbers:
            raise ResultsError(f"pairs: a metric is called {name!r}, which is the name of a control; rename the column")
    for name in ("miou", "n_target_classes"):
        if name in numbers and not pd.api.types.is_numeric_dtype(pairs[name]):
            raise ResultsError(f"pairs: column {name!r} holds {pairs[name].dtype}, not numbers; convert it")
    _refuse_pair(pairs, pairs.duplicated(["source", "target"]), "is given twice; keep one row per pair")
    _refuse_pair(pairs, pairs["source"] == pairs["target"], "has itself as target; leave out such rows")
    _refuse_not_finite(pairs[pairs["source"] == SCRATCH], ["miou"])
    frame = pairs[pairs["source"] != SCRATCH]
    if frame.empty:
        raise ResultsError("pairs: no pair with a source model is left to rank; score and fine-tune some pairs first")
    _refuse_not_finite(frame, numbers)
    frame = frame[["source", "target", *numbers]].sort_values(["target", "source"], ignore_index=True)
    frame = frame.astype(dict.fromkeys(numbers, np.float64))
    if "n_target_classes" in frame:
        varies = frame.groupby("target")["n_target_classes"].transform("nunique") > 1
        _refuse_pair(frame, varies, "has another n_target_classes than a pair of the same target; correct one of them")
    return frame


def _refuse_pair(pairs: pd.DataFrame, faulty: "pd.Series[bool]", message: str) -> None:
    if faulty.any():
        first = pairs[faulty].iloc[0]
        raise ResultsError(f"pair {first['source']} -> {first['target']} {message}")


def _refuse_not_finite(frame: pd.DataFrame, columns: list[str]) -> None:
    for name in columns:
        values = frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
        finite = np.isfinite(values)
        if finite.all():
            continue
        message = f"has {name} = {values[finite.argmin()]}, not a finite number; redo the pair or drop its row"
        _refuse_pair(frame, pd.Series(~finite, index=frame.index), message)
