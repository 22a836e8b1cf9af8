"""Two folders as a dataset: classes, encodings and sizes are detected, problems are reported."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_transfer.data.folders import MAX_SHORT_SIDE, manifest_of_folders
from seg_transfer.data.images import read_label
from seg_transfer.data.records import list_records
from seg_transfer.errors import ConfigError, DataError


def folders(
    place: Path, labels: list[np.ndarray], mode: str = "L", size: tuple[int, int] = (6, 8)
) -> tuple[Path, Path]:
    """Images of random pixels in sub-folders, and label maps beside them."""
    rng, images = np.random.default_rng(0), place / "city [new]" / "images"
    for number, label in enumerate(labels):
        image = images / f"part{number % 2}" / f"{number}.jpg"
        map_ = place / "masks" / f"{number}.png"
        for file in (image, map_):
            file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8)).save(image)
        written = Image.fromarray(label)
        if mode == "P":
            written.putpalette(rng.integers(0, 255, 768, np.uint8).tobytes())
        written.save(map_)
    return [images, place / "masks"]


def maps(*values: int, dtype: type = np.uint8) -> list[np.ndarray]:
    """Three label maps that hold these values, the rarest in the last one alone."""
    common = np.full((6, 8), values[0], dtype)
    common[2, :3] = values[1]
    last = common.copy()
    last[5, 5] = values[-1]
    return [common, common.T.reshape(6, 8), last]


def test_every_value_that_occurs_is_a_class(tmp_path):
    manifest, root = manifest_of_folders(*folders(tmp_path, maps(7, 0, 255, 30)))
    assert manifest.classes == ("class_0", "class_7", "class_30")
    assert manifest.name == "city_new"
    assert manifest.crop_size == (6, 6)
    records = list_records(manifest, root, "train")
    assert [record.image.name for record in records] == ["0.jpg", "2.jpg", "1.jpg"]
    assert read_label(records[1], manifest)[5, 5] == 2
    assert root == tmp_path


def test_names_decide_the_classes_and_empty_lines_ignore(tmp_path):
    (tmp_path / "names.txt").write_text("road\n\nsky \n")
    images, labels = folders(tmp_path, maps(0, 1, 2))
    manifest, root = manifest_of_folders(images, labels, tmp_path / "names.txt")
    assert manifest.classes == ("road", "sky")
    record = list_records(manifest, root, "train")[1]
    assert np.unique(read_label(record, manifest)).tolist() == [0, 1, 255]


def test_a_value_beyond_the_names_is_an_error_where_it_is_read(tmp_path):
    (tmp_path / "names.txt").write_text("road\nsky\n")
    images, labels = folders(tmp_path, maps(0, 1, 9))
    manifest, root = manifest_of_folders(images, labels, tmp_path / "names.txt")
    with pytest.raises(DataError, match="value 9 at row 5, column 5"):
        [read_label(record, manifest) for record in list_records(manifest, root, "train")]


@pytest.mark.parametrize(("mode", "dtype", "values"), [("P", np.uint8, (1, 3)), ("L", np.uint16, (1000, 3))])
def test_palettes_and_sixteen_bits_are_read(tmp_path, mode, dtype, values):
    manifest, root = manifest_of_folders(*folders(tmp_path, maps(*values, dtype=dtype), mode))
    assert manifest.classes == tuple(f"class_{value}" for value in sorted(values))
    read_label(list_records(manifest, root, "train")[0], manifest)


def test_large_images_are_reduced(tmp_path):
    manifest, _ = manifest_of_folders(*folders(tmp_path, maps(0, 1), size=(700, 900)))
    assert manifest.crop_size == (MAX_SHORT_SIDE, MAX_SHORT_SIDE)


def test_hidden_files_are_ignored(tmp_path):
    images, labels = folders(tmp_path, maps(0, 1))
    (images / ".DS_Store").write_bytes(b"x")
    manifest, root = manifest_of_folders(images, labels)
    assert len(list_records(manifest, root, "train")) == 3


def test_a_missing_eval_split_is_an_error_where_it_is_needed(tmp_path):
    manifest, root = manifest_of_folders(*folders(tmp_path, maps(0, 1)))
    with pytest.raises(ConfigError, match="manifest city_new: field eval is missing; name the images"):
        list_records(manifest, root, "eval")


def test_colors_are_refused_with_advice(tmp_path):
    colors = [np.zeros((6, 8, 3), np.uint8)] * 3
    with pytest.raises(ConfigError, match=r"0\.png: labels are colors; write a manifest with labels.encoding: rgb"):
        manifest_of_folders(*folders(tmp_path, colors))


def test_one_class_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="masks: 1 classes, but 2 to 4096 are allowed"):
        manifest_of_folders(*folders(tmp_path, maps(4, 255)))


@pytest.mark.parametrize("missing", ["images", "labels"])
def test_a_missing_folder_is_named(tmp_path, missing):
    images, labels = folders(tmp_path, maps(0, 1))
    given = {"images": images, "labels": labels} | {missing: tmp_path / "nowhere"}
    with pytest.raises(DataError, match="nowhere: no such folder, or no file in it"):
        manifest_of_folders(**given)


def test_names_that_cannot_be_read_are_named(tmp_path):
    images, labels = folders(tmp_path, maps(0, 1))
    with pytest.raises(ConfigError, match=r"none\.txt: cannot be read as text"):
        manifest_of_folders(images, labels, tmp_path / "none.txt")
