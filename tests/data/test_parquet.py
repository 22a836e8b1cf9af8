from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from data.parquet_files import HUB_IMAGE, hub_cell, image, label, png, write_columns, write_rows
from PIL import Image
from pydantic import ValidationError

from seg_transfer.data.audit import audit
from seg_transfer.data.images import image_size, read_image, read_label, read_pair
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.record import Columns
from seg_transfer.data.records import find_records, list_records
from seg_transfer.errors import DataError
from seg_transfer.store import content_key
from seg_transfer.store.content_key import manifest_key, records_key

Manifest = Callable[..., DatasetManifest]


def test_each_row_is_a_record_with_its_own_image_and_label_map(tmp_path: Path, table: Path, tables: Manifest) -> None:
    records = list_records(tables(), tmp_path, "train")
    assert [record.image_id for record in records] == [f"data/train/{row:02}" for row in range(12)]
    for row, record in enumerate(records):
        pixels, classes = read_pair(record, tables())
        assert np.array_equal(pixels, image(row))
        assert np.array_equal(classes, label(row))
        assert image_size(record) == (6, 8)


def test_a_table_gives_what_the_same_files_give(tmp_path: Path, table: Path, tables: Manifest, manifest: Any) -> None:
    for row in range(12):
        for kind, pixels in (("images", image(row)), ("labels", label(row))):
            file = tmp_path / f"mini/{kind}/{row:02}.png"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(png(pixels))
    plain = manifest(labels={"encoding": "id"}, train={"images": "images/*", "labels": "labels/*"})
    for own, other in zip(
        list_records(tables(), tmp_path, "train"), list_records(plain, tmp_path, "train"), strict=True
    ):
        assert np.array_equal(read_image(own), read_image(other))
        assert np.array_equal(read_label(own, tables()), read_label(other, plain))
    of_table, of_files = (audit(dataset, tmp_path).splits["train"] for dataset in (tables(), plain))
    assert of_table.class_pixels.tolist() == of_files.class_pixels.tolist()
    assert of_table.color_sums.tolist() == of_files.color_sums.tolist()


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_cells_may_be_plain_bytes(tmp_path: Path, tables: Manifest, kind: pa.DataType) -> None:
    columns = {"photo": pa.array([png(image(0))], kind), "mask": pa.array([png(label(0))], kind)}
    write_columns(tmp_path / "mini/data/a.parquet", columns)
    mine = tables({"image": "photo", "label": "mask"})
    (record,) = list_records(mine, tmp_path, "train")
    assert np.array_equal(read_image(record), image(0))
    assert np.array_equal(read_label(record, mine), label(0))


def test_colors_and_palettes_are_read_from_cells(tmp_path: Path, tables: Manifest) -> None:
    colors = np.array([[9, 8, 7], [1, 2, 3], [4, 5, 6]], np.uint8)
    columns = {name: pa.array([hub_cell(png(colors[label(1)]))], HUB_IMAGE) for name in ("image", "label")}
    write_columns(tmp_path / "mini/data/a.parquet", columns)
    mine = tables(labels={"encoding": "rgb", "colours": colors.tolist()})
    (record,) = list_records(mine, tmp_path, "train")
    assert np.array_equal(read_label(record, mine), label(1))
    with pytest.raises(
        DataError, match=r"a\.parquet, row 0, column label: color \(.*\) at row 0, column 0 is not gray"
    ):
        read_label(record, tables())


def test_several_files_of_a_split_are_read_together(tmp_path: Path, table: Path, tables: Manifest) -> None:
    write_rows(table.with_name("extra.parquet"), [40, 41])
    records = list_records(tables(), tmp_path, "train")
    assert [record.image_id for record in records[:3]] == ["data/extra/0", "data/extra/1", "data/train/00"]
    assert np.array_equal(read_image(records[1]), image(41))


def test_rows_without_a_mask_are_a_problem_or_left_out(tmp_path: Path, tables: Manifest) -> None:
    write_rows(tmp_path / "mini/data/a.parquet", range(12), missing=[6, 8], row_group_size=5)
    _, problems = find_records(tables(), tmp_path, "train")
    assert problems == [
        "mini train: data/a.parquet: 2 of 12 rows, the first of them row 6, are empty in column label; fill them, "
        "or set 'unpaired: ignore' to leave them out"
    ]
    records = list_records(tables(unpaired="ignore"), tmp_path, "train")
    assert [record.row for record in records] == [0, 1, 2, 3, 4, 5, 7, 9, 10, 11]
    assert np.array_equal(read_image(records[6]), image(7))


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"image": "photo", "label": "label"}, "no column 'photo', only image, label, number; correct 'columns'"),
        ({"image": "image", "label": "number"}, "column 'number' holds int64, but images are bytes or .bytes, path."),
    ],
)
def test_a_column_that_holds_no_images_is_named(tmp_path: Path, tables: Manifest, columns: Any, reason: str) -> None:
    cell = pa.array([png(label(0))])
    write_columns(tmp_path / "mini/data/a.parquet", {"image": cell, "label": cell, "number": pa.array([1])})
    with pytest.raises(DataError, match=rf"a\.parquet: {reason}"):
        list_records(tables(columns), tmp_path, "train")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no table at all" * 9])
def test_a_damaged_file_is_one_problem(tmp_path: Path, table: Path, tables: Manifest, content: bytes) -> None:
    table.with_name("b.parquet").write_bytes(content)
    records, problems = find_records(tables(), tmp_path, "train")
    assert len(records) == 12
    (problem,) = problems
    assert "b.parquet: not a readable Parquet file (" in problem
    assert len(problem.splitlines()) == 1


