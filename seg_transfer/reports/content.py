"""The content of a report: every table, sentence and frame that the page and the files show, before any drawing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from seg_transfer.evaluation import SCENARIOS, evaluate, fine_tuning_noise, metric_columns, scratch_report
from seg_transfer.reports import words
from seg_transfer.reports.data_table import Table
from seg_transfer.reports.judging import comparison, judging_tables
from seg_transfer.reports.material import Explanation, Material
from seg_transfer.reports.ranking import choices, default_metric, ranked, ties, without_score

_TITLES = {
    "fixed_target": "Fixed target: the sources of every target, ranked",
    "fixed_source": "Fixed source: the targets of every source, ranked",
}
_PROVENANCE = ["source", "target", "metric", "score", "standard_error", "note", "content_key"]
_KEY_DIGITS = 12


@dataclass(frozen=True)
class Fact:
    """A part of the answer: a question of the reader, and the sentences that answer it."""

    question: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class ReportContent:
    """What a report says.

    Attributes:
        title, origin, created: As in `Material`.
        facts: The answer, in the order in which it is read.
        metric: The metric that the answer goes by.
        metrics: All metrics, in order.
        rankings: Scenario -> frame of `ranked`.
        choices: Scenario -> frame of `choices`.
        evaluation: Frame of `evaluate`; None where nothing could be evaluated.
        verdicts: What the evaluation says of the metrics with fixed sources; of fixed targets the facts say it.
        tables: Name -> table.
        stability, explanations: As in `Material`.
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


@dataclass(frozen=True)
class _Judged:
    """What fine-tuned pairs say; None and empty where there are none."""

    evaluation: pd.DataFrame | None
    compared: pd.DataFrame | None
    scratch: pd.DataFrame


def build(material: Material) -> ReportContent:
    """Derive everything that a report says. Deterministic: equal material, equal content."""
    rankings = {scenario: ranked(material.scores, material.miou, scenario) for scenario in SCENARIOS}
    metrics = list(dict.fromkeys(rankings["fixed_target"]["metric"]))
    metric = default_metric(rankings["fixed_target"])
    # Only the sources of one target are seen through the same images, so only there are differences paired.
    sure = {"fixed_target": ties(material.scores, metric)}
    chosen = {
        scenario: choices(rankings[scenario], scenario, metric, metrics, sure.get(scenario)) for scenario in SCENARIOS
    }
    judged = _judged(material)
    tables = [
        *_ranking_tables(rankings, chosen, judged.scratch, metric),
        _pairs_table(rankings["fixed_target"], metrics, material.miou),
        *_judged_tables(material, judged, metric),
        *_stability_tables(material.stability),
        Table("cost", "What it took", _cost(material)),
        Table("datasets", "Datasets", material.datasets, page=_told(material.datasets)),
        Table("sources", "Source models", material.sources, page=_told(material.sources)),
        Table("settings", "Settings", words.setting_rows(material.settings)),
        _keys_table(material, metrics),
    ]
    without = without_score(rankings["fixed_target"], metric)
    return ReportContent(
        title=material.title,
        origin=material.origin,
        created=material.created,
        facts=tuple(_facts(material, judged, chosen["fixed_target"], without, metric)),
        metric=metric,
        metrics=tuple(metrics),
        rankings=rankings,
        choices=chosen,
        evaluation=judged.evaluation,
        verdicts=tuple(words.verdict(judged.evaluation, judged.compared, "fixed_source")),
        tables={table.name: table for table in tables if not table.frame.empty},
        stability=material.stability,
        explanations=_best_first(material.explanations, rankings["fixed_target"], metric),
    )


def _best_first(explanations: tuple[Explanation, ...], ranking: pd.DataFrame, metric: str) -> tuple[Explanation, ...]:
    """Target by target, the chosen source first."""
    of_metric = ranking[ranking["metric"] == metric]
    rank = dict(zip(zip(of_metric["source"], of_metric["target"], strict=True), of_metric["score_rank"], strict=True))
    last = len(ranking) + 1
    return tuple(sorted(explanations, key=lambda one: (one.target, rank.get((one.source, one.target), last))))


def _judged(material: Material) -> _Judged:
    pairs = material.pairs
    if pairs.empty:
        return _Judged(None, None, pd.DataFrame())
    evaluation = evaluate(pairs, metrics=metric_columns(pairs))
    return _Judged(evaluation, comparison(pairs), scratch_report(pairs, material.performance))


def _judged_tables(material: Material, judged: _Judged, metric: str) -> list[Table]:
    if judged.evaluation is None or judged.compared is None:
        return []
    evaluated = metric if metric in set(judged.evaluation["metric"]) else str(judged.evaluation["metric"].iloc[0])
    noise = fine_tuning_noise(material.performance)
    return [
        _evaluation_table(judged.evaluation),
        Table("noise", "Fine-tuning noise: ranked by one seed, judged by the mean of the others", noise),
        *judging_tables(material.pairs, judged.compared, evaluated),
    ]


