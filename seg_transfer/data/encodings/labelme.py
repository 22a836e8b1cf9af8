"""Label maps that are drawn from LabelMe's annotations: one JSON file per image, with polygons, rectangles and circles.

A vertex stands for the pixel that it lies in, and the pixels on the outline belong to the shape, as in LabelMe's own
export of label maps.
"""

import json
import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from pydantic import Field

from seg_transfer.data.encodings.base import LabelEncoding
from seg_transfer.data.fields import Integer, Text, ignore_index, refuse_duplicates
from seg_transfer.data.record import Record
from seg_transfer.data.rgb import read_size
from seg_transfer.errors import DataError, reason_of

_BACKGROUND = 0
_UNLISTED = -1
_CIRCLE_VERTICES = 360
# The time for a polygon grows with the product of its vertices and rows; no person draws as many.
_MAX_VERTICES = 10_000


class LabelmeLabels(LabelEncoding):
    """JSON files of LabelMe; the label of a shape names its class, and later shapes lie on top of earlier ones.

    ``names`` maps labels to class indices, possibly many to one, and ``ignore`` lists labels whose pixels are ignored.
    ``background`` is the class index of pixels without a shape, or "ignore".
    """

    listed_in: ClassVar[str] = "labels.names"

    encoding: Literal["labelme"]
    names: Annotated[dict[Text, Integer], Field(min_length=1)]
    background: Integer | Literal["ignore"]
    ignore: tuple[Text, ...] = ()
    unlisted: Literal["error", "ignore"] = "error"

    def read_raw(self, record: Record) -> npt.NDArray[np.integer]:
        """Draw the shapes of an image, (H, W): 0 without a shape, from 1 the position of the label in the manifest."""
        content = read_labelme(record.label)
        height, width = _size(record, content)
        raw = Image.new("I", (width, height), _BACKGROUND)
        values = {name: position for position, name in enumerate((*self.names, *self.ignore), start=1)}
        for number, shape in enumerate(content["shapes"]):
            try:
                name, outline = _label_of(shape), _outline(shape, height, width)
            except ValueError as error:
                raise DataError(f"{record.label}, shape {number}: {error}; correct or remove the shape") from error
            if name not in values and self.unlisted == "error":
                raise DataError(
                    f"{record.label}, shape {number}: its label {name!r:.80} is not in the manifest; list it in "
                    "labels.names or labels.ignore, or set labels.unlisted: ignore"
                )
            ImageDraw.Draw(raw).polygon(outline, fill=values.get(name, _UNLISTED), outline=values.get(name, _UNLISTED))
        return np.asarray(raw)

    def raw_classes(self, n_classes: int) -> dict[int, int]:
        """Return the class index, or `ignore_index(n_classes)`, of the raw values that `read_raw` makes of labels."""
        indices = (*self.names.values(), *(ignore_index(n_classes) for _ in self.ignore))
        background = ignore_index(n_classes) if self.background == "ignore" else self.background
        return {_BACKGROUND: background, **dict(enumerate(indices, start=1))}

    def check(self, n_classes: int) -> None:
        """Check names and background against the number of classes; raises ValueError if a rule is broken."""
        background = {} if self.background == "ignore" else {"labels.background": self.background}
        indices = {f"labels.names {name!r}": index for name, index in self.names.items()} | background
        for field, index in indices.items():
            if not 0 <= index < n_classes:
                raise ValueError(
                    f"{field} is class index {index}, but the {n_classes} classes have indices 0 to {n_classes - 1}; "
                    "correct it"
                )
        refuse_duplicates("labels.names with labels.ignore", (*self.names, *self.ignore))


def read_labelme(file: Path) -> dict[str, Any]:
    """Read a JSON file of LabelMe.

    Returns:
        Its content, which has a list of mappings ``shapes``.

    Raises:
        DataError: The file is missing, or not of LabelMe.
    """
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{file}: the file does not exist; add it or exclude it") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: not a JSON file ({reason_of(error)}); replace the file or exclude it") from error
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise DataError(f"{file}: not an annotation of LabelMe (it has no list 'shapes'); replace or exclude the file")
    return dict(content)


def _size(record: Record, content: dict[str, Any]) -> tuple[int, int]:
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if type(height) is not int or type(width) is not int:
        raise DataError(
            f"{record.label}: imageHeight {height!r:.40} and imageWidth {width!r:.40} are not sizes; correct the file"
        )
    # The orientation of the image, which a manifest may apply, exchanges the two.
    actual = read_size(record.image, record.reading)
    if sorted(actual) != sorted((height, width)):
        raise DataError(
            f"{record.label}: {height} x {width} (height x width), but its image {record.image} is {actual[0]} x "
            f"{actual[1]}; replace one of the files or exclude both"
        )
    return height, width


def _label_of(shape: dict[str, Any]) -> str:
    label = shape.get("label")
    if not isinstance(label, str) or not label:
        raise ValueError(f"its label is {label!r:.80}, not the name of a class")
    return label


def _outline(shape: dict[str, Any], height: int, width: int) -> list[tuple[int, int]]:
    """Return the pixels (column, row) of the vertices of a shape."""
    kind = shape.get("shape_type") or "polygon"
    points = _points(shape.get("points"), height, width)
    if kind == "circle" and len(points) == 2:
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        angles = [2 * math.pi * step / _CIRCLE_VERTICES for step in range(_CIRCLE_VERTICES)]
        points = [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]
    elif kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points
        points = [(left, top), (right, top), (right, bottom), (left, bottom)]
    elif kind not in ("polygon", "rectangle") or len(points) < 3:
        raise ValueError(
            f"a {kind!s:.40} of {len(points)} points is not supported: draw a polygon of 3 or more points, or a "
            "rectangle or circle of 2"
        )
    return [(math.floor(x), math.floor(y)) for x, y in points]


def _points(points: object, height: int, width: int) -> list[tuple[float, float]]:
    if not isinstance(points, list) or not 0 < len(points) <= _MAX_VERTICES:
        raise ValueError(f"its points are not a list of 1 to {_MAX_VERTICES} points")
    side = max(height, width)
    for point in points:
        if not isinstance(point, list) or [type(number) in (int, float) for number in point] != [True, True]:
            raise ValueError(f"its point {point!r:.80} is not [x, y]")
        # A sloppy outline may leave the image, but not by more than its size; infinity and NaN fail this too.
        if not all(-side <= number <= 2 * side for number in point):
            raise ValueError(f"its point {point!r:.80} leaves the image of {height} x {width} pixels by more than that")
    return [(float(x), float(y)) for x, y in points]
