"""Reads the cells of Parquet files that hold images, one row group at a time.

A row group is the smallest part of a column that can be read. The last few are kept, because neighboring rows are read
one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal

from seg_transfer.errors import DataError, reason_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Images and label maps of the current row group, and of the next one, which another thread may have begun.
_MAX_GROUPS = 4
_MAX_FILES = 64
_reading = Lock()


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table, which holds the bytes of an image file.

    Attributes:
        path: The Parquet file.
        row: Row, from 0.
        column: Name of the column.
    """

    path: Path
    row: int
    column: str

    def __str__(self) -> str:
        return f"{self.path}, row {self.row}, column {self.column}"

    def open(self, mode: Literal["rb"] = "rb") -> BytesIO:
        """Open the image file like `Path.open`; raises DataError as `read_cell` does."""
        return BytesIO(read_cell(self))


Source = Path | Cell
"""An image file: on disk, or in a cell of a table."""


def read_cell(cell: Cell) -> bytes:
    """Read the image file that a cell holds.

    A cell is a binary value, or a struct ``{bytes, path}`` as dataset hubs write them.

    Raises:
        DataError: The table is missing or damaged, or the cell holds no bytes.
    """
    version = _version(cell.path)
    starts = _group_starts(cell.path, version)
    group = next((index for index, end in enumerate(starts[1:]) if cell.row < end), None)
    if group is None or cell.row < 0:
        raise DataError(f"{cell}: the table has {starts[-1]} rows; it was changed, list its records again")
    # If several threads need a row group, one reads it and the others wait.
    with _reading:
        column = _read_group(cell.path, version, group, cell.column)
    value = _value(cell, column, cell.row - starts[group])
    content = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(content, bytes) and content:
        return content
    path = value.get("path") if isinstance(value, dict) else None
    held = f"only the path {path!r}" if path else "no image"
    raise DataError(f"{cell}: holds {held}; embed the bytes of the file in the table, or leave the row out")


def rows_without(path: Path, column: str, *, read_bytes: bool) -> tuple[int, frozenset[int]]:
    """Return the number of rows of a table, and those whose cell in a column is empty (null).

    Where cells are structs, only the paths in them are read; the images are not.

    Args:
        path: The Parquet file.
        column: Name of the column.
        read_bytes: Whether to read all images of a column that holds nothing else; otherwise it counts as complete.

    Raises:
        DataError: The table cannot be read, lacks the column, or the column cannot hold images.
    """
    empty = set[int]()
    starts = _group_starts(path, _version(path))
    with open_table(path) as table:
        check_column(path, table.schema_arrow, column)
        kind = table.schema_arrow.field(column).type
        part = f"{column}.path" if _has_field(kind, "path") else column
        if part == column and not read_bytes:
            return starts[-1], frozenset()
        for group, start in enumerate(starts[:-1]):
            values = table.read_row_group(group, columns=[part]).column(0)
            empty |= {start + row for row, is_null in enumerate(values.is_null().to_pylist()) if is_null}
    return starts[-1], frozenset(empty)


def first_cell(path: Path, column: str) -> Cell | None:
    """Return the first cell of the first row group that holds bytes; None if there is none.

    Raises:
        DataError: The table cannot be read, lacks the column, or the column cannot hold images.
    """
    version = _version(path)
    if _group_starts(path, version)[-1] == 0:
        return None
    with _reading:
        values = _read_group(path, version, 0, column)
    present = _leaf(values.combine_chunks()).is_valid().to_pylist()
    return Cell(path, present.index(True), column) if True in present else None


def check_column(path: Path, schema: pa.Schema, column: str) -> None:
    """Raise DataError if a table has no column of this name, or one that cannot hold images."""
    if column not in schema.names:
        named = ", ".join(schema.names)[:200]
        raise DataError(f"{path}: no column {column!r}, only {named}; correct 'columns' or leave the file out")
    if not can_hold_images(schema.field(column).type):
        kind = str(schema.field(column).type)[:80]
        raise DataError(
            f"{path}: column {column!r} holds {kind}, but images are bytes or {{bytes, path}}; correct 'columns'"
        )


def can_hold_images(kind: pa.DataType) -> bool:
    """Whether a type is binary, or a struct with a binary field ``bytes``."""
    import pyarrow as pa

    if _has_field(kind, "bytes"):
        kind = kind.field("bytes").type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _has_field(kind: pa.DataType, name: str) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_struct(kind) and kind.get_field_index(name) >= 0)


@contextmanager
def open_table(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file for the duration of a block; raises DataError if it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            yield table
    except FileNotFoundError as error:
        raise DataError(f"{path}: the file does not exist; add it or exclude it") from error
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({reason_of(error)}); copy it again") from error


def _value(cell: Cell, column: pa.Array, position: int) -> object:
    try:
        value: object = column[position].as_py()
    except (IndexError, ValueError) as error:
        raise DataError(f"{cell}: cannot be read ({reason_of(error)}); the table is damaged, copy it again") from error
    return value


def _version(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); add the file or exclude it") from error
    return status.st_size, status.st_mtime_ns


@lru_cache(_MAX_FILES)
def _group_starts(path: Path, version: tuple[int, int]) -> tuple[int, ...]:
    """Return the first row of every row group, and the number of rows."""
    with open_table(path) as table:
        # The metadata state the sizes too, but to ask them about a damaged row group ends the process.
        sizes = [table.read_row_group(group, columns=[]).num_rows for group in range(table.num_row_groups)]
        # A row with an image takes at least one byte; a damaged file must not make a list of all rows too long.
        if min(sizes, default=0) < 0 or sum(sizes) > version[0]:
            raise ValueError(f"it states {sum(sizes)} rows, but has {version[0]} bytes")
    return tuple(accumulate(sizes, initial=0))


@lru_cache(_MAX_GROUPS)
def _read_group(path: Path, _version: tuple[int, int], group: int, column: str) -> pa.Array:
    with open_table(path) as table:
        check_column(path, table.schema_arrow, column)
        return table.read_row_group(group, columns=[column]).column(0)


def _leaf(values: pa.Array) -> pa.Array:
    """Return the bytes of a column; null where the struct around them is null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.struct_field(values, "bytes") if pa.types.is_struct(values.type) else values