def _facts(material: Material, judged: _Judged, chosen: pd.DataFrame, without: list[str], metric: str) -> list[Fact]:
    verdict = tuple(words.verdict(judged.evaluation, judged.compared, "fixed_target"))
    sure = [
        *words.checked(judged.evaluation, metric),
        *words.certainty(chosen, metric),
        *words.scratch_words(judged.scratch),
    ]
    skipped = [*material.skipped, *words.without_words(without, metric)] or ["Nothing."]
    facts = [
        Fact("Which model?", tuple(words.advice(chosen, metric))),
        Fact("How sure?", tuple(sure)),
        Fact("What cost?", tuple(words.cost_words(_cost(material)))),
        Fact("What was skipped?", (*skipped, *material.warnings)),
    ]
    if not verdict:
        return facts
    which = [Fact("Which metric?", verdict)]
    return which + facts if material.about_metrics else facts + which


def _ranking_tables(
    rankings: Mapping[str, pd.DataFrame], chosen: Mapping[str, pd.DataFrame], scratch: pd.DataFrame, metric: str
) -> list[Table]:
    answer = chosen["fixed_target"]
    if not scratch.empty:
        answer = answer.merge(scratch[["target", "scratch_miou"]], on="target", how="left")
    tables = [
        _choice_table("answer", f"For every target: the source to fine-tune, by {metric}", answer),
        _ranking_table(rankings["fixed_target"], "fixed_target", metric),
    ]
    if len(answer) < 2:
        return tables
    of_sources = f"For every source: the target it scores best on, by {metric}"
    return [
        *tables,
        _choice_table("targets", of_sources, chosen["fixed_source"]),
        _ranking_table(rankings["fixed_source"], "fixed_source", metric),
    ]


def _choice_table(name: str, title: str, frame: pd.DataFrame) -> Table:
    return Table(name, title, frame, page=_told(frame.drop(columns="n_items")))


def _told(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns that the page has: those with a value."""
    return frame.dropna(axis="columns", how="all")


def _ranking_table(ranking: pd.DataFrame, scenario: str, metric: str) -> Table:
    """Whole rankings by every metric; the page has room for those by one."""
    page = _told(ranking[ranking["metric"] == metric].drop(columns="metric"))
    return Table(scenario, _TITLES[scenario], ranking, page=page, page_title=f"{_TITLES[scenario]} by {metric}")


def _pairs_table(ranking: pd.DataFrame, metrics: list[str], miou: pd.DataFrame) -> Table:
    """One row per pair: source, target, miou, a column per metric."""
    frame = ranking.pivot(index=["target", "source"], columns="metric", values="score").reset_index()
    frame = frame.merge(miou[["source", "target", "miou"]], on=["source", "target"], how="left")
    frame = frame[["source", "target", "miou", *metrics]].astype({"miou": float})
    return Table("pairs", "Every pair: mIoU and score of every metric", frame, page=_told(frame))


def _evaluation_table(evaluation: pd.DataFrame) -> Table:
    joined = [", ".join(names) if isinstance(names, list) else "" for names in evaluation["beaten_by"]]
    shown = (
        "scenario", "metric", "kind", "top1", "top1_low", "top1_high", "tau_w", "tau_w_low", "tau_w_high", "rel_at_1",
        "kendall", "pearson", "beaten_by",
    )  # fmt: skip
    frame = evaluation.assign(beaten_by=joined)
    return Table("evaluation", "How well every metric ranks", frame, page=frame[list(shown)])


def _stability_tables(stability: pd.DataFrame | None) -> list[Table]:
    if stability is None:
        return []
    columns = ["n_images", "seed", "winner", "tau_w_to_full", "n_tied"]
    return [Table("stability", "The ranking with fewer images", stability[columns].sort_values(columns[:2]))]


def _cost(material: Material) -> pd.DataFrame:
    """Scoring, fine-tuning and source training: how many, seconds of one and of all; no row where they are not known.

    All metrics of one pass over a pair carry the seconds of that pass: it counts once.
    """
    scores = material.scores
    pairs = len(scores[["source", "target"]].drop_duplicates())
    passes = pd.DataFrame(columns=["seconds"])
    if {"seconds", "created_utc"} <= set(scores):
        passes = scores.drop_duplicates(["source", "target", "seconds", "created_utc"])
    rows = [
        ("scoring pairs", pairs, passes["seconds"].sum() if len(passes) else None),
        ("fine-tuning", *_count_and_sum(material.performance)),
        ("training sources", *_count_and_sum(material.sources)),
    ]
    frame = pd.DataFrame(rows, columns=["what", "count", "total_seconds"]).astype({"total_seconds": float})
    frame = frame[frame["total_seconds"].notna()].reset_index(drop=True)
    return frame.assign(mean_seconds=frame["total_seconds"] / frame["count"])


def _count_and_sum(frame: pd.DataFrame) -> tuple[int, float | None]:
    known = frame["seconds"].dropna() if "seconds" in frame else pd.Series(dtype=float)
    return (len(known), float(known.sum())) if len(known) else (0, None)


def _keys_table(material: Material, metrics: list[str]) -> Table:
    """Every score with what decides it; no rows where the scores carry no key. The page has the keys' first digits."""
    known = [name for name in _PROVENANCE if name in material.scores]
    frame = material.scores[known] if "content_key" in known else material.scores.iloc[:0]
    title = "Every score, and the content key that stands for all that decides it"
    if frame.empty:
        return Table("scores", title, frame)
    keys = frame.assign(content_key=frame["content_key"].str[:_KEY_DIGITS])
    page = keys.pivot(index=["target", "source"], columns="metric", values="content_key").reset_index()
    page = page[["source", "target", *(metric for metric in metrics if metric in page)]]
    return Table("scores", title, frame, page=page, page_title=f"Content keys, their first {_KEY_DIGITS} digits")
