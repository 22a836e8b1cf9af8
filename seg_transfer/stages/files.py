"""Checks a stage's files in a run folder; each problem is one line that says what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seg_transfer.errors import CheckpointError, ResultsError
from seg_transfer.models.configs import source_key
from seg_transfer.store.source_card import SourceCard, read_source_card
from seg_transfer.store.tables import read_table
from seg_transfer.study.run import Run

RowProblems = Callable[[list[dict[str, Any]]], Iterable[str]]
_ADVICE = "delete it and run the same command again"


def table_problems(file: Path, schema: pa.Schema, problems: Callable[[pa.Table], Iterable[str]]) -> Iterator[str]:
    """Yield the problems of a Parquet file: a read error, or what `problems` reports about its table."""
    try:
        table = read_table(file, schema)
    except ResultsError as error:
        yield " ".join(str(error).split())
        return
    yield from (f"{file}: {problem}; {_ADVICE}" for problem in problems(table))


def pair_problems(run: Run, folder: str, schema: pa.Schema, problems: RowProblems) -> Iterator[str]:
    """Yield the problems of all files ``<folder>/<source>/<target>.parquet``."""
    datasets = {source.name: source.dataset for source in run.study.sources}

    def pair_table_problems(file: Path, table: pa.Table) -> Iterator[str]:
        source, target, rows = file.parent.name, file.stem, table.to_pylist()
        if datasets.get(source, source) == target:
            yield f"pairs source {source} with {target}, the dataset it was trained on"
        for row in rows:
            if (row["source"], row["target"]) != (source, target):
                yield f"has a row of {row['source']} -> {row['target']}, but its name says {source} -> {target}"
        if not rows:
            yield "has no row"
        yield from problems(rows)

    for file in sorted((run.folder / folder).glob("*/*.parquet")):
        yield from table_problems(file, schema, partial(pair_table_problems, file))


def duplicates(column: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the values that occur more than once in a column whose values must be distinct."""
    for value, count in Counter(row[column] for row in rows).items():
        if count > 1:
            yield f"has {count} rows of {column} {value}"


def read_card_or_problem(file: Path) -> SourceCard | str:
    """Read a card and verify its weights; returns the card, or the problem as one line."""
    try:
        source_key(file)
        return read_source_card(file)
    except CheckpointError as error:
        return " ".join(str(error).split())


def page_problems(file: Path) -> Iterator[str]:
    """Yield the problems of a large Parquet file, which is read one row group at a time."""
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            for group in range(opened.num_row_groups):
                opened.read_row_group(group)
    except (pa.ArrowException, OSError) as error:
        yield f"{file}: damaged feature file ({str(error).splitlines()[0]}); {_ADVICE}"
