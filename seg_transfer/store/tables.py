"""Parquet files of a run folder: schemas, atomic writing, and verified reading."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from seg_transfer import __version__
from seg_transfer.errors import ResultsError
from seg_transfer.store.atomic import replaced_atomically
from seg_transfer.store.content_key import SCHEMA_VERSION

_DESCRIPTIONS = "columns"


def described_schema(columns: Sequence[tuple[str, pa.DataType, str]]) -> pa.Schema:
    """Make a schema whose metadata holds the meaning of every column.

    Args:
        columns: Name, type and meaning of every column.
    """
    fields = [pa.field(name, kind, metadata={"description": text}) for name, kind, text in columns]
    return pa.schema(fields, metadata={_DESCRIPTIONS: json.dumps({name: text for name, _, text in columns})})


_PROVENANCE = [
    ("seconds", pa.float64(), "wall time, seconds"),
    ("content_key", pa.string(), "sha256 over all that decides this row"),
    ("schema_version", pa.int32(), "version of keys and columns"),
    ("seg_transfer_version", pa.string(), "version of the software"),
    ("created_utc", pa.string(), "time of writing, UTC, ISO 8601"),
]

# Class indices: a column that its schema declares as uint8 is uint16 where a dataset has more than 255 classes.
_CLASS_INDEX, _WIDE_CLASS_INDEX = pa.uint8(), pa.uint16()
_MAX_NARROW_INDEX = 255

SAMPLES = described_schema(
    [
        ("image_id", pa.string(), "image path relative to the dataset's root, without suffix"),
        ("row", pa.int32(), "pixel row from the top, 0-based, in the map it was drawn from"),
        ("column", pa.int32(), "pixel column from the left, 0-based, in the map it was drawn from"),
        ("label", _CLASS_INDEX, "class index"),
    ]
)

SCORES = described_schema(
    [
        ("source", pa.string(), "name of the source model"),
        ("target", pa.string(), "name of the target dataset"),
        ("metric", pa.string(), "transferability metric"),
        ("score", pa.float64(), "its score, higher is better; unit of the metric"),
        ("standard_error", pa.float64(), "jackknife over groups of images; null where not estimated"),
        (
            "replicates",
            pa.list_(pa.float64()),
            "the score without each group of images, the same for all sources",
        ),
        (
            "note",
            pa.string(),
            "remark on how the score was computed, such as the number of pixels that a model was fitted on",
        ),
        ("n_observations", pa.int64(), "pixels"),
        ("n_images", pa.int32(), "images of the low-shot train split"),
        ("n_classes", pa.int32(), "target classes among the pixels"),
        ("n_source_classes", pa.int32(), "classes the source scores; 0 for a backbone without a head"),
        *_PROVENANCE,
    ]
)

PERFORMANCE = described_schema(
    [
        ("source", pa.string(), "name of the source model, or scratch"),
        ("target", pa.string(), "name of the target dataset"),
        ("miou", pa.float64(), "mean IoU on the target's eval split after fine-tuning, fraction in [0, 1]"),
        ("class_iou", pa.list_(pa.float64()), "IoU per class of the manifest; null where no label shows the class"),
        ("n_eval_images", pa.int32(), "images evaluated"),
        ("n_train_images", pa.int32(), "images fine-tuned on"),
        ("seed", pa.int64(), "seed of the fine-tuning"),
        ("steps", pa.int64(), "optimization steps"),
        *_PROVENANCE,
    ]
)

_PIXELS_BY_IMAGE = pa.list_(pa.list_(pa.int64()))
RACE = described_schema(
    [
        ("source", pa.string(), "name of the source model"),
        ("target", pa.string(), "name of the target dataset"),
        ("fold", pa.int32(), "which division of the labeled images it is"),
        ("seed", pa.int64(), "seed of the fine-tuning"),
        ("steps", pa.int64(), "optimization steps so far, of a schedule that may be longer"),
        ("miou", pa.float64(), "mean IoU on the held-out images, fraction in [0, 1]"),
        ("n_train_images", pa.int32(), "images fine-tuned on"),
        ("image_id", pa.list_(pa.string()), "the held-out images, without suffix"),
        ("agreed", _PIXELS_BY_IMAGE, "of every image, pixels of every class that label and prediction agree on"),
        ("labeled", _PIXELS_BY_IMAGE, "of every image, pixels of every class in the label map"),
        ("predicted", _PIXELS_BY_IMAGE, "of every image, labeled pixels of every class in the prediction"),
        ("step_seconds", pa.float64(), "wall time of one step, seconds"),
        ("trained_steps", pa.int64(), "steps that this process trained, after those that it resumed from"),
        *_PROVENANCE,
    ]
)

JUDGED_RACES = described_schema(
    [
        ("target", pa.string(), "name of the target dataset"),
        ("source", pa.string(), "name of the source model"),
        ("entry", pa.int32(), "place among the entrants of the race; missing for sources that scores rule out"),
        ("rank", pa.int32(), "rank by the default metric on the images that are not held out"),
        ("steps", pa.int64(), "optimization steps so far"),
        ("of_steps", pa.int64(), "optimization steps of the whole schedule"),
        ("miou", pa.float64(), "mean IoU on the held-out images, fraction in [0, 1]"),
        ("n_held_out", pa.int32(), "held-out images"),
        ("seconds", pa.float64(), "wall time since the judgment before, seconds"),
        ("scoring_seconds", pa.float64(), "wall time of scoring the source, seconds"),
    ]
)

GBC_SETTINGS = described_schema(
    [
        ("source", pa.string(), "name of the source model"),
        ("target", pa.string(), "name of the target dataset"),
        ("covariance", pa.string(), "diagonal, spherical or full"),
        ("n_components", pa.int32(), "dimensions that the PCA keeps; 0 for no PCA"),
        ("score", pa.float64(), "GBC"),
        *_PROVENANCE,
    ]
)

READINGS = described_schema(
    [
        ("source", pa.string(), "name of the source model"),
        ("target", pa.string(), "name of the target dataset"),
        ("reading", pa.string(), "which maps are its features: last, stages, coarse or encoder"),
        ("metric", pa.string(), "name of the metric, or of a variant of GBC"),
        ("score", pa.float64(), "higher is better"),
        ("n_features", pa.int32(), "channels of all maps together"),
        ("n_maps", pa.int32(), "number of maps"),
        ("stride", pa.float64(), "pixels per cell of the finest map"),
        *_PROVENANCE,
    ]
)

STABILITY = described_schema(
    [
        ("n_images", pa.int32(), "images of the target that the ranking was made from"),
        ("seed", pa.int64(), "seed of the pixel sample"),
        ("winner", pa.string(), "the source that was first"),
        ("tau_w_to_full", pa.float64(), "weighted Kendall tau against the ranking from all images"),
        ("n_tied", pa.int32(), "sources tied for first, the winner among them"),
    ]
)


def provenance(seconds: float, content_key: str) -> dict[str, Any]:
    """Return the columns that describe how and when a row of results was computed.

    Args:
        seconds: Wall time, seconds.
        content_key: Content key of the row.
    """
    return {
        "seconds": seconds,
        "content_key": content_key,
        "schema_version": SCHEMA_VERSION,
        "seg_transfer_version": __version__,
        "created_utc": now_utc(),
    }


def scores_file(folder: Path, source: str, target: str) -> Path:
    """Return the path of a pair's scores in a run folder, which have one row per metric."""
    return folder / "scores" / source / f"{target}.parquet"


