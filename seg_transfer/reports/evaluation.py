"""The evaluation of a study or of published pairs as plain frames, terminal tables and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from seg_transfer.evaluation import (
    SCENARIOS,
    evaluate,
    fine_tuning_noise,
    metric_columns,
    plain_rows,
    rankings,
    robustness,
    robustness_summary,
)
from seg_transfer.reports.evaluation_tables import evaluation_tables, noise_tables, robustness_tables
from seg_transfer.reports.tables import ranking_tables
from seg_transfer.reports.verdict_checks import robustness_sentences
from seg_transfer.store.published import published_pairs, published_studies
from seg_transfer.store.results import read_pairs
from seg_transfer.store.run_results import read_fine_tunings

_ROBUSTNESS = ("tau_w_without_largest", "tau_w_equal_size", "tau_w_min", "tau_w_max")
_NOISE = ("n_seeds", "sd", "fraction_distinguishable")


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of metrics by fine-tuned performance.

    Attributes:
        pairs: One row per pair, in the form that `seg_transfer.evaluation` takes: source, target, miou,
            n_target_classes, and one column per metric.
        metrics: The evaluated columns, in order.
        measures: Frame from `seg_transfer.evaluation.evaluate`: one row per scenario and metric or control, and one of
            the ceiling if pairs were fine-tuned several times.
        robustness: Frame from `seg_transfer.evaluation.robustness_summary`, for rankings of sources.
        rankings: Scenario -> frame from `seg_transfer.evaluation.rankings`.
        noise: Frame from `seg_transfer.evaluation.fine_tuning_noise`, of these pairs; no rows if they were fine-tuned
            only once.
        fine_tunings: One row per fine-tuning: source, target, seed, miou, ...; those of the study's seeds;
            no rows for published pairs.
        left_out: Metrics and pairs that `pairs` lacks, because results are missing or belong to other settings.
        performance: Meaning of the column miou: "mIoU" or "accuracy".
    """

    pairs: pd.DataFrame
    metrics: tuple[str, ...]
    measures: pd.DataFrame
    robustness: pd.DataFrame
    rankings: Mapping[str, pd.DataFrame]
    noise: pd.DataFrame
    fine_tunings: pd.DataFrame
    left_out: tuple[str, ...] = ()
    performance: str = "mIoU"


def evaluation_of_run(folder: Path) -> Evaluation:
    """Evaluate the metrics of a study on the pairs of its run folder that are scored and fine-tuned.

    Args:
        folder: The run folder.

    Raises:
        ResultsError: The folder holds no study, a file is damaged, or no pair is complete.
    """
    pairs, left_out = read_pairs(folder)
    return _evaluate_pairs(pairs, read_fine_tunings(folder), tuple(left_out), "mIoU")


def evaluation_of_published(name: str = "segmentation") -> Evaluation:
    """Evaluate the metrics of published pairs.

    Args:
        name: One of `seg_transfer.store.published.published_names`.

    Raises:
        ResultsError: The name is unknown, or the results cannot be read.

    Example:
        >>> evaluation = evaluation_of_published()
        >>> best = evaluation.measures.query("scenario == 'fixed_target' and metric == 'gbc'")
        >>> round(best["top1"].item(), 3)
        0.647
    """
    study = published_studies().get(name)
    if study is not None:
        return evaluation_of_run(study)
    pairs, performance = published_pairs(name)
    return _evaluate_pairs(pairs, pd.DataFrame(columns=["source", "target", "seed", "miou"]), (), performance)


def terminal_tables(evaluation: Evaluation) -> list[Table]:
    """Make tables for a terminal: rankings, measures, whether they hold for other sources, and fine-tuning noise."""
    fine_tunings = None if evaluation.fine_tunings.empty else evaluation.fine_tunings
    shown = ranking_tables(
        evaluation.pairs, fine_tunings, metrics=evaluation.metrics, performance=evaluation.performance
    )
    return [
        *shown,
        *evaluation_tables(evaluation.measures, evaluation.performance),
        *robustness_tables(evaluation.robustness, robustness_sentences(evaluation.robustness, evaluation.pairs)),
        *noise_tables(evaluation.noise),
    ]


def json_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Convert the evaluation to plain data for JSON, one dictionary per scenario and metric, control or ceiling.

    Rows of metrics and controls that rank sources say how tau_w changes with other sources; rows of the ceiling say how
    much seeds scatter.
    """
    robust = evaluation.robustness.set_index("metric")[list(_ROBUSTNESS)]
    noise = evaluation.noise.set_index("scenario")[list(_NOISE)].to_dict("index")  # keeps integers
    rows = []
    for row in evaluation.measures.to_dict("records"):
        if row["kind"] == "ceiling":
            row |= noise[row["scenario"]]
        elif row["scenario"] == "fixed_target" and row["metric"] in robust.index:
            row |= robust.loc[row["metric"]].to_dict()
        rows += plain_rows(pd.DataFrame([row]))
    return rows


def _evaluate_pairs(
    pairs: pd.DataFrame, fine_tunings: pd.DataFrame, left_out: tuple[str, ...], performance: str
) -> Evaluation:
    metrics = tuple(metric_columns(pairs))
    return Evaluation(
        pairs=pairs,
        metrics=metrics,
        measures=evaluate(pairs, metrics=metrics, fine_tunings=fine_tunings),
        robustness=robustness_summary(robustness(pairs, metrics=metrics)),
        rankings={scenario: rankings(pairs, scenario, metrics=metrics) for scenario in SCENARIOS},
        noise=fine_tuning_noise(fine_tunings, pairs=pairs),
        fine_tunings=fine_tunings,
        left_out=left_out,
        performance=performance,
    )
