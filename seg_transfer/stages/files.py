"""Checks of a stage's files in a run folder; each problem is one line that states what to do."""

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
_AGAIN = "delete it and run the same command again"


def table_problems(file: Path, schema: pa.Schema, problems: Callable[[pa.Table], Iterable[str]]) -> Iterator[str]:
    """What is wrong with a Parquet file: that it cannot be read, or what `problems` finds in its table."""
    try:
        table = read_table(file, schema)
    except ResultsError as error:
        yield " ".join(str(error).split())
        return
    yield from (f"{file}: {problem}; {_AGAIN}" for problem in problems(table))


def pair_problems(run: Run, folder: str, schema: pa.Schema, problems: RowProblems) -> Iterator[str]:
    """What is wrong with the files ``<folder>/<source>/<target>.parquet``."""
    datasets = {source.name: source.dataset for source in run.study.sources}

    def of_table(file: Path, table: pa.Table) -> Iterator[str]:
        source, target, rows = file.parent.name, file.stem, table.to_pylist()
        if datasets.get(source, source) == target:
            yield f"pairs source {source} with {target}, the dataset it was trained on"
        for row in rows:
            if (row["source"], row["target"]) != (source, target):
                yield f"has a row of {row['source']} -> {row['target']}, by its name it is of {source} -> {target}"
        if not rows:
            yield "has no row"
        yield from problems(rows)

    for file in sorted((run.folder / folder).glob("*/*.parquet")):
        yield from table_problems(file, schema, partial(of_table, file))


def duplicates(column: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    """Values that a column with distinct values has several times."""
    for value, count in Counter(row[column] for row in rows).items():
        if count > 1:
            yield f"has {count} rows of {column} {value}"


def card_or_problem(file: Path) -> SourceCard | str:
    """A card whose weights are those that it describes, or what is wrong with it."""
    try:
        source_key(file)
        return read_source_card(file)
    except CheckpointError as error:
        return " ".join(str(error).split())


def page_problems(file: Path) -> Iterator[str]:
    """What is wrong with the pages of a large Parquet file, row group by row group."""
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            for group in range(opened.num_row_groups):
                opened.read_row_group(group)
    except (pa.ArrowException, OSError) as error:
        yield f"{file}: damaged feature file ({str(error).splitlines()[0]}); {_AGAIN}"
