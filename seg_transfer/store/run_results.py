"""Reads all results of a run folder as plain frames: scores, performance, source cards, settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from seg_transfer.data.manifest import SCRATCH
from seg_transfer.store.network_costs import NetworkCosts, read_costs
from seg_transfer.store.results import (
    complete_pairs,
    miou_of,
    resolved_study,
    results_of,
    study_seeds,
    valid_scores,
)
from seg_transfer.store.source_card import FILE_NAME, SourceCard, read_source_card
from seg_transfer.store.tables import PERFORMANCE, SCORES, metadata_of, performance_file, scores_file

_ScoreTable = tuple[dict[str, Any], str, pa.Table]


@dataclass(frozen=True)
class RunResults:
    """The results in a run folder that are valid for its study.

    Attributes:
        resolved: The resolved study: study, manifests, fine_tuning_schedule, data_root.
        pairs: Complete pairs as `seg_transfer.evaluation` takes them; no rows if no pair is complete.
        left_out: Metrics and pairs that are missing in `pairs`, with the names that `read_pairs` returns.
        scores: One row per pair and metric of the study, with the columns of a scores file.
        performance: One row per fine-tuning with a seed of the study, with the columns of a performance file; scratch
            is among the sources.
        miou: One row per fine-tuned pair: source, target, miou (mean over the study's seeds); scratch included.
        unscored: Pairs without valid scores, as "source -> target".
        untuned: Pairs without valid performance.
        cards: Source cards of the sources that the study has trained.
        costs: Source -> what its network costs; sources that were scored before costs were kept are missing.
    """

    resolved: dict[str, Any]
    pairs: pd.DataFrame
    left_out: list[str]
    scores: pd.DataFrame
    performance: pd.DataFrame
    miou: pd.DataFrame
    unscored: list[str]
    untuned: list[str]
    cards: list[SourceCard]
    costs: Mapping[str, NetworkCosts]


def read_run(folder: Path) -> RunResults:
    """Read all results of a run folder that are valid for its current study.

    Args:
        folder: The run folder.

    Raises:
        ResultsError: The folder holds no study, or a file is damaged.
        CheckpointError: A source card is damaged.
    """
    resolved = resolved_study(folder)
    pairs, left_out = complete_pairs(folder)
    labels = {(source["name"], target): f"{source['name']} -> {target}" for source, target in _pairs(resolved)}
    tables = list(_score_tables(folder, resolved))
    scored = {key: rows for key, rows in _scores(folder, tables, resolved) if rows}
    tuned = dict(_performance(folder, resolved))
    miou = [(*key, miou_of(resolved, table)) for key, table in tuned.items()]
    return RunResults(
        resolved=resolved,
        pairs=pairs,
        left_out=left_out,
        scores=_frame(SCORES, [row for rows in scored.values() for row in rows]),
        performance=_fine_tunings(resolved, tuned.values()),
        miou=pd.DataFrame([row for row in miou if row[2] is not None], columns=["source", "target", "miou"]),
        unscored=[label for key, label in labels.items() if key not in scored],
        untuned=[label for key, label in labels.items() if key not in tuned],
        cards=[read_source_card(file) for file in _card_files(folder, resolved)],
        costs=dict(_costs(folder, tables)),
    )


def read_fine_tunings(folder: Path) -> pd.DataFrame:
    """Read only the valid fine-tunings of a run folder with the seeds of its study, as in `RunResults.performance`.

    Args:
        folder: The run folder.

    Raises:
        ResultsError: The folder holds no study, or a file is damaged.
    """
    resolved = resolved_study(folder)
    return _fine_tunings(resolved, (table for _, table in _performance(folder, resolved)))


def _fine_tunings(resolved: Mapping[str, Any], tables: Iterable[pa.Table]) -> pd.DataFrame:
    """Return one row per fine-tuning with a seed of the study, as `miou_of` counts them."""
    seeds = study_seeds(resolved)
    rows = [row for table in tables for row in table.to_pylist()]
    return _frame(PERFORMANCE, [row for row in rows if seeds is None or row["seed"] in seeds])


def _pairs(resolved: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    study = resolved["study"]
    for target in study["targets"]:
        yield from ((source, target) for source in study["sources"] if source["dataset"] != target)


def _score_tables(folder: Path, resolved: dict[str, Any]) -> Iterator[_ScoreTable]:
    """Yield source, target and file of scores of every scored pair."""
    for source, target in _pairs(resolved):
        table = results_of("scores", resolved, scores_file(folder, source["name"], target), target)
        if table is not None:
            yield source, target, table


def _scores(
    folder: Path, tables: Iterable[_ScoreTable], resolved: dict[str, Any]
) -> Iterator[tuple[tuple[str, str], list[dict[str, Any]]]]:
    """Yield the valid score rows of every pair, in the order of the study's metrics."""
    order = {metric: position for position, metric in enumerate(resolved["study"]["metrics"])}
    for source, target, table in tables:
        rows = [row for row in valid_scores(folder, table, resolved, source["dataset"]) if row["metric"] in order]
        yield (source["name"], target), sorted(rows, key=lambda row: order[row["metric"]])


def _costs(folder: Path, tables: Iterable[_ScoreTable]) -> Iterator[tuple[str, NetworkCosts]]:
    """Yield the costs of the sources that were kept for the weights that were scored."""
    for source, _, table in tables:
        costs = read_costs(folder, source["name"], metadata_of(table, "source_key"))
        if costs is not None:
            yield source["name"], costs


def _performance(folder: Path, resolved: dict[str, Any]) -> Iterator[tuple[tuple[str, str], pa.Table]]:
    names = [(source["name"], target) for source, target in _pairs(resolved)]
    for name, target in [*names, *((SCRATCH, target) for target in resolved["study"]["targets"])]:
        table = results_of("performance", resolved, performance_file(folder, name, target), target)
        if table is not None:
            yield (name, target), table


def _frame(schema: pa.Schema, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Make a frame of rows, which has the columns of the schema even without rows."""
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=schema.names)


def _card_files(folder: Path, resolved: dict[str, Any]) -> list[Path]:
    files = [folder / "sources" / source["name"] / FILE_NAME for source in resolved["study"]["sources"]]
    return [file for file in files if file.is_file()]