def performance_file(folder: Path, source: str, target: str) -> Path:
    """Return the path of a pair's actual performance in a run folder, which has one row per fine-tuning seed."""
    return folder / "performance" / source / f"{target}.parquet"


def race_file(folder: Path, source: str, target: str, fold: int) -> Path:
    """Return the path of what a racer reached in a run folder, which has one row per step at which it was measured."""
    return folder / "race" / source / target / f"{fold}.parquet"


def ranking_file(folder: Path) -> Path:
    """Return the path of the ranking of one target's sources in a run folder, a JSON file."""
    return folder / "ranking.json"


def write_rows(
    file: Path, schema: pa.Schema, rows: Sequence[Mapping[str, Any]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write rows as Parquet, atomically and with page checksums; `metadata` is added to that of the schema."""
    write_table(file, pa.Table.from_pylist([dict(row) for row in rows], schema=schema), metadata)


def write_table(file: Path, table: pa.Table, metadata: Mapping[str, str] | None = None) -> None:
    """Write a table as Parquet, atomically and with page checksums; `metadata` is added to that of the schema."""
    described = table.replace_schema_metadata({**(table.schema.metadata or {}), **(metadata or {})})
    with replaced_atomically(file) as temporary:
        pq.write_table(described, temporary, compression="zstd", write_page_checksum=True)


def read_metadata(file: Path, schema: pa.Schema, names: Sequence[str]) -> dict[str, str]:
    """Read metadata entries of a file, "" for missing ones; raises ResultsError if the file is damaged."""
    table = read_table(file, schema) if file.exists() else schema.empty_table()
    return {name: metadata_of(table, name) for name in names}


def metadata_of(table: pa.Table, name: str) -> str:
    """Return an entry of a table's metadata, "" if it is missing."""
    metadata: dict[bytes, bytes] = table.schema.metadata or {}
    return metadata.get(name.encode(), b"").decode(errors="replace")


def read_rows(file: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """Read all rows of a file, [] if it does not exist; raises ResultsError if it is damaged."""
    return list(read_table(file, schema).to_pylist()) if file.exists() else []


def read_table(file: Path, schema: pa.Schema) -> pa.Table:
    """Read a table and verify its page checksums, its columns and their types.

    Raises:
        ResultsError: The file is damaged or lacks a column.
    """
    try:
        # `pq.read_table` takes several times as long for a small file and imports pandas.
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            table = opened.read(use_threads=False)
        types = {field.name: field.type for field in table.schema}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ResultsError(
            f"{file}: damaged result file ({reason}); delete it and run the same command again"
        ) from error
    # Checksums cover the pages, but not the footer that describes the columns.
    missing = [field for field in schema if not _fits(types.get(field.name), field.type)]
    if missing:
        wanted = f"{missing[0].name} ({missing[0].type})"
        raise ResultsError(f"{file}: lacks column {wanted}; delete it and run the same command again")
    return table


def class_index_type(labels: npt.NDArray[np.integer]) -> pa.DataType:
    """Return the type of a column that holds these class indices: uint16 for uint16 or above 255, otherwise uint8.

    Example:
        >>> class_index_type(np.array([0, 255])), class_index_type(np.array([0, 256]))
        (DataType(uint8), DataType(uint16))
    """
    is_wide = labels.dtype == np.uint16 or (len(labels) > 0 and labels.max() > _MAX_NARROW_INDEX)
    return _WIDE_CLASS_INDEX if is_wide else _CLASS_INDEX


def _fits(stored: pa.DataType | None, declared: pa.DataType) -> bool:
    return stored in ((declared, _WIDE_CLASS_INDEX) if declared == _CLASS_INDEX else (declared,))


def now_utc() -> str:
    """Return the current time in UTC as ISO 8601, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
