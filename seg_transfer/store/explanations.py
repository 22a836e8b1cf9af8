"""Explanations of pairs in a run folder: overlap of the target's classes in a source, and maps of its pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seg_transfer import __version__
from seg_transfer.metrics import ClassOverlaps
from seg_transfer.store.content_key import settings_key
from seg_transfer.store.tables import described_schema, metadata_of, now_utc, read_table, write_table

if TYPE_CHECKING:
    import pandas as pd

OVERLAPS = described_schema(
    [
        ("class_a", pa.int32(), "index of a class of the target"),
        ("class_b", pa.int32(), "index of another class, above class_a: every two classes that were sampled, once"),
        (
            "overlap",
            pa.float64(),
            "Bhattacharyya coefficient exp(-D_B) of the two, in [0, 1]; GBC is minus twice the sum",
        ),
    ]
)
CLASSES = described_schema(
    [
        ("class_index", pa.int32(), "index of a class in the target's manifest"),
        ("name", pa.string(), "its name"),
        ("n_pixels", pa.int64(), "pixels of the sample that show it"),
    ]
)
MAP = described_schema(
    [
        ("x", pa.float64(), "first coordinate; of a PCA in units of the features, of a UMAP without unit"),
        ("y", pa.float64(), "second coordinate, in the same unit"),
        ("label", pa.int32(), "class index"),
        ("image_index", pa.int32(), "which image of the target's low-shot split, as its pixel sample numbers them"),
    ]
)
SCHEMAS = {"overlaps": OVERLAPS, "classes": CLASSES, "map": MAP, "map_fine_tuned": MAP}
_OPTIONAL = "map_fine_tuned"
_KEY, _SETTINGS, _ABOUT = "content_key", "settings_key", "about"


def explanation_file(folder: Path, source: str, target: str, name: str) -> Path:
    """Return the path of a file of a pair's explanation; ``name`` is a key of SCHEMAS."""
    return folder / "explanations" / source / target / f"{name}.parquet"


def is_explained(file: Path, key: str) -> bool:
    """Whether a file of an explanation exists and has this content key; raises ResultsError if it is damaged."""
    return file.exists() and metadata_of(read_table(file, SCHEMAS[file.stem]), _KEY) == key


def write_explanation(
    file: Path, columns: Sequence[Any], key: str, origin: Mapping[str, str], about: Mapping[str, Any]
) -> None:
    """Write a file of an explanation.

    Args:
        file: The file, from `explanation_file`.
        columns: Its columns, in the order of its schema.
        key: Its content key.
        origin: Further metadata about the file's origin.
        about: Facts for readers, which `read_explanation` returns as the ``attrs`` of the frame.
    """
    schema = SCHEMAS[file.stem]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    described = {_KEY: key, _ABOUT: json.dumps(dict(about)), "seg_transfer_version": __version__}
    metadata = {**origin, **described, "created_utc": now_utc()}
    write_table(file, pa.Table.from_arrays(arrays, schema=schema), metadata)


def overlap_columns(overlaps: ClassOverlaps) -> list[npt.NDArray[Any]]:
    """Return the columns of OVERLAPS, in which each pair of different classes appears once."""
    first, second = np.triu_indices(len(overlaps.classes), 1)
    return [overlaps.classes[first], overlaps.classes[second], overlaps.overlaps[first, second]]


def overlaps_of(frames: Mapping[str, pd.DataFrame]) -> ClassOverlaps:
    """Return the overlaps in the frames of an explanation."""
    sampled = frames["classes"][frames["classes"]["n_pixels"] > 0]
    classes = sampled["class_index"].to_numpy()
    position = {label: index for index, label in enumerate(classes.tolist())}
    matrix, pairs = np.eye(len(classes)), frames["overlaps"]
    for first, second, overlap in zip(pairs["class_a"], pairs["class_b"], pairs["overlap"], strict=True):
        matrix[position[first], position[second]] = matrix[position[second], position[first]] = overlap
    return ClassOverlaps(classes, sampled["n_pixels"].to_numpy(dtype=np.int64), matrix)


def read_explanation(
    folder: Path, source: str, target: str, *, resolved: Mapping[str, Any] | None = None
) -> dict[str, pd.DataFrame] | None:
    """Read the explanation of a pair from a run folder.

    Args:
        folder: The run folder.
        source: Name of the source.
        target: Name of the target.
        resolved: The resolved study of the folder; if given, an explanation of other settings is ignored.

    Returns:
        None if the pair has no explanation. Otherwise frames "overlaps", "classes", "map" and, if fine-tuned weights
        were kept, "map_fine_tuned", with the columns of SCHEMAS. Maps have ``attrs``: method ("pca" or "umap"),
        explained (shares of the variance along x and y, in [0, 1]; None for UMAP), n_observations (the map shows a
        subset of them), and for "map_fine_tuned" the seed.

    Raises:
        ResultsError: A file is damaged.
    """
    optional_frames = {
        name: _read(explanation_file(folder, source, target, name), target, resolved) for name in SCHEMAS
    }
    frames = {name: frame for name, frame in optional_frames.items() if frame is not None}
    return frames if {*SCHEMAS} - {_OPTIONAL} <= frames.keys() else None


def _read(file: Path, target: str, resolved: Mapping[str, Any] | None) -> pd.DataFrame | None:
    if not file.exists():
        return None
    table = read_table(file, SCHEMAS[file.stem])
    if resolved is not None and metadata_of(table, _SETTINGS) != settings_key("scores", resolved, target):
        return None
    frame: pd.DataFrame = table.to_pandas()
    frame.attrs = json.loads(metadata_of(table, _ABOUT))
    return frame
