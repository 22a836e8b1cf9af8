import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.label_images import record_of
from scipy.io import savemat

from seg_transfer.data.encodings import mat
from seg_transfer.data.encodings.mat import read_matrix
from seg_transfer.data.images import read_label
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.errors import DataError

RAMP = np.array([[0, 1, 2, 459], [300, 0, 7, 2], [1, 1, 1, 256]])


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f8"])
@pytest.mark.parametrize("options", [{}, {"do_compression": True}])
def test_integers_of_any_type_are_read_row_by_row(tmp_path: Path, dtype: str, options: dict[str, object]) -> None:
    wanted = RAMP % 200
    savemat(tmp_path / "a.mat", {"other": np.ones((2, 2)), "LabelMap": wanted.astype(dtype)}, **options)
    found = read_matrix(tmp_path / "a.mat", "LabelMap")
    assert found.dtype == np.int64
    assert found.tolist() == wanted.tolist()


def test_a_manifest_names_the_variable(tmp_path: Path, manifest: Callable[..., DatasetManifest]) -> None:
    savemat(tmp_path / "a.mat", {"LabelMap": RAMP.astype(np.uint16)})
    labels = {"encoding": "mat", "variable": "LabelMap", "map": {0: 0, 1: 1, 300: 1, 459: 2, 7: 2}, "ignore": [2]}
    lenient = manifest(labels=labels | {"unlisted": "ignore"})
    assert read_label(record_of(tmp_path / "a.mat"), lenient).tolist() == [
        [0, 1, 255, 2],
        [1, 0, 2, 255],
        [1, 1, 1, 255],
    ]
    with pytest.raises(DataError, match=r"a\.mat: value 256 at row 2, column 3 is not in the label map of mini"):
        read_label(record_of(tmp_path / "a.mat"), manifest(labels=labels))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"Map": RAMP}, "has no variable named 'LabelMap'"),
        ({"LabelMap": np.zeros((2, 3, 4))}, "is an array of 2 x 3 x 4, which cannot be a label map"),
        ({"LabelMap": np.zeros((0, 3))}, "is an array of 0 x 3, which cannot be a label map"),
        ({"LabelMap": RAMP + 0.5}, "holds float64 values, not integers; name another variable"),
        ({"LabelMap": RAMP * np.nan}, "holds float64 values, not integers"),
        ({"LabelMap": RAMP * 1j}, "holds complex values, not integers"),
        ({"LabelMap": np.array([["a", 1]], object)}, "is an array of 1 x 2, which cannot be a label map"),
        ({"LabelMap": {"nested": RAMP}}, "is an array of 1 x 1, which cannot be a label map"),
        ({"LabelMap": "text"}, "which cannot be a label map"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: dict[str, object], message: str) -> None:
    savemat(tmp_path / "a.mat", content)
    with pytest.raises(DataError) as caught:
        read_matrix(tmp_path / "a.mat", "LabelMap")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_matrix_larger_than_any_image_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    savemat(tmp_path / "a.mat", {"LabelMap": np.zeros((40, 50), np.uint8)}, do_compression=True)
    monkeypatch.setattr(mat.Image, "MAX_IMAGE_PIXELS", 999)  # a file may hold twice that
    with pytest.raises(DataError, match="is an array of 40 x 50"):
        read_matrix(tmp_path / "a.mat", "LabelMap")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.mat: the file does not exist"):
        read_matrix(tmp_path / "none.mat", "LabelMap")


def test_every_damage_is_one_line(tmp_path: Path) -> None:
    """Cut at any place and with any bytes overwritten, a file gives a matrix or a DataError, never another error."""
    savemat(tmp_path / "a.mat", {"LabelMap": RAMP.astype(np.uint16)}, do_compression=True)
    savemat(tmp_path / "b.mat", {"LabelMap": RAMP.astype(np.uint16)})
    generator = np.random.default_rng(3)
    refused = []
    for name in ("a.mat", "b.mat"):
        whole = (tmp_path / name).read_bytes()
        cut = [whole[:length] for length in range(0, len(whole), 7)]
        for _ in range(300):
            spoilt = bytearray(whole)
            for place in generator.integers(0, len(whole), 4):
                spoilt[place] = generator.integers(0, 256)
            cut.append(bytes(spoilt))
        for content in cut:
            (tmp_path / "bad.mat").write_bytes(content)
            try:
                read_matrix(tmp_path / "bad.mat", "LabelMap")
            except DataError as error:
                refused.append(str(error))
    assert len(refused) > 100
    assert all(line.startswith(f"{tmp_path / 'bad.mat'}: ") and "\n" not in line for line in refused)


def test_changed_compressed_bytes_are_detected(tmp_path: Path) -> None:
    """The checksum at their end tells; without it a flipped bit would be another class."""
    matrix = np.random.default_rng(0).integers(0, 460, (30, 40), np.uint16)
    savemat(tmp_path / "a.mat", {"LabelMap": matrix}, do_compression=True)
    whole = (tmp_path / "a.mat").read_bytes()
    for place in range(200, len(whole), 53):
        spoilt = bytearray(whole)
        spoilt[place] ^= 4
        (tmp_path / "bad.mat").write_bytes(spoilt)
        with pytest.raises(DataError, match=r"bad\.mat"):
            read_matrix(tmp_path / "bad.mat", "LabelMap")


@pytest.mark.parametrize("options", [{}, {"do_compression": True}])
def test_preceding_variables_and_the_other_byte_order(tmp_path: Path, options: dict[str, bool]) -> None:
    others = {"text": "abc", "cell": np.array([["a", 1]], object), "big": np.arange(900.0), "n": 3}
    savemat(tmp_path / "a.mat", {**others, "LabelMap": RAMP.astype(np.int32)}, **options)
    assert read_matrix(tmp_path / "a.mat", "LabelMap").tolist() == RAMP.tolist()
    assert read_matrix(tmp_path / "a.mat", "n").tolist() == [[3]]
    (tmp_path / "big_endian.mat").write_bytes(big_endian(RAMP))
    assert read_matrix(tmp_path / "big_endian.mat", "LabelMap").tolist() == RAMP.tolist()


def big_endian(matrix: np.ndarray[Any, Any]) -> bytes:
    """A file as MATLAB wrote it on other machines, put together by hand."""
    numbers = matrix.astype(">u2").tobytes(order="F")
    flags = struct.pack(">IIII", 6, 8, 11, 0)
    shape = struct.pack(">IIii", 5, 8, *matrix.shape)
    name = struct.pack(">II", 1, 8) + b"LabelMap"
    body = flags + shape + name + struct.pack(">II", 4, len(numbers)) + numbers + bytes(-len(numbers) % 8)
    return b"MATLAB".ljust(124) + struct.pack(">H", 0x0100) + b"MI" + struct.pack(">II", 14, len(body)) + body


def test_other_versions_are_named(tmp_path: Path) -> None:
    savemat(tmp_path / "v4.mat", {"LabelMap": RAMP}, format="4")
    newer = bytearray(big_endian(RAMP))
    newer[124:126] = b"\x02\x00"
    (tmp_path / "v73.mat").write_bytes(newer)
    for name in ("v4.mat", "v73.mat"):
        with pytest.raises(DataError, match=r"not of version 5 to 7\.2; in MATLAB, save it with -v7"):
            read_matrix(tmp_path / name, "LabelMap")
