"""The feature bank: a pair's observations in Parquet, float16, one row group per image."""

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

_KEY = b"content_key"


def rounded(observations: Observations) -> Observations:
    """The observations as the bank gives them back: features and probabilities in float16.

    Raises:
        ResultsError: A feature is beyond float16's range of 65504.
    """
    with np.errstate(over="ignore"):
        features = _present(observations.features).astype(np.float16)
    if not np.isfinite(features).all():
        raise ResultsError("a feature exceeds 65504, the range of float16; score this study with keep_features: false")
    probabilities = _present(observations.source_probs).astype(np.float16)
    return Observations(features, observations.labels, probabilities, observations.image_index)


def write_bank(file: Path, observations: Observations, content_key: str) -> None:
    """Store float16 observations whose images come one after another; whole or not at all."""
    features, probabilities = _present(observations.features), _present(observations.source_probs)
    image_index = _present(observations.image_index)
    schema = pa.schema(
        [
            pa.field("image_index", pa.int32()),
            pa.field("label", pa.uint8()),
            pa.field("features", pa.binary(2 * features.shape[1])),
            pa.field("source_probs", pa.binary(2 * probabilities.shape[1])),
        ],
        metadata={_KEY: content_key.encode()},
    )
    bounds = np.flatnonzero(np.diff(image_index, prepend=-1, append=-1))
    # Plain bytes: dictionaries and statistics of feature vectors cost ten times the writing and say nothing.
    options = {"use_dictionary": False, "write_statistics": False, "compression": "none", "write_page_checksum": True}
    with replaced_atomically(file) as temporary, pq.ParquetWriter(temporary, schema, **options) as writer:
        for start, end in itertools.pairwise(bounds):
            columns = [
                pa.array(image_index[start:end], pa.int32()),
                pa.array(observations.labels[start:end], pa.uint8()),
                _as_binary(features[start:end]),
                _as_binary(probabilities[start:end]),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def read_bank(file: Path, content_key: str) -> Observations | None:
    """Stored observations, or None where there are none with this key; raises ResultsError for a damaged file."""
    if not file.exists():
        return None
    try:
        if (pq.read_schema(file).metadata or {}).get(_KEY) != content_key.encode():
            return None
        table = pq.read_table(file, page_checksum_verification=True, partitioning=None)
        columns = {name: table[name] for name in ("features", "label", "source_probs", "image_index")}
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ResultsError(f"{file}: damaged feature file ({reason}); delete it and run the command again") from error
    return Observations(
        features=_as_halves(columns["features"]),
        labels=columns["label"].to_numpy(),
        source_probs=_as_halves(columns["source_probs"]),
        image_index=columns["image_index"].to_numpy(),
    )


def _present(array: npt.NDArray[np.generic] | None) -> npt.NDArray[np.generic]:
    if array is None:
        raise ResultsError("the bank keeps observations with features, probabilities and image indices only")
    return array


def _as_binary(rows: npt.NDArray[np.generic]) -> pa.Array:
    width = rows.shape[1] * rows.itemsize
    buffer = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.Array.from_buffers(pa.binary(width), len(rows), [None, buffer])


def _as_halves(column: pa.ChunkedArray) -> npt.NDArray[np.float16]:
    combined = column.combine_chunks()
    width = combined.type.byte_width
    data = np.frombuffer(combined.buffers()[1], np.float16, count=len(combined) * width // 2)
    return data.reshape(len(combined), width // 2)
