"""Explanations on disk: read back exactly, and complete or absent."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from seg_transfer.errors import ResultsError
from seg_transfer.metrics import class_overlaps
from seg_transfer.store.content_key import settings_key
from seg_transfer.store.explanations import (
    SCHEMAS,
    explanation_file,
    is_explained,
    overlap_columns,
    overlaps_of,
    read_explanation,
    write_explanation,
)

RESOLVED = {"study": {"normalisation": "model"}, "manifests": {"target": {"classes": ["a", "b", "c", "d"]}}}
ORIGIN = {"settings_key": settings_key("scores", RESOLVED, "target"), "source": "source", "target": "target"}


@pytest.fixture
def overlaps():
    """Of the classes 0, 2 and 3 of four: correlated, unbalanced, off-center."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 3, 2], [50, 9, 200])
    features = 7 + rng.normal(size=(259, 5)) @ rng.normal(size=(5, 5)) + rng.normal(size=(4, 5))[labels]
    return class_overlaps(features, labels)


@pytest.fixture
def folder(tmp_path, overlaps):
    columns = {
        "overlaps": overlap_columns(overlaps),
        "classes": [range(4), list("abcd"), [50, 0, 200, 9]],
        "map": [[0.5, -1.0], [2.0, 3.0], [0, 3], [0, 11]],
    }
    for name, of_file in columns.items():
        file = explanation_file(tmp_path, "source", "target", name)
        write_explanation(file, of_file, f"key of {name}", ORIGIN, {"about": name, "none": None})
    return tmp_path


def test_overlaps_come_back_to_the_last_digit(folder, overlaps):
    found = overlaps_of(read_explanation(folder, "source", "target"))
    np.testing.assert_array_equal(found.overlaps, overlaps.overlaps)
    np.testing.assert_array_equal(found.classes, overlaps.classes)
    np.testing.assert_array_equal(found.counts, overlaps.counts)
    assert found.gbc == overlaps.gbc


def test_frames_have_their_columns_and_attributes(folder):
    frames = read_explanation(folder, "source", "target")
    assert list(frames) == ["overlaps", "classes", "map"]
    for name, frame in frames.items():
        assert list(frame) == SCHEMAS[name].names
        assert frame.attrs == {"about": name, "none": None}
    assert frames["map"].to_numpy().tolist() == [[0.5, 2, 0, 0], [-1, 3, 3, 11]]


def test_a_file_is_valid_only_under_its_key(folder):
    file = explanation_file(folder, "source", "target", "map")
    assert is_explained(file, "key of map")
    assert not is_explained(file, "key of overlaps")
    file.unlink()
    assert not is_explained(file, "key of map")


@pytest.mark.parametrize("name", ["overlaps", "classes", "map"])
def test_an_incomplete_explanation_is_none(folder, name):
    explanation_file(folder, "source", "target", name).unlink()
    assert read_explanation(folder, "source", "target") is None
    assert read_explanation(folder, "other", "target") is None


def test_an_explanation_of_other_settings_is_ignored_on_request(folder):
    changed = RESOLVED | {"study": {"normalisation": "target"}}
    assert read_explanation(folder, "source", "target", resolved=RESOLVED) is not None
    assert read_explanation(folder, "source", "target", resolved=changed) is None
    assert read_explanation(folder, "source", "target") is not None


@pytest.mark.parametrize("name", ["overlaps", "classes", "map"])
def test_a_changed_byte_in_a_page_is_found(folder, name):
    file = explanation_file(folder, "source", "target", name)
    chunk = pq.ParquetFile(file).metadata.row_group(0).column(0)
    content = bytearray(file.read_bytes())
    content[(chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size - 1] ^= 0xFF
    file.write_bytes(content)
    for read in (lambda: read_explanation(folder, "source", "target"), lambda: is_explained(file, "key")):
        with pytest.raises(ResultsError, match=f"{name}.parquet: damaged result file"):
            read()
