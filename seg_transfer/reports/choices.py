"""Rankings by score, with or without fine-tuning: the chosen item, the items tied with it, and the actual best."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from seg_transfer.evaluation import GROUP_AND_ITEM, LINEAR_HEAD, SCRATCH, first_place_of, with_rank_mean
from seg_transfer.metrics._rank_mean import PARTS

RANK_MEAN = "rank_mean"
GBC = "gbc"
_FACTS = ("family", "parameters", "gflops", "license")


@dataclass(frozen=True)
class Tie:
    """The certainty of the first place on one target.

    Attributes:
        tied: Sources that the standard errors do not separate from the first, without the first; None if unknown.
        probability: Source -> probability in [0, 1] that it is the best; NaN if unknown.
    """

    tied: tuple[str, ...] | None
    probability: Mapping[str, float]


def default_metric(ranking: pd.DataFrame) -> str:
    """Choose the metric for recommendations: of the metrics with the most scores, rank_mean, else gbc, else the first.

    `LINEAR_HEAD`, which `rank` computes beside the metric that decides, never decides unless it is the only metric.

    Args:
        ranking: Frame of `ranked`, not empty.
    """
    count = Counter(map(str, ranking["metric"]))
    deciding = [name for name in count if name != LINEAR_HEAD] or [LINEAR_HEAD]
    order = dict.fromkeys([RANK_MEAN, GBC, *deciding])
    return max(order, key=lambda metric: count[metric])


def pairs_without_score(ranking: pd.DataFrame, metric: str) -> list[str]:
    """Return the pairs, as "source -> target", that other metrics scored but this metric did not."""
    scored = set(zip(*(ranking.loc[ranking["metric"] == metric, name] for name in ("source", "target")), strict=True))
    every = dict.fromkeys(zip(ranking["source"], ranking["target"], strict=True))
    return [f"{source} -> {target}" for source, target in every if (source, target) not in scored]


def ranked(
    scores: pd.DataFrame, miou: pd.DataFrame, scenario: str, families: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Rank the items of every group of a scenario by every metric, and by rank_mean if its parts are scored.

    Args:
        scores: Long format: source, target, metric, score, and optionally standard_error.
        miou: source, target, miou; rows of scratch are ignored.
        scenario: "fixed_target" or "fixed_source".
        families: Source -> family, as `families_of` returns it: sources of a target are ranked within their family.

    Returns:
        source, target, metric, score, standard_error (NaN if unknown), score_rank, n_items, miou and miou_rank (missing
        if the pair is not fine-tuned; ranks the fine-tuned items that the metric scored). Rank 1 is the best, and equal
        values share the smaller rank. Rows are sorted by group, metric in the given order, and score_rank; families in
        the order of the best of each in one list of all.
    """
    group, item = GROUP_AND_ITEM[scenario]
    long = scores.reindex(columns=["source", "target", "metric", "score", "standard_error"])
    long["family"] = _family(long, families)
    every = pd.concat([long, _rank_means(long, scenario)])
    places = _places_of_families(every.assign(family=_family(every, families)), group)
    by_family = long.groupby("family", sort=False)
    means = [_rank_means(members, scenario).assign(family=family) for family, members in by_family]
    long = pd.concat([long, *means], ignore_index=True)
    long = long.astype({"score": float, "standard_error": float})
    long = long.merge(places, on=[group, "metric", "family"])
    performance = miou.loc[miou["source"] != SCRATCH, ["source", "target", "miou"]]
    long = long.merge(performance, on=["source", "target"], how="left").astype({"miou": float})
    order = {metric: position for position, metric in enumerate(dict.fromkeys(long["metric"]))}
    lists = long.groupby([group, "metric", "family"], sort=False)
    long["score_rank"] = lists["score"].rank(method="min", ascending=False).astype("Int64")
    long["n_items"] = lists["score"].transform("size")
    groups = long.groupby([group, "metric"], sort=False)
    long["miou_rank"] = groups["miou"].rank(method="min", ascending=False).astype("Int64")
    long["order"] = long["metric"].map(order)
    long = long.sort_values([group, "order", "place", "score_rank", item], ignore_index=True)
    columns = [group, item, "metric", "score", "standard_error", "score_rank", "n_items", "miou", "miou_rank"]
    return long[columns]


