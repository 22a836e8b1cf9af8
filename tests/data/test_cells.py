from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data.parquet_files import HUB_IMAGE, hub_cell, image, label, png, write_columns, write_rows

from seg_transfer.data import cells
from seg_transfer.data.cells import Cell
from seg_transfer.data.images import read_image, read_pair
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.records import list_records
from seg_transfer.errors import DataError

Manifest = Callable[..., DatasetManifest]


def test_a_cell_with_a_path_and_no_bytes_holds_no_image(tmp_path: Path) -> None:
    cells_of = [hub_cell(png(label(0))), {"bytes": None, "path": "elsewhere.png"}, None]
    file = write_columns(tmp_path / "a.parquet", {"image": pa.array(cells_of, HUB_IMAGE)})
    assert cells.rows_without(file, "image", read_bytes=True) == (3, frozenset({2}))
    for row, held in ((1, "only the path 'elsewhere.png'"), (2, "no image")):
        with pytest.raises(DataError, match=rf"a\.parquet, row {row}, column image: holds {held}; embed the bytes"):
            cells.read_cell(Cell(file, row, "image"))


def test_empty_cells_are_found_in_columns_of_plain_bytes_too(tmp_path: Path, tables: Manifest) -> None:
    columns = {"image": pa.array([png(image(row)) for row in range(3)]), "label": pa.array([png(label(0)), None, b"x"])}
    write_columns(tmp_path / "mini/data/a.parquet", columns, row_group_size=2)
    assert [record.row for record in list_records(tables(unpaired="ignore"), tmp_path, "train")] == [0, 2]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[str]]]:
    """Row group and columns of every read of a table."""
    found: list[tuple[int, list[str]]] = []
    original = pq.ParquetFile.read_row_group

    def counted(table: Any, group: int, columns: list[str]) -> Any:
        found.append((group, columns))
        return original(table, group, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    cells._read_group.cache_clear()
    cells._group_starts.cache_clear()
    return found


def test_no_image_is_read_to_find_records(tmp_path: Path, table: Path, tables: Manifest, reads: Any) -> None:
    list_records(tables(), tmp_path, "train")
    assert {column for _, columns in reads for column in columns} == {"image.path", "label.path"}
    columns = {"image": pa.array([png(image(0))]), "label": pa.array([png(label(0))])}
    write_columns(table, columns)
    reads.clear()
    list_records(tables(), tmp_path, "train")
    assert reads == [(0, []), (0, ["label"])]


def test_each_row_group_is_read_once_however_many_threads_ask(
    tmp_path: Path, table: Path, tables: Manifest, reads: Any
) -> None:
    records = list_records(tables(), tmp_path, "train")
    reads.clear()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda record: read_pair(record, tables()), records[:5] * 3))
    assert all(np.array_equal(pixels, image(row)) for (pixels, _), row in zip(found, [*range(5)] * 3, strict=True))
    assert sorted(reads) == [(0, ["image"]), (0, ["label"])]
    for record in records:
        read_pair(record, tables())
    assert sorted(reads) == [(group, [column]) for group in range(3) for column in ("image", "label")]


def test_a_table_that_changes_is_read_again(tmp_path: Path, table: Path, tables: Manifest) -> None:
    (first, *_) = list_records(tables(), tmp_path, "train")
    read_image(first)
    write_rows(table, range(20, 33))
    assert np.array_equal(read_image(first), image(20))
    write_rows(table, range(3))
    with pytest.raises(DataError, match=r"train\.parquet, row 11, column label: the table has 3 rows; it was changed"):
        cells.read_cell(Cell(table, 11, "label"))


def test_a_table_cannot_state_more_rows_than_it_has_bytes(tmp_path: Path, tables: Manifest) -> None:
    file = write_columns(tmp_path / "mini/data/a.parquet", {"image": pa.nulls(10**6, pa.binary())})
    assert file.stat().st_size < 10**5
    with pytest.raises(DataError, match=r"a\.parquet: not a readable Parquet file \(it states 1000000 rows, but has"):
        list_records(tables(), tmp_path, "train")
