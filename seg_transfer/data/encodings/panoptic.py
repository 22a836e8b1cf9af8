"""Label maps in COCO's panoptic format: PNG files of segment ids, and a JSON file with the category of each segment.

The JSON file of a large split has hundreds of megabytes. A process reads it once and keeps only the id and category of
each segment, which take 16 bytes.
"""

import json
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from seg_transfer.data.decoding import read_raw_values
from seg_transfer.data.encodings.base import RawValues
from seg_transfer.data.record import Record
from seg_transfer.errors import DataError

# At most two splits are in use at a time: one for training and one for evaluation.
_MAX_FILES = 2
_Integers = npt.NDArray[np.int64]
_reading = Lock()


class PanopticLabels(RawValues):
    """PNG files in COCO's panoptic format: the color of a pixel encodes the id of its segment, R + 256 G + 65536 B.

    The JSON file with the category of each segment is next to the folder of the PNG files and has the same name. The
    category is the raw value; it is 0 for pixels without a segment (black).
    """

    encoding: Literal["panoptic"]

    def read_raw(self, record: Record) -> npt.NDArray[np.integer]:
        """Read the category of every pixel, (H, W)."""
        return categories_of(record.label, read_raw_values(record.label, "rgb"))

    def companion(self, label: Path) -> Path:
        """Return the JSON file with the categories of the segments."""
        return segments_file(label)


def segments_file(label: Path) -> Path:
    """Return the JSON file of a label map: ``panoptic_val2017.json`` for ``panoptic_val2017/000000000139.png``."""
    return label.parent.with_name(f"{label.parent.name}.json")


def categories_of(label: Path, segments: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """Look up the category of every pixel's segment.

    Args:
        label: The label map, which determines the JSON file.
        segments: Segment ids, (H, W); 0 means no segment.

    Returns:
        Categories, (H, W); 0 where there is no segment.

    Raises:
        DataError: The JSON file is missing or damaged, or lacks the label map or a segment; the message names a missing
            segment with the row and column (from 0) of its first pixel.
    """
    file = segments_file(label)
    segments_of_label = _segments_by_label(file).get(label.name)
    if segments_of_label is None:
        raise DataError(f"{file}: has no entry for {label.name}; add the entry or exclude the label map")
    ids, categories = segments_of_label
    segment_ids, index = np.unique(segments, return_inverse=True)
    position = np.searchsorted(ids, segment_ids).clip(max=max(len(ids) - 1, 0))
    known = ids[position] == segment_ids if len(ids) else np.zeros(len(segment_ids), bool)
    unknown = segment_ids[~known & (segment_ids != 0)]
    if len(unknown):
        row, column = np.argwhere(segments == unknown[0])[0].tolist()
        raise DataError(
            f"{label}: segment {unknown[0]} at row {row}, column {column} is not in {file.name}; replace one of the "
            "files or exclude the label map"
        )
    category_of = np.zeros(len(segment_ids), np.int64)
    category_of[known] = categories[position[known]]
    raw: npt.NDArray[np.int64] = category_of[index].reshape(segments.shape)
    return raw


def _segments_by_label(file: Path) -> dict[str, tuple[_Integers, _Integers]]:
    """Return, for each label map by file name, its sorted segment ids and their categories."""
    try:
        status = file.stat()
        # If several threads need a file, one reads it and the others wait.
        with _reading:
            return _read(file, status.st_size, status.st_mtime_ns)
    except FileNotFoundError as error:
        raise DataError(
            f"{file}: the file does not exist; add it, because it has the category of each segment"
        ) from error
    # A file of unknown origin can hold anything.
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{file}: not a JSON file of panoptic annotations ({reason}); replace the file") from error


@lru_cache(_MAX_FILES)
def _read(file: Path, _size: int, _time: int) -> dict[str, tuple[_Integers, _Integers]]:
    annotations = json.loads(file.read_bytes(), object_hook=_reduce_object)
    return {str(name): pair for name, pair in annotations}


def _reduce_object(item: dict[str, Any]) -> Any:
    """Reduce a JSON object, as soon as it is parsed, to its annotations, or to segment ids and categories."""
    if "segments_info" in item:
        return item["file_name"], _sorted_by_id(item["segments_info"])
    if "category_id" in item:
        return item["id"], item["category_id"]
    return item.get("annotations")


def _sorted_by_id(pairs: list[tuple[int, int]]) -> tuple[_Integers, _Integers]:
    segments = np.array(pairs if pairs else np.empty((0, 2), np.int64))
    if segments.dtype != np.int64 or segments.ndim != 2:
        raise ValueError("the id or category of a segment is not an integer")
    segments = segments[np.argsort(segments[:, 0], kind="stable")]
    return segments[:, 0], segments[:, 1]
