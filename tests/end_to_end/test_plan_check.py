"""`plan --check` finds each way in which a run folder can be wrong, in one line, and finds nothing in a valid one."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from seg_transfer.store import content_key, memo
from seg_transfer.store.atomic import temporary_path
from seg_transfer.store.source_card import FILE_NAME
from seg_transfer.store.tables import PERFORMANCE, SAMPLES, SCORES, write_rows, write_table

SCORE_FILE = "scores/day_street/cells_dark.parquet"
PERFORMANCE_FILE = "performance/day_street/cells_dark.parquet"
SAMPLE_FILE = "samples/cells_dark.parquet"
SCHEMAS = {"scores": SCORES, "performance": PERFORMANCE, "samples": SAMPLES}
Rows = list[dict[str, Any]]


def checked(workspace: Any, invoke: Any, *options: str) -> Any:
    return invoke("plan", *workspace.place(), "--check", *options)


@pytest.fixture
def copy(finished: Any, copy_of: Any) -> Any:
    return copy_of(finished)


@pytest.fixture
def lines(copy: Any, invoke: Any) -> Callable[[], list[str]]:
    """The problems that are found."""

    def found() -> list[str]:
        ended = checked(copy, invoke)
        assert (ended.code, ended.out) == (7, "")
        return [line.removeprefix("seg-transfer: ") for line in ended.err.splitlines()]

    return found


def rewrite(file: Path, change: Callable[[Rows], Rows], **about: str) -> None:
    """The same file with other rows, or other metadata."""
    table = pq.ParquetFile(file).read()
    kept = {name.decode(): text.decode() for name, text in table.schema.metadata.items()}
    kind = next(part for part in file.parts[::-1] if part in SCHEMAS)
    write_rows(file, SCHEMAS[kind], change(table.to_pylist()), kept | about)


def with_first(**fields: Any) -> Callable[[Rows], Rows]:
    return lambda rows: [rows[0] | fields, *rows[1:]]


def test_a_finished_run_folder_is_valid(finished, invoke):
    ended = checked(finished, invoke)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"{finished.run}: every item is done and every file is valid\n"
    assert json.loads(checked(finished, invoke, "--json").out) == {"problems": []}


@pytest.mark.parametrize(
    ("file", "change", "reported"),
    [
        (SCORE_FILE, with_first(score=float("nan")), "the score of gbc is nan; it must be a finite number"),
        (SCORE_FILE, with_first(score=float("-inf")), "the score of gbc is -inf; it must be a finite number"),
        (SCORE_FILE, with_first(score=None), "the score of gbc is None; it must be a finite number"),
        (SCORE_FILE, lambda rows: [*rows, rows[0]], "has 2 rows of metric gbc"),
        (SCORE_FILE, with_first(target="dusk_street"), "has a row of day_street -> dusk_street, but its name says "),
        (SCORE_FILE, with_first(source="cells_dark"), "has a row of cells_dark -> cells_dark, but its name says "),
        (
            PERFORMANCE_FILE,
            with_first(miou=1.5),
            "seed 0 has the mIoU or class IoU 1.5; it must be a fraction in [0, 1]",
        ),
        (PERFORMANCE_FILE, with_first(miou=float("nan")), "seed 0 has the mIoU or class IoU nan; it must be"),
        (PERFORMANCE_FILE, with_first(miou=None), "seed 0 has the mIoU or class IoU None; it must be"),
        (PERFORMANCE_FILE, with_first(class_iou=[None, -0.1]), "seed 0 has the mIoU or class IoU -0.1; it must be"),
        (PERFORMANCE_FILE, lambda rows: [*rows, rows[0]], "has 2 rows of seed 0"),
        (PERFORMANCE_FILE, with_first(source="scratch"), "has a row of scratch -> cells_dark, but its name says "),
        (SAMPLE_FILE, lambda rows: [*rows, rows[0]], "holds a pixel twice"),
    ],
)
def test_impossible_rows(copy, lines, file, change, reported):
    rewrite(copy.run / file, change)
    (line,) = lines()
    assert line.startswith(f"{copy.run / file}: {reported}")
    assert line.endswith("; delete it and run the same command again")


def test_a_sample_of_another_dataset(copy, lines):
    rewrite(copy.run / SAMPLE_FILE, lambda rows: rows, dataset="dusk_street")
    assert lines() == [
        f"{copy.run / SAMPLE_FILE}: is the sample of 'dusk_street', but its name says 'cells_dark'; "
        "delete it and run the same command again"
    ]


@pytest.mark.parametrize("file", [SCORE_FILE, PERFORMANCE_FILE])
def test_a_file_without_rows(copy, lines, file):
    rewrite(copy.run / file, lambda rows: [])
    assert f"{copy.run / file}: has no row; delete it and run the same command again" in lines()


def every_page(file: Path) -> Iterator[int]:
    """An offset in each column's data page."""
    group = pq.ParquetFile(file).metadata.row_group(0)
    for column in range(group.num_columns):
        chunk = group.column(column)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        yield start + chunk.total_compressed_size - 1


@pytest.mark.parametrize("file", [SCORE_FILE, PERFORMANCE_FILE, SAMPLE_FILE])
def test_a_changed_byte_in_any_column_and_a_truncated_footer_are_reported_once(copy, lines, file):
    path = copy.run / file
    whole = path.read_bytes()
    damaged = [whole[:-20], *(flipped(whole, offset) for offset in list(every_page(path))[:4])]
    for content in damaged:
        path.write_bytes(content)
        (line,) = lines()
        assert line.startswith(f"{path}: damaged result file (")


