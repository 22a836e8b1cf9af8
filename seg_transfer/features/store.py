"""The feature store: a pair's observations in Parquet, float16, one row group per image."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from seg_transfer.errors import ResultsError
from seg_transfer.observations import Observations
from seg_transfer.store.atomic import replaced_atomically
from seg_transfer.store.tables import class_index_type

_KEY = b"content_key"
# Set in the first row of each image, and null in the others.
_EMBEDDING = "image_embedding"
# Absent for a backbone, which has no classes.
_PROBABILITIES = "source_probs"


def to_float16(observations: Observations) -> Observations:
    """Round features, probabilities and embeddings to float16, as the feature store does.

    Raises:
        ResultsError: A feature is beyond float16's range of 65504.
    """
    with np.errstate(over="ignore"):
        features = _require(observations.features).astype(np.float16)
        embeddings = _require(observations.image_embeddings).astype(np.float16)
    if not (np.isfinite(features).all() and np.isfinite(embeddings).all()):
        raise ResultsError("a feature exceeds 65504, the range of float16; score this study with keep_features: false")
    probabilities = observations.source_probs
    probabilities = None if probabilities is None else probabilities.astype(np.float16)
    return Observations(features, observations.labels, probabilities, observations.image_index, embeddings)


def write_features(file: Path, observations: Observations, content_key: str) -> None:
    """Store observations atomically.

    Args:
        file: Parquet file, replaced if it exists.
        observations: What `to_float16` returned, with the pixels of each image together and images in ascending order.
        content_key: Key of everything that decides the observations.

    Raises:
        ResultsError: The observations have no features, image index or embeddings.
    """
    features, probabilities = _require(observations.features), observations.source_probs
    image_index, embeddings = _require(observations.image_index), _require(observations.image_embeddings)
    schema = pa.schema(
        [
            pa.field("image_index", pa.int32()),
            pa.field("label", class_index_type(observations.labels)),
            pa.field("features", pa.binary(2 * features.shape[1])),
            *([] if probabilities is None else [pa.field(_PROBABILITIES, pa.binary(2 * probabilities.shape[1]))]),
            pa.field(_EMBEDDING, pa.binary(2 * embeddings.shape[1])),
        ],
        metadata={_KEY: content_key.encode()},
    )
    bounds = np.flatnonzero(np.diff(image_index, prepend=-1, append=-1))
    # Plain bytes: dictionaries and statistics of feature vectors take ten times as long to write and are useless.
    options = {"use_dictionary": False, "write_statistics": False, "compression": "none", "write_page_checksum": True}
    with replaced_atomically(file) as temporary, pq.ParquetWriter(temporary, schema, **options) as writer:
        for embedding, (start, end) in zip(embeddings, itertools.pairwise(bounds), strict=True):
            columns = [
                pa.array(image_index[start:end], pa.int32()),
                pa.array(observations.labels[start:end], schema.field("label").type),
                _as_binary(features[start:end]),
                *([] if probabilities is None else [_as_binary(probabilities[start:end])]),
                pa.array([embedding.tobytes(), *[None] * (end - start - 1)], schema.field(_EMBEDDING).type),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def read_features(file: Path, content_key: str) -> Observations | None:
    """Read stored observations.

    Args:
        file: A file that `write_features` wrote.
        content_key: The key that the observations must have.

    Returns:
        The observations in float16; None if there is no file, or its key differs.

    Raises:
        ResultsError: The file is damaged.
    """
    if not file.exists():
        return None
    try:
        schema = pq.read_schema(file)
        if (schema.metadata or {}).get(_KEY) != content_key.encode():
            return None
        table = pq.read_table(file, page_checksum_verification=True, partitioning=None)
        columns = {name: table[name] for name in ("features", "label", "image_index", _EMBEDDING)}
        # Otherwise a damaged name of this column would pass for its absence.
        has_probabilities = set(table.column_names) != set(columns)
        probabilities = table[_PROBABILITIES] if has_probabilities else None
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ResultsError(f"{file}: damaged feature file ({reason}); delete it and run the command again") from error
    return Observations(
        features=_as_float16(columns["features"]),
        labels=columns["label"].to_numpy(),
        source_probs=None if probabilities is None else _as_float16(probabilities),
        image_index=columns["image_index"].to_numpy(),
        image_embeddings=_as_float16(columns[_EMBEDDING].drop_null()),
    )


def _require(array: npt.NDArray[np.generic] | None) -> npt.NDArray[np.generic]:
    if array is None:
        raise ResultsError("the feature store needs observations with features, image index and embeddings")
    return array


def _as_binary(rows: npt.NDArray[np.generic]) -> pa.Array:
    width = rows.shape[1] * rows.itemsize
    buffer = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.Array.from_buffers(pa.binary(width), len(rows), [None, buffer])


def _as_float16(column: pa.ChunkedArray) -> npt.NDArray[np.float16]:
    combined = column.combine_chunks()
    width = combined.type.byte_width
    data = np.frombuffer(combined.buffers()[1], np.float16, count=len(combined) * width // 2)
    return data.reshape(len(combined), width // 2)