def families_of(sources: pd.DataFrame) -> dict[str, str]:
    """Return the family of every source where two or more are known, otherwise {}; an unknown one is "".

    Args:
        sources: One row per source: source, and optionally family.
    """
    if "family" not in sources or sources["family"].nunique() < 2:
        return {}
    return dict(zip(sources["source"], sources["family"].fillna(""), strict=True))


def _family(frame: pd.DataFrame, families: Mapping[str, str] | None) -> pd.Series[str]:
    """Return the family of the source of every row; "" without families."""
    return frame["source"].map(lambda source: (families or {}).get(source, ""))


def _places_of_families(scores: pd.DataFrame, group: str) -> pd.DataFrame:
    """Return the place of every family in every group, by its best source in one list of all: place 0 is the first."""
    ordered = scores.sort_values(["score", "source"], ascending=[False, True])
    first = ordered.drop_duplicates([group, "metric", "family"])[[group, "metric", "family"]]
    return first.assign(place=first.groupby([group, "metric"]).cumcount())


def of_leading_families(scores: pd.DataFrame, ranking: pd.DataFrame, families: Mapping[str, str]) -> pd.DataFrame:
    """Select the scores of the sources that are of the family of the first of their target.

    Args:
        scores: Long format.
        ranking: The sources of every target ranked by one metric, best first.
        families: Source -> family.
    """
    first = ranking.drop_duplicates("target")
    leading = dict(zip(first["target"], _family(first, families), strict=True))
    return scores[_family(scores, families) == scores["target"].map(leading)]


def with_source_facts(ranking: pd.DataFrame, scores: pd.DataFrame, sources: pd.DataFrame) -> pd.DataFrame:
    """Add what stands beside a ranking of sources and decides nothing, as far as it is known.

    Args:
        ranking: Frame of `ranked`.
        scores: Long format: source, target, metric, score, and optionally seconds.
        sources: One row per source: source, and optionally family, parameters, gflops and license.

    Returns:
        The ranking with linear_miou (the score of the metric `LINEAR_HEAD`), seconds of scoring the pair, family,
        parameters, gflops, and license.
    """
    pair = ["source", "target"]
    heads = scores[scores["metric"] == LINEAR_HEAD]
    if len(heads):
        ranking = ranking.merge(heads[[*pair, "score"]].rename(columns={"score": "linear_miou"}), on=pair, how="left")
    if "seconds" in scores:  # all metrics of one pass have the seconds of that pass
        ranking = ranking.merge(scores.groupby(pair, as_index=False)["seconds"].max(), on=pair, how="left")
    facts = [name for name in _FACTS if name in sources and sources[name].notna().any()]
    return ranking.merge(sources[["source", *facts]], on="source", how="left") if facts else ranking


def ties(scores: pd.DataFrame, metric: str) -> dict[str, Tie]:
    """Determine how certain the first place by a metric is, target by target.

    Args:
        scores: Long format: source, target, metric, score, and optionally replicates, the scores without each group of
            images. The groups are the same for all sources of a target, so differences between sources are paired.
        metric: One of the scores, or rank_mean.
    """
    parts = PARTS["fixed_target"] if metric == RANK_MEAN and RANK_MEAN not in set(scores["metric"]) else (metric,)
    metric_rows = scores[scores["metric"].isin(parts)].reindex(
        columns=["source", "target", "metric", "score", "replicates"]
    )
    return {str(target): _tie(metric, members, parts) for target, members in metric_rows.groupby("target")}


def _tie(metric: str, members: pd.DataFrame, parts: Sequence[str]) -> Tie:
    count = members["source"].value_counts()
    complete = members[members["source"].map(count) == len(parts)].sort_values("source")
    names = complete["source"].drop_duplicates().tolist()
    if not names:
        return Tie(None, {})
    rows = {part: _row_dicts(complete[complete["metric"] == part]) for part in parts}
    first = first_place_of(metric, rows)
    tied = tuple(name for number, name in enumerate(names) if first.tied[number] and first.difference[number] > 0)
    return Tie(tied if first.has_uncertainty else None, dict(zip(names, first.probability.tolist(), strict=True)))


