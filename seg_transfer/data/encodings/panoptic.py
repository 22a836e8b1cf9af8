"""Label maps in the panoptic format of COCO: PNGs of segment ids, and a JSON with the category of each segment.

The JSON of a large split has hundreds of megabytes. A process reads it once, and keeps only the id and the category of
each segment, 16 bytes.
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
from seg_transfer.errors import DataError

# At most two splits are in use at a time: one for training and one for evaluation.
_MAX_FILES = 2
_Integers = npt.NDArray[np.int64]
_reading = Lock()


class PanopticLabels(RawValues):
    """PNGs in the panoptic format of COCO: the color of a pixel is the id of a segment, R + 256 G + 65536 B.

    The JSON that gives each segment its category lies beside the folder of the PNGs and has its name. The category is
    the raw value; that of a pixel without a segment (black) is 0.
    """

    encoding: Literal["panoptic"]

    def read_raw(self, path: Path) -> npt.NDArray[np.integer]:
        """Read the category of every pixel, (H, W)."""
        return categories_of(path, read_raw_values(path, "rgb"))

    def companion(self, label: Path) -> Path:
        """The JSON with the categories of the segments."""
        return segments_file(label)


def segments_file(label: Path) -> Path:
    """The JSON of a panoptic label map: ``panoptic_val2017.json`` of ``panoptic_val2017/000000000139.png``."""
    return label.parent.with_name(f"{label.parent.name}.json")


def categories_of(label: Path, segments: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """Look up the category of every pixel's segment.

    Args:
        label: The label map, which locates the JSON.
        segments: Segment ids, (H, W); 0 is no segment.

    Returns:
        Categories, (H, W); 0 where there is no segment.

    Raises:
        DataError: The JSON is missing or damaged, or lacks the label map or a segment; a missing segment is named with
            row and column (from 0) of its first pixel.
    """
    file = segments_file(label)
    found = _of_file(file).get(label.name)
    if found is None:
        raise DataError(f"{file}: has no entry for {label.name}; complete it or exclude the label map")
    ids, categories = found
    shown, index = np.unique(segments, return_inverse=True)
    position = np.searchsorted(ids, shown).clip(max=max(len(ids) - 1, 0))
    known = ids[position] == shown if len(ids) else np.zeros(len(shown), bool)
    unknown = shown[~known & (shown != 0)]
    if len(unknown):
        row, column = np.argwhere(segments == unknown[0])[0].tolist()
        raise DataError(
            f"{label}: segment {unknown[0]} at row {row}, column {column} is not in {file.name}; replace one of the "
            "files or exclude the label map"
        )
    of_shown = np.zeros(len(shown), np.int64)
    of_shown[known] = categories[position[known]]
    raw: npt.NDArray[np.int64] = of_shown[index].reshape(segments.shape)
    return raw


def _of_file(file: Path) -> dict[str, tuple[_Integers, _Integers]]:
    """File name of a label map -> its segment ids, sorted, and their categories."""
    try:
        status = file.stat()
        # Of several threads that need a file, one reads it and the others wait.
        with _reading:
            return _read(file, status.st_size, status.st_mtime_ns)
    except FileNotFoundError as error:
        raise DataError(f"{file}: the file does not exist; it gives each segment its category, add it") from error
    # A file of unknown origin can hold anything.
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{file}: not a JSON of panoptic annotations ({reason}); replace the file") from error


@lru_cache(_MAX_FILES)
def _read(file: Path, _size: int, _time: int) -> dict[str, tuple[_Integers, _Integers]]:
    annotations = json.loads(file.read_bytes(), object_hook=_needed)
    return {str(name): pair for name, pair in annotations}


def _needed(item: dict[str, Any]) -> Any:
    """Reduce a JSON object, as soon as it is read, to its annotations, or to ids and categories of segments."""
    if "segments_info" in item:
        return item["file_name"], _sorted(item["segments_info"])
    if "category_id" in item:
        return item["id"], item["category_id"]
    return item.get("annotations")


def _sorted(pairs: list[tuple[int, int]]) -> tuple[_Integers, _Integers]:
    found = np.array(pairs if pairs else np.empty((0, 2), np.int64))
    if found.dtype != np.int64 or found.ndim != 2:
        raise ValueError("the id or category of a segment is not an integer")
    found = found[np.argsort(found[:, 0], kind="stable")]
    return found[:, 0], found[:, 1]
