"""The content of a report: all tables, sentences and frames that the page and the files show, before drawing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from seg_transfer.evaluation import SCENARIOS
from seg_transfer.reports import sentences
from seg_transfer.reports.choices import (
    choices,
    default_metric,
    families_of,
    of_leading_families,
    pairs_without_score,
    ranked,
    ties,
    with_source_facts,
)
from seg_transfer.reports.data_table import Table
from seg_transfer.reports.evaluated import Evaluated, evaluated_pairs, tables_of, verdicts
from seg_transfer.reports.inputs import Explanation, ReportInput
from seg_transfer.reports.performance import MIOU, Performance

_TITLES = {
    "fixed_target": "Fixed target: the sources of every target, ranked",
    "fixed_source": "Fixed source: the targets of every source, ranked",
}
_PROVENANCE = ["source", "target", "metric", "score", "standard_error", "note", "content_key"]
_KEY_DIGITS = 12


@dataclass(frozen=True)
class Fact:
    """A question that a reader has, and the sentences that answer it."""

    question: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class ReportContent:
    """The content of a report.

    Attributes:
        title: Title of the report.
        origin: Sentences that say what the numbers are and where they come from.
        created: Time of the newest result, UTC; "" if unknown.
        facts: The summary, in reading order.
        metric: The metric that the recommendations use.
        metrics: All metrics, in order.
        rankings: Scenario -> frame from `choices.ranked`.
        choices: Scenario -> frame from `choices.choices`.
        evaluation: Frame from `seg_transfer.evaluation.evaluate`; None if no pair is fine-tuned.
        verdicts: Sentences on what the best metrics' choices lose, whether verdicts hold for other sources, and how
            metrics rank targets; the facts say how they rank sources.
        tables: Name -> table; empty tables are left out.
        stability: Rankings on fewer images; None if not computed.
        explanations: Explanations of pairs, ordered by target, the chosen source first.
        measured: What the column miou of the frames holds.
    """

    title: str
    origin: tuple[str, ...]
    created: str
    facts: tuple[Fact, ...]
    metric: str
    metrics: tuple[str, ...]
    rankings: Mapping[str, pd.DataFrame]
    choices: Mapping[str, pd.DataFrame]
    evaluation: pd.DataFrame | None
    verdicts: tuple[str, ...]
    tables: Mapping[str, Table]
    stability: pd.DataFrame | None
    explanations: tuple[Explanation, ...]
    measured: Performance = MIOU


def build(data: ReportInput) -> ReportContent:
    """Derive the content of a report. This is deterministic: equal data give equal content."""
    families = families_of(data.sources)
    rankings = {
        "fixed_target": ranked(data.scores, data.miou, "fixed_target", families),
        "fixed_source": ranked(data.scores, data.miou, "fixed_source"),
    }
    metrics = list(dict.fromkeys(rankings["fixed_target"]["metric"]))
    metric_of = {scenario: default_metric(rankings[scenario]) for scenario in SCENARIOS}
    metric = metric_of["fixed_target"]
    chosen = _chosen(data, rankings, metric_of, families)
    evaluated = evaluated_pairs(data)
    with_facts = with_source_facts(rankings["fixed_target"], data.scores, data.sources)
    tables = [
        *_ranking_tables(rankings | {"fixed_target": with_facts}, chosen, evaluated.scratch, metric_of),
        _pairs_table(rankings["fixed_target"], metrics, data.miou),
        *tables_of(data, evaluated, metric),
        *_stability_tables(data.stability),
        Table("cost", "Computing time", _cost(data)),
        Table("datasets", "Datasets", data.datasets, page=_columns_with_values(data.datasets)),
        Table("sources", "Source models", data.sources, page=_columns_with_values(data.sources)),
        Table("settings", "Settings", sentences.setting_rows(data.settings)),
        _keys_table(data, metrics),
    ]
    without = pairs_without_score(rankings["fixed_target"], metric)
    return ReportContent(
        title=data.title,
        origin=data.origin,
        created=data.created,
        facts=tuple(
            Fact(fact.question, tuple(map(data.measured.words, fact.sentences)))
            for fact in _facts(data, evaluated, chosen["fixed_target"], with_facts, without, metric)
        ),
        metric=metric,
        metrics=tuple(metrics),
        rankings=rankings,
        choices=chosen,
        evaluation=evaluated.evaluation,
        verdicts=tuple(map(data.measured.words, verdicts(data, evaluated))),
        tables={table.name: replace(table, measured=data.measured) for table in tables if not table.frame.empty},
        stability=data.stability,
        explanations=_best_first(data.explanations, rankings["fixed_target"], metric),
        measured=data.measured,
    )


def _chosen(
    data: ReportInput,
    rankings: Mapping[str, pd.DataFrame],
    metric_of: Mapping[str, str],
    families: Mapping[str, str],
) -> dict[str, pd.DataFrame]:
    """Return what the metric of every scenario chooses."""
    metric, names = metric_of["fixed_target"], list(dict.fromkeys(rankings["fixed_target"]["metric"]))
    sources, targets = rankings["fixed_target"], rankings["fixed_source"]
    # Only the sources of one target are scored on the same images, so only their differences are paired.
    leading = of_leading_families(data.scores, sources[sources["metric"] == metric], families)
    return {
        "fixed_target": choices(sources, "fixed_target", metric, names, ties(leading, metric), families),
        "fixed_source": choices(targets, "fixed_source", metric_of["fixed_source"], names),
    }


def _best_first(explanations: tuple[Explanation, ...], ranking: pd.DataFrame, metric: str) -> tuple[Explanation, ...]:
    """Sort explanations by target, the chosen source first."""
    of_metric = ranking[ranking["metric"] == metric]
    rank = dict(zip(zip(of_metric["source"], of_metric["target"], strict=True), of_metric["score_rank"], strict=True))
    last = len(ranking) + 1
    return tuple(
        sorted(
            explanations,
            key=lambda explanation: (explanation.target, rank.get((explanation.source, explanation.target), last)),
        )
    )


def _facts(
    data: ReportInput,
    evaluated: Evaluated,
    chosen: pd.DataFrame,
    ranking: pd.DataFrame,
    without: list[str],
    metric: str,
) -> list[Fact]:
    verdict_on_sources = tuple(sentences.verdict(evaluated.evaluation, evaluated.compared, "fixed_target"))
    certainty = [
        *sentences.accuracy(evaluated.evaluation, metric),
        *sentences.certainty(chosen, metric),
        *sentences.scratch_comparison(evaluated.scratch),
    ]
    skipped = [*data.skipped, *sentences.unranked_pairs(without, metric)] or ["Nothing was skipped."]
    families = sentences.best_of_families(ranking[ranking["metric"] == metric])
    facts = [
        Fact("Which model?", (*sentences.advice(chosen, metric), *families)),
        Fact("How certain?", tuple(certainty)),
        Fact("At what cost?", tuple(sentences.cost(_cost(data)))),
        Fact("What was skipped?", (*skipped, *data.warnings)),
    ]
    if not verdict_on_sources:
        return facts
    which = [Fact("Which metric?", verdict_on_sources)]
    return which + facts if data.about_metrics else facts + which


def _ranking_tables(
    rankings: Mapping[str, pd.DataFrame],
    chosen: Mapping[str, pd.DataFrame],
    scratch: pd.DataFrame,
    metric_of: Mapping[str, str],
) -> list[Table]:
    answer = chosen["fixed_target"]
    if not scratch.empty:
        answer = answer.merge(scratch[["target", "scratch_miou"]], on="target", how="left")
    tables = [
        _choice_table("answer", f"For every target: the source to fine-tune, by {metric_of['fixed_target']}", answer),
        _ranking_table(rankings["fixed_target"], "fixed_target", metric_of["fixed_target"]),
    ]
    if len(answer) < 2:
        return tables
    of_sources = f"For every source: the target it scores best on, by {metric_of['fixed_source']}"
    return [
        *tables,
        _choice_table("targets", of_sources, chosen["fixed_source"]),
        _ranking_table(rankings["fixed_source"], "fixed_source", metric_of["fixed_source"]),
    ]


def _choice_table(name: str, title: str, frame: pd.DataFrame) -> Table:
    return Table(name, title, frame, page=_columns_with_values(frame.drop(columns="n_items")))


def _columns_with_values(frame: pd.DataFrame) -> pd.DataFrame:
    """Select the columns that hold any value."""
    return frame.dropna(axis="columns", how="all")


def _ranking_table(ranking: pd.DataFrame, scenario: str, metric: str) -> Table:
    """Make a table of the rankings by every metric; the page shows only the ranking by `metric`."""
    page = _columns_with_values(ranking[ranking["metric"] == metric].drop(columns="metric"))
    return Table(scenario, _TITLES[scenario], ranking, page=page, page_title=f"{_TITLES[scenario]} by {metric}")


def _pairs_table(ranking: pd.DataFrame, metrics: list[str], miou: pd.DataFrame) -> Table:
    """Make a table with one row per pair: source, target, miou, and a column per metric."""
    frame = ranking.pivot(index=["target", "source"], columns="metric", values="score").reset_index()
    frame = frame.merge(miou[["source", "target", "miou"]], on=["source", "target"], how="left")
    frame = frame[["source", "target", "miou", *metrics]].astype({"miou": float})
    return Table("pairs", "Every pair: mIoU and score of every metric", frame, page=_columns_with_values(frame))


def _stability_tables(stability: pd.DataFrame | None) -> list[Table]:
    if stability is None:
        return []
    columns = ["n_images", "seed", "winner", "tau_w_to_full", "n_tied"]
    return [Table("stability", "The ranking on fewer images", stability[columns].sort_values(columns[:2]))]


def _cost(data: ReportInput) -> pd.DataFrame:
    """Count scorings, fine-tunings and source trainings and sum their seconds; leaves out rows with unknown seconds.

    All metrics of one pass over a pair have the seconds of that pass, which counts only once.
    """
    scores = data.scores
    pairs = len(scores[["source", "target"]].drop_duplicates())
    passes = pd.DataFrame(columns=["seconds"])
    if {"seconds", "created_utc"} <= set(scores):
        passes = scores.drop_duplicates(["source", "target", "seconds", "created_utc"])
    rows = [
        ("scoring pairs", pairs, passes["seconds"].sum() if len(passes) else None),
        ("fine-tuning", *_count_and_sum(data.performance)),
        ("training sources", *_count_and_sum(data.sources)),
    ]
    frame = pd.DataFrame(rows, columns=["what", "count", "total_seconds"]).astype({"total_seconds": float})
    frame = frame[frame["total_seconds"].notna()].reset_index(drop=True)
    return frame.assign(mean_seconds=frame["total_seconds"] / frame["count"])


def _count_and_sum(frame: pd.DataFrame) -> tuple[int, float | None]:
    known = frame["seconds"].dropna() if "seconds" in frame else pd.Series(dtype=float)
    return (len(known), float(known.sum())) if len(known) else (0, None)


def _keys_table(data: ReportInput, metrics: list[str]) -> Table:
    """Make a table of scores and their content keys; the page shows the first digits. No rows if there are no keys."""
    known = [name for name in _PROVENANCE if name in data.scores]
    frame = data.scores[known] if "content_key" in known else data.scores.iloc[:0]
    title = "Every score and its content key"
    if frame.empty:
        return Table("scores", title, frame)
    keys = frame.assign(content_key=frame["content_key"].str[:_KEY_DIGITS])
    page = keys.pivot(index=["target", "source"], columns="metric", values="content_key").reset_index()
    page = page[["source", "target", *(metric for metric in metrics if metric in page)]]
    return Table("scores", title, frame, page=page, page_title=f"Content keys, first {_KEY_DIGITS} digits")
