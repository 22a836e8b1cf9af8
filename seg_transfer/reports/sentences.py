"""Makes the sentences of a report from its numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from seg_transfer.reports.comparisons import comparisons_of

_MAX_NAMED_TARGETS = 4
"""Maximum number of targets that are named one by one."""
_SCENARIO = {
    "fixed_target": ("target", "source", "Ranking the sources of a target"),
    "fixed_source": ("source", "target", "Ranking the targets of a source"),
}


def listed(names: Iterable[str], max_names: int = 6) -> str:
    """Join names into a phrase.

    Args:
        names: The names.
        max_names: Maximum number of names to show; the others are only counted.

    Example:
        >>> listed(["a", "b", "c"]), listed("abcd", max_names=2)
        ('a, b and c', 'a, b and 2 more')
    """
    all_names = list(names)
    shown, rest = all_names[:max_names], len(all_names) - max_names
    if rest > 0:
        return f"{', '.join(shown)} and {rest} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else "none"


def duration(seconds: float) -> str:
    """Format seconds as seconds, minutes or hours.

    Example:
        >>> duration(2.84), duration(1140), duration(9000)
        ('2.8 s', '19 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def advice(choices: pd.DataFrame, metric: str) -> list[str]:
    """Name the source to fine-tune for each of a few targets; for many, refer to the table."""
    rows = choices.to_dict("records")
    if len(rows) <= _MAX_NAMED_TARGETS:
        return [f"For {row['target']}: fine-tune {_join_with_or(row['chosen'])}." for row in rows]
    chosen = choices["chosen"].str.split(", ").explode().value_counts()
    several = [f"{name} ({count})" for name, count in chosen.items() if count > 1]
    chosen_for_several = f" Chosen for several targets: {listed(several, 4)}." if several else ""
    return [f"The table below names a source for each target, by {metric}.{chosen_for_several}"]


def best_of_families(ranking: pd.DataFrame) -> list[str]:
    """Name the best source of every family of networks for each of a few targets; nothing where there is one family.

    Args:
        ranking: Sources ranked by one metric, best first: target, source, and family where it is known.

    Example:
        >>> frame = pd.DataFrame({"target": "city", "source": ["a", "b", "c"], "family": ["hrnet", "hrnet", "unet"]})
        >>> best_of_families(frame)[0]
        'For city, the best of each family of networks: a (hrnet) and c (unet).'
    """
    if "family" not in ranking or ranking["family"].nunique() < 2:
        return []
    between = "Ranks, ties and probabilities are those within a family; between families, only fine-tuning tells."
    best = ranking.dropna(subset="family").drop_duplicates(["target", "family"])
    if best["target"].nunique() > _MAX_NAMED_TARGETS:
        return [f"These sources are of {best['family'].nunique()} families of networks. {between}"]
    lines = []
    for target, rows in best.groupby("target", sort=False):
        names = [f"{name} ({family})" for name, family in zip(rows["source"], rows["family"], strict=True)]
        lines.append(f"For {target}, the best of each family of networks: {listed(names)}.")
    return [*lines, between]


def certainty(choices: pd.DataFrame, metric: str) -> list[str]:
    """Describe how certain choices are: ties by standard errors, equal scores, and how many metrics agree."""
    return [*_ties(choices, metric), *_equal_scores(choices), *_agreement(choices)]


def _ties(choices: pd.DataFrame, metric: str) -> list[str]:
    known = choices[choices["tied"].notna()]
    if known.empty:
        return [f"Which sources are tied for first by {metric} is unknown: there are no standard errors."]
    if len(choices) <= _MAX_NAMED_TARGETS:
        return [_certainty_of(row) for row in known.to_dict("records")]
    tied = known.loc[known["tied"] != "", "target"].tolist()
    n_clear = int(((known["tied"] == "") & _has_single_winner(known)).sum())
    clear = f"No other source is tied with the first on {n_clear} of {len(known)} targets."
    return [clear, f"Other sources are tied for first on {listed(tied)}."] if tied else [clear]


def _certainty_of(row: Mapping[Any, Any]) -> str:
    best = f"{_join_with_or(row['chosen'])} is the best for {row['target']} with probability {row['probability']:.2f}"
    return f"{best}; tied for first: {row['tied']}." if row["tied"] else f"{best}; no other source is tied with it."


def _equal_scores(choices: pd.DataFrame) -> list[str]:
    equal = choices.loc[~_has_single_winner(choices), "target"].tolist()
    return [f"Equal scores share the first place on {listed(equal)}."] if equal else []


def _has_single_winner(choices: pd.DataFrame) -> pd.Series[bool]:
    """Return a mask of the targets on which a single source has the highest score."""
    return ~choices["chosen"].str.contains(", ")


def _agreement(choices: pd.DataFrame) -> list[str]:
    counts = choices["agreeing"].str.split(" of ", expand=True).astype(int)
    if counts[1].max() < 2:
        return []
    if len(choices) == 1:
        return [f"{choices['agreeing'].iloc[0]} metrics choose it."]
    agreed = int(((counts[0] == counts[1]) & _has_single_winner(choices)).sum())
    return [f"All metrics choose the same source on {agreed} of {len(choices)} targets."]


def accuracy(evaluation: pd.DataFrame | None, metric: str) -> list[str]:
    """Compare a metric's choices of sources with fine-tuning."""
    if evaluation is None:
        return []
    rows = evaluation[(evaluation["scenario"] == "fixed_target") & (evaluation["metric"] == metric)].to_dict("records")
    if not rows or not rows[0]["n_groups"]:
        return []
    row = rows[0]
    hits = f"{_group_count(row['top1'], row['n_groups'])} of {row['n_groups']} targets"
    top1 = f"top-1 {row['top1']:.3f}{_interval(row, 'top1')}"
    reached = _rel_at_1_phrase(row["rel_at_1"])
    return [f"Judged by mIoU after fine-tuning, {metric} chose the best source on {hits}, {top1}; {reached}."]


def best_metric(evaluation: pd.DataFrame | None, scenario: str) -> str | None:
    """Return the metric with the highest tau_w in a scenario; None if there is none."""
    if evaluation is None:
        return None
    rows = evaluation[(evaluation["scenario"] == scenario) & (evaluation["kind"] == "metric")].dropna(subset=["tau_w"])
    return None if rows.empty else str(rows.set_index("metric")["tau_w"].idxmax())


def verdict(evaluation: pd.DataFrame | None, compared: pd.DataFrame | None, scenario: str) -> list[str]:
    """Name the metric that ranks best, the metrics that may be as good, and the controls that beat metrics."""
    if evaluation is None or compared is None:
        return []
    rows = evaluation[evaluation["scenario"] == scenario].set_index("metric")
    metrics = (
        rows[rows["kind"] == "metric"].dropna(subset=["tau_w"]).sort_values("tau_w", ascending=False, kind="stable")
    )
    if metrics.empty or rows["n_groups"].max() < 1:
        return []
    group, item, ranking = _SCENARIO[scenario]
    n_groups = int(rows["n_groups"].max())
    best = metrics.iloc[0]
    leaders = metrics.index[metrics["top1"] == metrics["top1"].max()]
    interval = _interval(best, "tau_w")
    differences = comparisons_of(compared, scenario, str(metrics.index[0])).set_index("second_metric")
    as_good = [str(name) for name in metrics.index[1:] if not differences.loc[name, "difference_low"] > 0]
    sentences = [
        f"{ranking}: {metrics.index[0]} is best by tau_w, {best['tau_w']:.3f}{interval}, mean over {n_groups} {group}s."
    ]
    if as_good:
        sentences.append(
            f"{listed(as_good)} may be as good: {_intervals(len(as_good))} of the paired difference contains 0."
        )
    share = metrics["top1"].max()
    sentences.append(
        f"{listed(leaders)} most often {'choose' if len(leaders) > 1 else 'chooses'} the best {item}: "
        f"{_group_count(share, n_groups)} of {n_groups}, top-1 {share:.3f}{_interval(metrics.loc[leaders[0]], 'top1')}."
    )
    return [*sentences, *_controls(rows, len(metrics))]


def _controls(rows: pd.DataFrame, n_metrics: int) -> list[str]:
    beaten: dict[str, list[str]] = {}
    for metric, controls in rows["beaten_by"].items():
        for control in controls if isinstance(controls, list) else []:
            beaten.setdefault(control, []).append(str(metric))
    if not beaten:
        return ["No control, which uses no features, has a higher tau_w than any metric."]
    return [
        f"The control {control}, which uses no features, beats {_metrics_phrase(metrics, n_metrics)} by tau_w."
        for control, metrics in beaten.items()
    ]


def scratch_comparison(scratch: pd.DataFrame) -> list[str]:
    """Name the targets on which no source beats fine-tuning from scratch."""
    if scratch.empty:
        return []
    unbeaten = scratch.loc[~scratch["beats_scratch"].astype(bool), "target"].tolist()
    margin = ", by more than the noise of seeds," if (scratch["margin"] > 0).any() else ""
    if not unbeaten:
        return [f"The best source beats fine-tuning from scratch{margin} on all {len(scratch)} targets that have both."]
    return [f"No source beats scratch{margin} on {listed(unbeaten)}: a ranking of sources means little there."]


def cost(frame: pd.DataFrame) -> list[str]:
    """State the time that scoring and training took."""
    sentences = []
    for what, row in frame.set_index("what").iterrows():
        each = f", {duration(row['mean_seconds'])} each" if row["count"] > 1 else ""
        sentences.append(f"{str(what).capitalize()}: {duration(row['total_seconds'])} for {int(row['count'])}{each}.")
    return sentences or ["Unknown: these results hold no computing times."]


def unranked_pairs(pairs: Sequence[str], metric: str) -> list[str]:
    """Name the pairs that the ranking lacks because its metric did not score them."""
    return [f"Not ranked, because they have no {metric} score: {listed(pairs)}."] if pairs else []


def setting_rows(settings: Mapping[str, str]) -> pd.DataFrame:
    """Convert settings to a table with two columns."""
    return pd.DataFrame(list(settings.items()), columns=["setting", "value"])


def _intervals(number: int) -> str:
    return "the interval" if number == 1 else "each interval"


def _join_with_or(names: str) -> str:
    return names.replace(", ", " or ")


def _metrics_phrase(metrics: Sequence[str], n_metrics: int) -> str:
    return "every metric" if len(metrics) == n_metrics and n_metrics > 1 else listed(metrics)


def _group_count(share: float, n_groups: int) -> str:
    number = share * n_groups
    return f"{number:.0f}" if math.isclose(number, round(number), abs_tol=1e-9) else f"{number:.1f}"


def _rel_at_1_phrase(share: float) -> str:
    return (
        "the best mIoU is not positive"
        if math.isnan(share)
        else f"its choices reach {100 * share:.1f} % of the best mIoU"
    )


def _interval(row: Any, measure: str) -> str:
    low, high = row[f"{measure}_low"], row[f"{measure}_high"]
    return "" if math.isnan(low) else f" (95 % interval {low:.2f} to {high:.2f})".replace("-", "\N{MINUS SIGN}")
