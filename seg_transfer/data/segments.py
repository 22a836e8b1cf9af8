"""The categories of the segments of panoptic label maps, from the JSON that lies beside their folder.

The JSON of a large split has hundreds of megabytes. It is read once in a process, and of each segment only its id and
its category stay in memory, 16 bytes.
"""

import json
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.errors import DataError

# Two splits are in use at a time at most: the one that is trained on and the one that is evaluated.
_MOST_FILES = 2
_Integers = npt.NDArray[np.int64]
_reading = Lock()


def segments_file(label: Path) -> Path:
    """The JSON of a panoptic label map: ``panoptic_val2017.json`` of ``panoptic_val2017/000000000139.png``."""
    return label.parent.with_name(f"{label.parent.name}.json")


def categories_of(label: Path, segments: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """The category of every pixel's segment, (H, W); 0 where the segment id is 0, which is no segment.

    DataError names what the JSON lacks: itself, the label map, or a segment with the row and column (from 0) of its
    first pixel.
    """
    file = segments_file(label)
    found = _of_file(file).get(label.name)
    if found is None:
        raise DataError(f"{file}: says nothing of {label.name}; complete it or exclude the label map")
    ids, categories = found
    shown, index = np.unique(segments, return_inverse=True)
    place = np.searchsorted(ids, shown).clip(max=max(len(ids) - 1, 0))
    known = ids[place] == shown if len(ids) else np.zeros(len(shown), bool)
    unknown = shown[~known & (shown != 0)]
    if len(unknown):
        row, column = np.argwhere(segments == unknown[0])[0].tolist()
        raise DataError(
            f"{label}: segment {unknown[0]} at row {row}, column {column} is not in {file.name}; replace one of the "
            "files or exclude the label map"
        )
    of_shown = np.zeros(len(shown), np.int64)
    of_shown[known] = categories[place[known]]
    raw: npt.NDArray[np.int64] = of_shown[index].reshape(segments.shape)
    return raw


def _of_file(file: Path) -> dict[str, tuple[_Integers, _Integers]]:
    """Segment ids, sorted, and their categories, by the file name of the label map."""
    try:
        status = file.stat()
        # Threads that need the same file wait for one of them to read it.
        with _reading:
            return _read(file, status.st_size, status.st_mtime_ns)
    except FileNotFoundError as error:
        raise DataError(f"{file}: the file does not exist; it gives each segment its category, add it") from error
    # What a file of unknown origin holds can be anything.
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{file}: not a JSON of panoptic annotations ({reason}); replace the file") from error


@lru_cache(_MOST_FILES)
def _read(file: Path, _size: int, _time: int) -> dict[str, tuple[_Integers, _Integers]]:
    annotations = json.loads(file.read_bytes(), object_hook=_needed)
    return {str(name): pair for name, pair in annotations}


def _needed(item: dict[str, Any]) -> Any:
    """What is kept of a JSON object as soon as it is read: of the file its annotations, of an image's its segments."""
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
