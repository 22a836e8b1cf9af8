"""Result files: read back exactly; damaged files are refused and never read with other values."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seg_transfer.errors import ResultsError
from seg_transfer.store.tables import (
    PERFORMANCE,
    SAMPLES,
    SCORES,
    now_utc,
    provenance,
    read_rows,
    read_table,
    write_rows,
    write_table,
)

PROVENANCE = {
    "seconds": 12.25,
    "content_key": "0f" * 32,
    "schema_version": 3,
    "seg_transfer_version": "0.1.0",
    "created_utc": "2024-02-29T12:00:00+00:00",
}
SCORE_ROWS = [
    {
        "source": "camvid",
        "target": "nyuv2",
        "metric": metric,
        "score": score,
        "standard_error": error,
        "replicates": replicates,
        "note": note,
        "n_observations": 150_000,
        "n_images": 150,
        "n_classes": 13,
        "n_source_classes": 11,
        **PROVENANCE,
    }
    for metric, score, error, replicates, note in [
        ("gbc", -1399.846320632, 0.1, [-1399.5, None, -1400.25], ""),
        ("leep", -3.51857543, None, [], "fitted on 30000 of 150000 observations"),
        ("logme", 1e-300, 0.0, [1e-300, 1e-300], ""),
    ]
]
PERFORMANCE_ROWS = [
    {
        "source": "scratch",
        "target": "nyuv2",
        "miou": 0.1 + 0.2,
        "class_iou": [0.5, None, 0.1, 0.0],
        "n_eval_images": 60,
        "n_train_images": 40,
        "seed": 2**40,
        "steps": 100,
        **PROVENANCE,
    }
]


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    file = tmp_path / "scores" / "camvid" / "nyuv2.parquet"
    write_rows(file, SCORES, SCORE_ROWS)
    return file


def refusal(file: Path, schema: pa.Schema = SCORES) -> str:
    with pytest.raises(ResultsError) as caught:
        read_rows(file, schema)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("schema", "rows"), [(SCORES, SCORE_ROWS), (PERFORMANCE, PERFORMANCE_ROWS)])
def test_rows_come_back_to_the_last_bit(tmp_path, schema, rows):
    file = tmp_path / "rows.parquet"
    write_rows(file, schema, rows)
    assert read_rows(file, schema) == rows
    assert rows[0].keys() == set(schema.names)


def test_no_file_means_no_rows(tmp_path):
    assert read_rows(tmp_path / "none.parquet", SCORES) == []


def test_writing_again_replaces(scores):
    write_rows(scores, SCORES, SCORE_ROWS[:1])
    assert read_rows(scores, SCORES) == SCORE_ROWS[:1]
    assert [path.name for path in scores.parent.iterdir()] == ["nyuv2.parquet"]


@pytest.mark.parametrize("schema", [SCORES, PERFORMANCE, SAMPLES])
def test_the_file_itself_describes_every_column(tmp_path, schema):
    file = tmp_path / "empty.parquet"
    write_rows(file, schema, [])
    stored = pq.read_schema(file)
    described = json.loads(stored.metadata[b"columns"])
    assert list(described) == stored.names == schema.names
    assert all(len(text) >= len("pixels") for text in described.values())
    assert {field.name: field.metadata[b"description"].decode() for field in stored} == described


def test_metadata_is_added_to_the_descriptions(tmp_path):
    file = tmp_path / "samples.parquet"
    table = pa.Table.from_pylist([{"image_id": "a", "row": 1, "column": 2, "label": 3}], schema=SAMPLES)
    write_table(file, table, {"content_key": "abc"})
    read = read_table(file, SAMPLES)
    assert read.schema.metadata[b"content_key"] == b"abc"
    assert json.loads(read.schema.metadata[b"columns"]).keys() == set(SAMPLES.names)
    assert read.equals(table)


@pytest.mark.parametrize(("kind", "is_read"), [("uint8", True), ("uint16", True), ("int32", False), ("string", False)])
def test_class_indices_have_eight_or_sixteen_bits(tmp_path, kind, is_read):
    file, column = tmp_path / "samples.parquet", SAMPLES.get_field_index("label")
    table = pa.Table.from_pylist([{"image_id": "a", "row": 1, "column": 2, "label": 3}], schema=SAMPLES)
    write_table(file, table.set_column(column, "label", table["label"].cast(kind)))
    if is_read:
        assert read_table(file, SAMPLES)["label"].to_pylist() == [3]
    else:
        with pytest.raises(ResultsError, match=r"lacks column label \(uint8\); delete it"):
            read_table(file, SAMPLES)


def test_pandas_reads_the_same(scores):
    frame = pd.read_parquet(scores)
    assert list(frame) == SCORES.names
    expected = pd.DataFrame(SCORE_ROWS).astype({"n_images": "int32", "n_classes": "int32"})
    replicates, of_rows = frame.pop("replicates"), expected.pop("replicates")
    for one, other in zip(replicates, of_rows, strict=True):
        np.testing.assert_array_equal(one, np.array(other, dtype=np.float64))
    pd.testing.assert_frame_equal(frame, expected, check_dtype=False, check_exact=True)
    assert frame["score"].dtype == np.float64
    assert frame["standard_error"].isna().tolist() == [False, True, False]


def test_further_columns_are_ignored(tmp_path):
    file = tmp_path / "later.parquet"
    wider = pa.Table.from_pylist(SCORE_ROWS, schema=SCORES).append_column("colour", pa.array(["red"] * 3))
    write_table(file, wider)
    assert [row["score"] for row in read_rows(file, SCORES)] == [row["score"] for row in SCORE_ROWS]


def test_rows_hold_their_schema_version():
    assert provenance(1.0, "k")["schema_version"] == 1


def test_a_missing_column_is_named(tmp_path):
    file = tmp_path / "narrow.parquet"
    write_table(file, pa.Table.from_pylist(SCORE_ROWS, schema=SCORES).drop_columns(["standard_error"]))
    assert "lacks column standard_error (double); delete it" in refusal(file)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet " * 40])
def test_other_files_are_refused(tmp_path, content):
    file = tmp_path / "bad.parquet"
    file.write_bytes(content)
    assert "damaged result file" in refusal(file)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(scores, share):
    whole = scores.read_bytes()
    scores.write_bytes(whole[: int(share * len(whole))])
    assert "damaged result file" in refusal(scores)


def test_no_flipped_bit_changes_a_number(scores):
    """One bit in each of 120 places all over the file, and every bit of the footer that names and types columns."""
    whole = scores.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    generator = np.random.default_rng(5)
    scattered = [(place, int(generator.integers(8))) for place in np.linspace(0, len(whole) - 1, 120).astype(int)]
    described = [(place, bit) for place in range(footer, footer + 45) for bit in range(8)]
    refused = 0
    for place, bit in scattered + described:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        scores.write_bytes(damaged)
        found = rows_or_none(scores)
        refused += found is None
        assert found is None or found == SCORE_ROWS, f"bit {bit} flipped in byte {place} of {len(whole)}"
    assert refused > 300


def rows_or_none(file: Path) -> list[dict[str, Any]] | None:
    try:
        return read_rows(file, SCORES)
    except ResultsError:
        return None


def test_the_time_is_utc_to_the_second():
    written = dt.datetime.fromisoformat(now_utc())
    assert written.utcoffset() == dt.timedelta(0)
    assert written.microsecond == 0
    assert abs(dt.datetime.now(dt.UTC) - written) < dt.timedelta(minutes=1)
