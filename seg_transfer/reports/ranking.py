"""Rankings by score, with or without fine-tuning: who is first, who is tied with it, who is truly best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from seg_transfer.evaluation import GROUP_AND_ITEM, SCRATCH
from seg_transfer.metrics import rank_mean
from seg_transfer.metrics._rank_mean import PARTS

RANK_MEAN = "rank_mean"
GBC = "gbc"


@dataclass(frozen=True)
class FirstPlace:
    """Who is first in one group by one metric.

    Attributes:
        names: First by score; several where the scores are equal.
        tied: Others that the standard errors cannot tell from the first; None where no standard error says so.
    """

    names: tuple[str, ...]
    tied: tuple[str, ...] | None


def default_metric(ranking: pd.DataFrame) -> str:
    """The metric that a reader is advised to go by: rank_mean, else gbc, else the first, of those with most scores.

    `ranking` is a frame of `ranked`, not empty.
    """
    count = Counter(map(str, ranking["metric"]))
    order = dict.fromkeys([RANK_MEAN, GBC, *count])
    return max(order, key=lambda metric: count[metric])


def without_score(ranking: pd.DataFrame, metric: str) -> list[str]:
    """Pairs that other metrics scored and this one did not, as "source -> target"."""
    scored = set(zip(*(ranking.loc[ranking["metric"] == metric, name] for name in ("source", "target")), strict=True))
    every = dict.fromkeys(zip(ranking["source"], ranking["target"], strict=True))
    return [f"{source} -> {target}" for source, target in every if (source, target) not in scored]


def ranked(scores: pd.DataFrame, miou: pd.DataFrame, scenario: str) -> pd.DataFrame:
    """The ranking by every metric in every group of a scenario, rank_mean among them where its parts are there.

    Columns: source, target, metric, score, standard_error (NaN where not known), score_rank, n_items, miou and
    miou_rank (missing where the pair is not fine-tuned; ranks among the fine-tuned items that the metric scored).
    Ranks start at 1 = best, equal values share the smaller rank. Rows by group, metric in the order given, score_rank.

    Args:
        scores: Long: source, target, metric, score, and perhaps standard_error.
        miou: source, target, miou; rows of scratch are left aside.
        scenario: "fixed_target" or "fixed_source".
    """
    group, item = GROUP_AND_ITEM[scenario]
    long = scores.reindex(columns=["source", "target", "metric", "score", "standard_error"])
    long = pd.concat([long, _rank_means(long, group)], ignore_index=True)
    long = long.astype({"score": float, "standard_error": float})
    performance = miou.loc[miou["source"] != SCRATCH, ["source", "target", "miou"]]
    long = long.merge(performance, on=["source", "target"], how="left").astype({"miou": float})
    places = {metric: place for place, metric in enumerate(dict.fromkeys(long["metric"]))}
    groups = long.groupby([group, "metric"], sort=False)
    long["score_rank"] = groups["score"].rank(method="min", ascending=False).astype("Int64")
    long["n_items"] = groups["score"].transform("size")
    long["miou_rank"] = groups["miou"].rank(method="min", ascending=False).astype("Int64")
    long["place"] = long["metric"].map(places)
    long = long.sort_values([group, "place", "score_rank", item], ignore_index=True)
    columns = [group, item, "metric", "score", "standard_error", "score_rank", "n_items", "miou", "miou_rank"]
    return long[columns]


def ties(rows: pd.DataFrame, item: str) -> FirstPlace:
    """First place in one group by one metric: rows of `ranked`, and the column that holds the names.

    Equal scores are one first place. Who else is tied needs the standard errors of *differences*, paired over groups
    of images; scores without them leave that open.
    """
    names = tuple(map(str, rows.loc[rows["score_rank"] == 1, item]))
    return FirstPlace(names, None)


def choices(ranking: pd.DataFrame, scenario: str, metric: str, metrics: Iterable[str]) -> pd.DataFrame:
    """What a metric advises in every group: one row per group.

    Columns: the group, chosen, tied ("" nobody, None not known), second, third, agreeing ("3 of 5": metrics that choose
    one of the chosen, rank_mean aside), n_items, and where the chosen is fine-tuned chosen_miou (mean over equal ones),
    best, best_miou, of_best.
    """
    group, item = GROUP_AND_ITEM[scenario]
    single = [name for name in metrics if name != RANK_MEAN]
    rows = []
    for name, members in ranking.groupby(group, sort=True):
        own = members[members["metric"] == metric]
        if own.empty:
            continue
        first = ties(own, item)
        firsts = members[(members["score_rank"] == 1) & members["metric"].isin(single)]
        agree = firsts.loc[firsts[item].isin(first.names), "metric"].nunique()
        rest = own[~own[item].isin(first.names)][item].tolist()
        rows.append(
            {
                group: name,
                "chosen": ", ".join(first.names),
                "tied": None if first.tied is None else ", ".join(first.tied),
                "second": rest[0] if rest else "",
                "third": rest[1] if len(rest) > 1 else "",
                "agreeing": f"{agree} of {members.loc[members['metric'].isin(single), 'metric'].nunique()}",
                "n_items": len(own),
                **_truth(own, item, first.names),
            }
        )
    return pd.DataFrame(rows)


def _truth(own: pd.DataFrame, item: str, names: Sequence[str]) -> dict[str, object]:
    """What fine-tuning says of the chosen; nothing where one of the group's items is not fine-tuned."""
    if own["miou"].isna().any():
        return {"chosen_miou": None, "best": None, "best_miou": None, "of_best": None}
    best = float(own["miou"].max())
    chosen = own.loc[own[item].isin(names), "miou"]
    winners = ", ".join(own.loc[own["miou_rank"] == 1, item])
    share = float((chosen / best).mean()) if best > 0 else None
    return {"chosen_miou": float(chosen.mean()), "best": winners, "best_miou": best, "of_best": share}


def _rank_means(long: pd.DataFrame, group: str) -> pd.DataFrame:
    """Rows of rank_mean, of the items of each group that have all its parts; no rows where they are there already."""
    parts = long[long["metric"].isin(PARTS)]
    if RANK_MEAN in set(long["metric"]) or set(PARTS) - set(parts["metric"]):
        return long.iloc[:0]
    wide = parts.pivot(index=["source", "target"], columns="metric", values="score").dropna().reset_index()
    values = [
        pd.Series(rank_mean(*(members[part] for part in PARTS)), members.index) for _, members in wide.groupby(group)
    ]
    return wide[["source", "target"]].assign(metric=RANK_MEAN, score=pd.concat(values) if values else 0.0)