def _row_dicts(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def choices(
    ranking: pd.DataFrame,
    scenario: str,
    metric: str,
    metrics: Iterable[str],
    ties_of: Mapping[str, Tie] | None = None,
    families: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Return the choice of a metric in every group.

    Args:
        ranking: Frame of `ranked`.
        scenario: Its scenario.
        metric: The metric that chooses.
        metrics: All metrics.
        ties_of: Group -> its tie, from `ties`.
        families: Source -> family, of which the first one of a group is chosen from.

    Returns:
        One row per group: the group, chosen, tied ("" means none, None means unknown), probability that the chosen item
        is the best (NaN means unknown), agreeing ("3 of 5": metrics that choose one of the chosen, without rank_mean
        and `LINEAR_HEAD`), second, third, n_items, and if all items are fine-tuned chosen_miou (mean over equal
        scores), best, best_miou, of_best.
    """
    group, item = GROUP_AND_ITEM[scenario]
    single = [name for name in metrics if name != RANK_MEAN and (name != LINEAR_HEAD or name == metric)]
    rows = []
    for name, members in ranking.groupby(group, sort=True):
        metric_rows = members[members["metric"] == metric]
        if metric_rows.empty:
            continue
        family = _family(metric_rows, families)
        of_first = metric_rows[family == family.iloc[0]]
        names = of_first.loc[of_first["score_rank"] == 1, item].tolist()
        rest = [*of_first.loc[~of_first[item].isin(names), item], "", ""]
        tie = (ties_of or {}).get(str(name), Tie(None, {}))
        rows.append(
            {
                group: name,
                "chosen": ", ".join(names),
                "tied": None if tie.tied is None else ", ".join(tie.tied),
                "probability": sum(tie.probability.get(chosen, math.nan) for chosen in names),
                "agreeing": _agreeing(members[members["metric"].isin(single)], item, names),
                "second": rest[0],
                "third": rest[1],
                "n_items": len(of_first),
                **_compared_with_best(metric_rows, item, names),
            }
        )
    return pd.DataFrame(rows)


def _agreeing(members: pd.DataFrame, item: str, names: Sequence[str]) -> str:
    """Count the metrics that put one of these items first, as "3 of 5"."""
    firsts = members[(members["score_rank"] == 1) & members[item].isin(names)]
    return f"{firsts['metric'].nunique()} of {members['metric'].nunique()}"


def _compared_with_best(metric_rows: pd.DataFrame, item: str, names: Sequence[str]) -> dict[str, object]:
    """Compare the chosen items with the actual best; the values are None if an item of the group is not fine-tuned."""
    if metric_rows["miou"].isna().any():
        return {"chosen_miou": None, "best": None, "best_miou": None, "of_best": None}
    best = float(metric_rows["miou"].max())
    chosen = metric_rows.loc[metric_rows[item].isin(names), "miou"]
    winners = ", ".join(metric_rows.loc[metric_rows["miou_rank"] == 1, item])
    share = float((chosen / best).mean()) if best > 0 else None
    return {"chosen_miou": float(chosen.mean()), "best": winners, "best_miou": best, "of_best": share}


def _rank_means(long: pd.DataFrame, scenario: str) -> pd.DataFrame:
    """Make rows of rank_mean for items that have all its parts; no rows if it is already scored."""
    rows = long[long["metric"].isin(PARTS[scenario])]
    if RANK_MEAN in set(long["metric"]) or set(PARTS[scenario]) - set(rows["metric"]):
        return long.iloc[:0]
    wide = rows.pivot(index=["source", "target"], columns="metric", values="score").dropna().reset_index()
    if wide.empty:
        return long.iloc[:0]
    ranked_by_mean = with_rank_mean(wide, scenario).rename(columns={RANK_MEAN: "score"})
    return ranked_by_mean[["source", "target", "score"]].assign(metric=RANK_MEAN)
