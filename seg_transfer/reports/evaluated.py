"""The part of a report that needs fine-tuned pairs: how well metrics rank, and what their verdict is worth."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from seg_transfer.evaluation import (
    SCENARIOS,
    evaluate,
    fine_tuning_noise,
    metric_columns,
    robustness,
    robustness_summary,
    scratch_report,
)
from seg_transfer.reports import sentences
from seg_transfer.reports.comparisons import comparison, comparison_tables
from seg_transfer.reports.data_table import Table
from seg_transfer.reports.inputs import ReportInput
from seg_transfer.reports.performance import POINTS
from seg_transfer.reports.verdict_checks import gap_sentences, robustness_sentences

_NOISE = "Fine-tuning noise: ranking by one seed, compared with the mean of the others"
_REGRET = "regret"


@dataclass(frozen=True)
class Evaluated:
    """Results that need fine-tuned pairs; None or empty if there are none.

    Attributes:
        evaluation: From `seg_transfer.evaluation.evaluate`.
        compared: From `comparisons.comparison`.
        scratch: From `seg_transfer.evaluation.scratch_report`.
        robust: From `seg_transfer.evaluation.robustness`, for rankings of sources.
    """

    evaluation: pd.DataFrame | None
    compared: pd.DataFrame | None
    scratch: pd.DataFrame
    robust: pd.DataFrame


def evaluated_pairs(data: ReportInput) -> Evaluated:
    """Evaluate the pairs of a report."""
    pairs = data.pairs
    if pairs.empty:
        return Evaluated(None, None, pd.DataFrame(), pd.DataFrame())
    metrics = metric_columns(pairs)
    return Evaluated(
        evaluate(pairs, metrics=metrics, fine_tunings=data.performance),
        comparison(pairs),
        scratch_report(pairs, data.performance),
        robustness(pairs, metrics=metrics),
    )


def verdicts(data: ReportInput, evaluated: Evaluated) -> list[str]:
    """Say what the choices of the best metrics lose, whether verdicts on sources hold, and which metric ranks targets.

    The summary of a report names the best metric for sources (`sentences.verdict`); these follow with the evaluation.
    """
    lost = {scenario: _lost(evaluated, scenario) for scenario in SCENARIOS}
    of_targets = sentences.verdict(evaluated.evaluation, evaluated.compared, "fixed_source")
    holds = robustness_sentences(robustness_summary(evaluated.robust), data.pairs) if lost["fixed_target"] else []
    return [*lost["fixed_target"], *holds, *of_targets, *lost["fixed_source"]]


def _lost(evaluated: Evaluated, scenario: str) -> list[str]:
    best = sentences.best_metric(evaluated.evaluation, scenario)
    return [] if best is None else gap_sentences(evaluated.evaluation, scenario, best)


def tables_of(data: ReportInput, evaluated: Evaluated, metric: str) -> list[Table]:
    """Make the tables of the evaluation.

    Args:
        data: The results.
        evaluated: From `evaluated_pairs`.
        metric: The metric that the page compares with all others, where it was evaluated.
    """
    if evaluated.evaluation is None or evaluated.compared is None:
        return []
    names = evaluated.evaluation["metric"]
    compared = metric if metric in set(names) else str(names.iloc[0])
    noise = fine_tuning_noise(data.performance, pairs=data.pairs)
    return [
        *_evaluation_tables(evaluated.evaluation),
        _robustness_table(evaluated.robust),
        Table("noise", _NOISE, noise, page=_in_points(noise)),
        *comparison_tables(data.pairs, evaluated.compared, compared),
    ]


def _evaluation_tables(evaluation: pd.DataFrame) -> list[Table]:
    """Make a table of rankings and a table of gaps; the files of the first hold all measures."""
    joined = [", ".join(names) if isinstance(names, list) else "" for names in evaluation["beaten_by"]]
    frame, head = evaluation.assign(beaten_by=joined), ["scenario", "metric", "kind"]
    rankings = frame[[*head, *_with_intervals("top1", "tau_w"), "rel_at_1", "kendall", "pearson", "beaten_by"]]
    shares = [name for name in ("top1_share", "tau_w_share") if evaluation[name].notna().any()]
    gaps = frame[[*head, *_with_intervals("regret"), *shares, *_with_intervals("fidelity")]]
    ceiling = ", and what one fine-tuning per pair reaches" if shares else ""
    return [
        Table("evaluation", "How well every metric ranks", frame, page=rankings),
        Table("gaps", f"What choices lose{ceiling}", gaps, page=_in_points(gaps)),
    ]


def _in_points(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with regret in points, as the page and the terminal show it; files hold the fraction."""
    regrets = [name for name in map(str, frame) if name.startswith(_REGRET)]
    points = {name: name.replace(_REGRET, f"{_REGRET}_points") for name in regrets}
    return frame.assign(**{name: POINTS * frame[name] for name in regrets}).rename(columns=points)


def _with_intervals(*names: str) -> list[str]:
    return [f"{name}{end}" for name in names for end in ("", "_low", "_high")]


def _robustness_table(robust: pd.DataFrame) -> Table:
    title = "Ranking sources: whether a verdict holds for other sources"
    summary = robustness_summary(robust)
    first = summary["n_first"].astype("Int64").where(summary["kind"] == "metric")  # controls do not compete for it
    page = summary.assign(n_first=first).drop(columns="kind").dropna(axis="columns", how="all")
    return Table("robustness", title, robust, page=page)