def test_damaged_bytes_in_a_cell_are_named(tmp_path: Path, tables: Manifest) -> None:
    columns = {"image": pa.array([png(image(0))[:60]]), "label": pa.array([b"x"])}
    file = write_columns(tmp_path / "mini/data/a.parquet", columns)
    leak, *damaged = audit(tables(), tmp_path).problems
    assert "also in eval" in leak
    assert [problem.split(" (")[0] for problem in damaged] == [
        f"{file}, row 0, column {name}: cannot be decoded" for name in ("image", "label")
    ]


def test_rows_of_one_table_in_two_splits_are_told_apart(tmp_path: Path, tables: Manifest) -> None:
    write_rows(tmp_path / "mini/data/a.parquet", range(3))
    write_rows(tmp_path / "mini/test/b.parquet", range(4, 6))
    test = {"images": "test/*.parquet", "labels": "test/*.parquet"}
    apart = DatasetManifest.model_validate(tables().model_dump() | {"eval": test})
    assert audit(apart, tmp_path).problems == ()
    assert len(audit(tables(), tmp_path).problems) == 3


def test_sizes_that_differ_name_the_row(tmp_path: Path, tables: Manifest) -> None:
    columns = {"image": pa.array([png(image(0))]), "label": pa.array([png(label(0)[:, :5])])}
    write_columns(tmp_path / "mini/data/a.parquet", columns)
    (record,) = list_records(tables(), tmp_path, "train")
    with pytest.raises(DataError, match=r"row 0, column label: 6 x 5 .*, but its image .*row 0, column image is 6 x 8"):
        read_pair(record, tables())


def test_images_and_labels_must_be_the_same_tables(tmp_path: Path, table: Path, tables: Manifest) -> None:
    write_rows(table.with_name("b.parquet"), range(2))
    with pytest.raises(DataError, match=r"data/b\.parquet is among images or labels, but not both"):
        list_records(tables(labels_of_split="data/train.parquet"), tmp_path, "train")


def test_the_content_key_depends_on_bytes_rows_and_columns(
    tmp_path: Path, table: Path, tables: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    original = content_key._sha256_of_file
    monkeypatch.setattr(content_key, "_sha256_of_file", lambda file: hashed.append(file) or original(file))
    records = list_records(tables(), tmp_path, "train")
    first = records_key(records, trust_mtime=False)
    assert hashed == [table]
    assert first == records_key(list_records(tables(), tmp_path, "train"), trust_mtime=False)
    assert first != records_key(records[:-1], trust_mtime=False)
    assert first != records_key([records[1], *records[1:]], trust_mtime=False)
    write_rows(table, range(1, 13), row_group_size=5)
    assert first != records_key(records, trust_mtime=False)
    assert manifest_key(tables()) != manifest_key(tables({"image": "label", "label": "image"}))


def test_a_manifest_without_columns_has_the_dump_that_it_had(manifest: Manifest) -> None:
    assert "columns" not in manifest().model_dump()
    assert "unpaired" not in manifest().model_dump()["train"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": {"encoding": "mat", "variable": "x"}}, "'columns' need label maps that are images, but labels.enc"),
        ({"pairing": {"image": "(.)", "label": "(.)"}}, "with 'columns', files pair by themselves; remove"),
        ({"eval": {"lists": "list.txt"}}, "with 'columns', files pair by themselves; remove"),
    ],
)
def test_rules_that_would_have_no_effect_are_refused(manifest: Manifest, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        manifest(columns=Columns(image="a", label="b").model_dump(), **changes)


def test_a_jpeg_in_a_cell_is_read_as_a_file(tmp_path: Path, tables: Manifest) -> None:
    Image.fromarray(image(3)).save(tmp_path / "x.jpg")
    columns = {"image": pa.array([(tmp_path / "x.jpg").read_bytes()]), "label": pa.array([png(label(3))])}
    write_columns(tmp_path / "mini/data/a.parquet", columns)
    (record,) = list_records(tables(), tmp_path, "train")
    assert np.array_equal(read_image(record), np.asarray(Image.open(tmp_path / "x.jpg")))


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_orientation_bands_and_range_apply_to_cells_as_to_files(
    tmp_path: Path, tables: Manifest, manifest: Any, suffix: str
) -> None:
    deep = np.random.default_rng(5).integers(0, 4096, (6, 8), dtype=np.uint16)
    options: Any = {"exif": Image.Exif()}
    options["exif"][274] = 6
    for folder in ("images", "labels"):
        (tmp_path / "mini" / folder).mkdir(parents=True)
    file = tmp_path / f"mini/images/0.{suffix}"
    Image.fromarray(deep).save(file, **options)
    (tmp_path / "mini/labels/0.png").write_bytes(png(label(0)))
    columns = {"image": pa.array([file.read_bytes()]), "label": pa.array([png(label(0))])}
    write_columns(tmp_path / "mini/data/a.parquet", columns)
    reading = {"exif": "apply", "range": [0, 4095]}
    of_files = manifest(images=reading, train={"images": "images/*", "labels": "labels/*"})
    of_table = DatasetManifest.model_validate(tables().model_dump() | {"images": reading})
    (own,), (other,) = (list_records(dataset, tmp_path, "train") for dataset in (of_table, of_files))
    assert image_size(own) == image_size(other) == (8, 6)
    assert np.array_equal(read_image(own), read_image(other))
    assert np.array_equal(read_image(own)[..., 0], np.rot90(np.floor(deep / 4095 * 255 + 0.5), -1))
