"""Reads COCO's instance annotations: one JSON file with the outlines of the objects of many images.

The JSON file of a large split has hundreds of megabytes. A process reads it once and keeps only outlines, as arrays.
"""

import json
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from seg_transfer.errors import DataError, reason_of

Id = int | str
# At most two splits are in use at a time: one for training and one for evaluation.
_MAX_FILES = 2
_reading = Lock()


class Runs(NamedTuple):
    """A mask as lengths of runs, column by column, beginning with a run of zeros; text if they are compressed."""

    size: object
    counts: bytes | npt.NDArray[np.generic]


class Annotation(NamedTuple):
    """One object. Everything but the kinds of ``shape`` is as in the file, and not yet validated.

    ``shape`` holds polygons, runs, or the reason why it is neither.
    """

    id: object
    image_id: object
    category: object
    is_crowd: bool
    shape: tuple[npt.NDArray[np.generic], ...] | Runs | str


class CocoImage(NamedTuple):
    """An image that a file describes; height and width are not yet validated."""

    id: object
    file_name: object
    height: object
    width: object


class CocoFile(NamedTuple):
    """The content of a file.

    Attributes:
        images: The images, in the order of the file.
        annotations: Id of an image -> its annotations, in the order of the file.
        categories: Id -> name.
    """

    images: tuple[CocoImage, ...]
    annotations: dict[Id, tuple[Annotation, ...]]
    categories: dict[int, str]


class _Category(NamedTuple):
    id: object
    name: object


def read_coco(file: Path) -> CocoFile:
    """Read a file of instance annotations; a process reads each version of a file once.

    Raises:
        DataError: The file is missing, is not JSON, or has no list of images, annotations or categories; an id occurs
            twice, or an annotation names an image that the file does not list.
    """
    try:
        status = file.stat()
        # If several threads need a file, one reads it and the others wait.
        with _reading:
            return _read(file, status.st_size, status.st_mtime_ns)
    except FileNotFoundError as error:
        raise DataError(f"{file}: the file does not exist; add it or correct its name") from error
    # A file of unknown origin can hold anything.
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise DataError(f"{file}: not a JSON file of COCO instances ({reason_of(error)}); replace the file") from error


@lru_cache(_MAX_FILES)
def _read(file: Path, _size: int, _time: int) -> CocoFile:
    content = json.loads(file.read_bytes(), object_hook=_reduce_object)
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__} instead of a mapping")
    images = _list(content, "images", CocoImage, "an image without file_name")
    annotations = _list(content, "annotations", Annotation, "an annotation without category_id and segmentation")
    categories = _list(content, "categories", _Category, "a category without id and name")
    return CocoFile(tuple(images), _by_image(images, annotations), _names(categories))


def _list(content: dict[str, Any], field: str, kind: type, otherwise: str) -> list[Any]:
    values = content.get(field)
    if not isinstance(values, list):
        raise ValueError(f"it has no list {field!r}")
    if not all(isinstance(value, kind) for value in values):
        raise ValueError(f"{field!r} holds {otherwise}")
    return values


def _by_image(images: list[CocoImage], annotations: list[Annotation]) -> dict[Id, tuple[Annotation, ...]]:
    found: dict[Id, list[Annotation]] = {}
    for image in images:
        if not isinstance(image.id, int | str) or image.id in found:
            raise ValueError(f"the image id {image.id!r:.80} is neither a number nor text, or occurs twice")
        found[image.id] = []
    for annotation in annotations:
        if not isinstance(annotation.image_id, int | str) or annotation.image_id not in found:
            raise ValueError(
                f"annotation {annotation.id!r:.80} has image_id {annotation.image_id!r:.80}, not in images"
            )
        found[annotation.image_id].append(annotation)
    return {image: tuple(objects) for image, objects in found.items()}


def _names(categories: list[_Category]) -> dict[int, str]:
    names: dict[int, str] = {}
    for number, name in categories:
        if type(number) is not int or not isinstance(name, str) or number in names:
            raise ValueError(f"the category {number!r:.80}, {name!r:.80} has no number, no name, or occurs twice")
        names[number] = name
    return names


def _reduce_object(item: dict[str, Any]) -> Any:
    """Reduce a JSON object, as soon as it is parsed, to what is kept of it."""
    if "segmentation" in item or "category_id" in item:
        crowd = item.get("iscrowd", 0) not in (0, False, None)
        shape = _reduce_shape(item.get("segmentation"))
        return Annotation(item.get("id"), item.get("image_id"), item.get("category_id"), crowd, shape)
    if "segments_info" in item:
        raise ValueError("it holds panoptic annotations, for which the encoding is panoptic")
    if "file_name" in item:
        return CocoImage(item.get("id"), item["file_name"], item.get("height"), item.get("width"))
    if "name" in item and "id" in item:
        return _Category(item["id"], item["name"])
    return item


def _reduce_shape(value: object) -> tuple[npt.NDArray[np.generic], ...] | Runs | str:
    if isinstance(value, dict):
        counts = value.get("counts")
        if isinstance(counts, str):
            return Runs(value.get("size"), counts.encode("utf-8", "surrogatepass"))
        lengths = _numbers(counts)
        return "its segmentation has no counts" if lengths is None else Runs(value.get("size"), lengths)
    if not isinstance(value, list) or not value:
        return "it has no segmentation"
    polygons = [_numbers(polygon) for polygon in value]
    wrong = "its segmentation holds a polygon that is not a list of numbers"
    return wrong if any(polygon is None for polygon in polygons) else tuple(p for p in polygons if p is not None)


def _numbers(value: object) -> npt.NDArray[np.generic] | None:
    """Return a flat array of numbers; None if a value is anything else."""
    if not isinstance(value, list) or not value or {type(number) for number in value} - {int, float}:
        return None
    numbers = np.array(value)
    return numbers if numbers.dtype.kind in "if" else None
