"""Which columns of a table hold images, and which of them the label maps."""

from pathlib import Path

import pyarrow as pa
import pytest
from data.parquet_files import HUB_FEATURES, HUB_IMAGE, hub_cell, image, label, png, write_columns

from seg_transfer.data.inspection.containers import ImageColumns, image_columns
from seg_transfer.errors import DataError

PICTURES = pa.array([hub_cell(png(image(0)))], HUB_IMAGE)
PLAIN = pa.array([png(label(0))])


def columns_of(tmp_path: Path, *names: str) -> ImageColumns:
    return image_columns(write_columns(tmp_path / "a.parquet", dict.fromkeys(names, PICTURES)))


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("image", "label"), ("image", "label")),
        (("label", "image"), ("image", "label")),
        (("pixel_values", "segmentation_mask"), ("pixel_values", "segmentation_mask")),
        (("image", "semanticMask", "depth"), ("image", "semanticMask")),
        (("Image", "GT"), ("Image", "GT")),
        (("image", "image_mask"), ("image", "image_mask")),
    ],
)
def test_names_tell_label_maps_from_images(tmp_path: Path, names: tuple[str, ...], chosen: tuple[str, str]) -> None:
    found = columns_of(tmp_path, *names)
    assert found.found == names
    assert (found.image, found.label) == chosen
    assert found.candidates == (chosen,)


@pytest.mark.parametrize(
    ("names", "candidates"),
    [
        (("a", "b"), (("a", "b"), ("b", "a"))),
        (("image", "depth"), (("image", "depth"),)),
        (("image", "annotation", "instance_mask"), (("image", "annotation"), ("image", "instance_mask"))),
        (("left", "right", "mask"), (("left", "mask"), ("right", "mask"))),
        (("image",), ()),
    ],
)
def test_names_that_leave_it_open_give_candidates(tmp_path: Path, names: tuple[str, ...], candidates: object) -> None:
    found = columns_of(tmp_path, *names)
    assert (found.image, found.label) == (None, None)
    assert found.candidates == candidates


def test_without_metadata_the_first_cell_decides(tmp_path: Path) -> None:
    empty, sound = pa.array([None, hub_cell(b"RIFF....WAVE")], HUB_IMAGE), pa.array([b"no image", PLAIN[0].as_py()])
    columns = {
        "image": pa.array([None, PLAIN[0].as_py()]),
        "sound": empty,
        "text": sound,
        "mask": pa.array([hub_cell(png(label(1)))] * 2, HUB_IMAGE),
        "nothing": pa.array([None, None], HUB_IMAGE),
        "number": pa.array([1, 2]),
    }
    assert image_columns(write_columns(tmp_path / "a.parquet", columns)).found == ("image", "mask")


def test_metadata_of_a_hub_decide_before_cells(tmp_path: Path) -> None:
    features = HUB_FEATURES | {"sound": {"_type": "Audio"}}
    columns = {"image": pa.array([None], HUB_IMAGE), "label": PICTURES, "sound": PICTURES}
    found = image_columns(write_columns(tmp_path / "a.parquet", columns, features))
    assert found.found == ("image", "label")
    assert (found.image, found.label) == ("image", "label")


def test_class_names_are_those_of_the_hub(tmp_path: Path) -> None:
    classes = {"_type": "ClassLabel", "names": ["sky", "road"]}
    features = HUB_FEATURES | {"scene": classes, "objects": [classes], "parts": {"feature": classes, "_type": "List"}}
    names = {name: pa.array([1]) for name in ("scene", "objects", "parts", "other")}
    columns = {"image": PICTURES, "label": PICTURES, **names}
    found = image_columns(write_columns(tmp_path / "a.parquet", columns, features))
    assert found.class_names == dict.fromkeys(("scene", "objects", "parts"), ("sky", "road"))


@pytest.mark.parametrize("features", [3, [], {"image": 3, "label": None}, {"x": {"_type": "ClassLabel", "names": [1]}}])
def test_strange_metadata_count_as_none(tmp_path: Path, features: object) -> None:
    found = image_columns(write_columns(tmp_path / "a.parquet", {"image": PICTURES, "label": PLAIN}, features))
    assert (found.image, found.label, found.class_names) == ("image", "label", {})


def test_an_empty_table_has_no_image_columns(tmp_path: Path) -> None:
    file = write_columns(tmp_path / "a.parquet", {"image": pa.array([], HUB_IMAGE)})
    assert image_columns(file).found == ()


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"a\.parquet: not a readable Parquet file"):
        image_columns(tmp_path / "a.parquet")