def flipped(content: bytes, offset: int) -> bytes:
    return content[:offset] + bytes([content[offset] ^ 0xFF]) + content[offset + 1 :]


@pytest.mark.parametrize(
    ("file", "column"), [(SCORE_FILE, "score"), (PERFORMANCE_FILE, "miou"), (SAMPLE_FILE, "label")]
)
def test_a_missing_column(copy, lines, file, column):
    write_table(copy.run / file, pq.ParquetFile(copy.run / file).read().drop_columns([column]))
    (line,) = lines()
    assert line.startswith(f"{copy.run / file}: lacks column {column} (")


@pytest.mark.parametrize("kind", ["scores", "performance"])
def test_a_source_on_its_own_dataset(copy, lines, kind):
    file = copy.run / kind / "day_street/day_street.parquet"
    shutil.copy(copy.run / kind / "day_street/cells_dark.parquet", file)
    rewrite(file, lambda rows: [row | {"target": "day_street"} for row in rows])
    (line,) = lines()
    assert line.startswith(f"{file}: pairs source day_street with day_street, the dataset it was trained on; ")


def test_a_file_that_the_study_does_not_name_is_checked_too(copy, lines):
    file = copy.run / "scores/other/cells_dark.parquet"
    file.parent.mkdir()
    shutil.copy(copy.run / SCORE_FILE, file)
    (line,) = lines()
    assert "has a row of day_street -> cells_dark, but its name says other -> cells_dark" in line


def test_weights_that_are_not_those_of_their_card_are_reported_once(copy, lines):
    file = copy.run / "sources/day_street/weights.safetensors"
    file.write_bytes(flipped(file.read_bytes(), -1))
    (line,) = lines()
    assert line.startswith(f"{file}: its contents differ from what {file.parent / FILE_NAME} describes")


def test_hashes_cached_by_earlier_commands_are_not_trusted(copy, lines, invoke, monkeypatch):
    """Not even where all that the file system says of it is the same."""
    for module in (content_key, memo):
        monkeypatch.setattr(module, "version_of", lambda file: "1 1 1 1")
    file = copy.run / "sources/day_street/weights.safetensors"
    assert invoke("plan", *copy.place()).code == 0
    content_key._SHA256_CACHE.clear()
    file.write_bytes(flipped(file.read_bytes(), -1))
    assert json.loads(invoke("plan", *copy.place(), "--json").out)["summary"][0]["stale"] == 0
    content_key._SHA256_CACHE.clear()
    assert len(lines()) == 1
    content_key._SHA256_CACHE.clear()


@pytest.mark.parametrize(
    ("field", "value", "reported"),
    [
        ("source", "dusk_street", "field source is 'dusk_street', but the folder is 'day_street'"),
        ("miou", 1.25, "field miou is 1.25; it must be a fraction in [0, 1]"),
    ],
)
def test_an_impossible_card(copy, lines, field, value, reported):
    file = copy.run / "sources/day_street" / FILE_NAME
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    (line,) = lines()
    assert line.startswith(f"{file}: {reported}")


def test_a_file_that_is_no_card(copy, lines):
    file = copy.run / "sources/day_street" / FILE_NAME
    file.write_text("{")
    assert len(lines()) == 1
    assert lines()[0].startswith(f"{file}: not a readable source card")


def test_missing_weights(copy, lines):
    file = copy.run / "sources/day_street/weights.safetensors"
    file.unlink()
    found = lines()
    assert found[0].startswith(f"{file}: no such checkpoint file")
    assert found[1:] == ["train source day_street: missing (its weights); run seg-transfer train-sources"]


@pytest.mark.parametrize(
    ("file", "reported"),
    [
        (SAMPLE_FILE, "sample sample of cells_dark: missing; run seg-transfer sample"),
        (SCORE_FILE, "score day_street -> cells_dark: missing; run seg-transfer score-pairs"),
        (PERFORMANCE_FILE, "finetune day_street -> cells_dark, seed 0: missing; run seg-transfer finetune-pairs"),
    ],
)
def test_a_missing_item(copy, lines, file, reported):
    (copy.run / file).unlink()
    assert lines() == [reported]


def test_stale_items_are_listed_one_by_one_with_what_changed(copy, lines, invoke):
    copy.change(sampling={"pixels_per_image": 100})
    found = lines()
    assert len(found) == 3 + 6
    assert found[0] == (
        "sample sample of day_street: stale (sampling.pixels_per_image: 200 -> 100); run seg-transfer sample"
    )
    assert json.loads(checked(copy, invoke, "--json").out) == {"problems": found}


def test_a_content_key_that_does_not_match(copy, lines):
    rewrite(copy.run / SCORE_FILE, with_first(content_key="0" * 64))
    (line,) = lines()
    assert line.startswith(
        "score day_street -> cells_dark: stale (its content key, although all its parts are the same"
    )


@pytest.mark.parametrize("folder", ["", "scores/day_street", "sources/day_street"])
def test_left_over_temporary_files(copy, lines, folder):
    file = temporary_path(copy.run / folder / "cells_dark.parquet")
    file.write_bytes(b"half")
    (line,) = lines()
    assert line.startswith(f"{file}: left over from a killed process, or still in use")
    assert file.exists()


def test_a_damaged_feature_file(copy, lines):
    copy.change(keep_features=True)
    copy.done("score-pairs", "--source", "day_street", "--target", "cells_dark")
    file = copy.run / "features/day_street/cells_dark.parquet"
    assert not any(line.startswith(str(file)) for line in lines())
    file.write_bytes(flipped(file.read_bytes(), file.stat().st_size // 2))
    assert any(line.startswith(f"{file}: damaged feature file (") for line in lines())
