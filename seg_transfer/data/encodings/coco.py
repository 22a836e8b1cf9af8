"""Label maps that are drawn from COCO's instance annotations: polygons, and masks as lengths of runs.

The library that reads masks checks nothing: what a file states reaches its compiled code only after validation.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from seg_transfer.data.coco_file import Annotation, CocoImage, Runs, read_coco
from seg_transfer.data.encodings.base import RawValues
from seg_transfer.data.fields import Integer, ignore_index
from seg_transfer.data.record import Record
from seg_transfer.data.rgb import read_size
from seg_transfer.errors import ConfigError, DataError

CROWD = -1
"""Raw value of a region of many objects that are not outlined one by one; it is always ignored."""
# The library marks five points per pixel of an outline's length, 16 bytes each: at most 800 MB.
_MAX_OUTLINE = 10_000_000


class CocoLabels(RawValues):
    """JSON files of COCO's instance annotations; the category of the object at a pixel is the raw value.

    Where objects overlap, the smaller one lies on top; of equally large ones, the later one. ``background`` is the raw
    value of pixels without an object; change it if a category has the id 0. Regions with ``iscrowd`` are ignored.
    """

    optional: ClassVar[frozenset[str]] = frozenset({"background"})

    describes_many: ClassVar[bool] = True

    encoding: Literal["coco"]
    background: Integer = 0

    def read_raw(self, record: Record) -> npt.NDArray[np.integer]:
        """Draw the categories of an image, (H, W)."""
        file = read_coco(record.label)
        if record.entry is None or record.entry >= len(file.images):
            raise DataError(f"{record.label}: has no entry for {record.image_id}; add the entry or exclude the image")
        image = file.images[record.entry]
        height, width = _size(record, image)
        assert isinstance(image.id, int | str)  # the reader of the file has checked it
        return self._draw(record, file.annotations[image.id], height, width)

    def raw_classes(self, n_classes: int) -> dict[int, int]:
        """Return the class index of every listed raw value, `ignore_index(n_classes)` for ignored ones and crowds."""
        return super().raw_classes(n_classes) | {CROWD: ignore_index(n_classes)}

    def check(self, n_classes: int) -> None:
        """Check the fields against the number of classes; raises ValueError if a rule is broken."""
        super().check(n_classes)
        if self.unlisted == "nearest":
            raise ValueError("labels.unlisted is nearest, but numbers of categories have no distance; choose ignore")
        if not 0 <= self.background <= self.largest:
            raise ValueError(
                f"labels.background is {self.background}, but raw values are 0 to {self.largest}; correct it"
            )
        if self.background not in self.raw_classes(n_classes):
            raise ValueError(
                f"labels.background {self.background} is neither a class nor ignored; list it in labels.map or "
                "labels.ignore"
            )

    def entries(self, label: Path) -> tuple[str, ...]:
        """Return the file names of the images that a JSON file describes, in its order."""
        names = [image.file_name for image in read_coco(label).images]
        wrong = [name for name in names if not isinstance(name, str) or not name]
        if wrong:
            raise DataError(f"{label}: file_name {_shown(wrong[0])} is not a path; correct the entry")
        return tuple(str(name) for name in names)

    def describe(self, raw: int) -> str:
        """Describe a category for messages."""
        return f"category {raw}"

    def _draw(
        self, record: Record, annotations: tuple[Annotation, ...], height: int, width: int
    ) -> npt.NDArray[np.int32]:
        objects = []
        for position, annotation in enumerate(annotations):
            try:
                value, lengths = self._raw_value(annotation), runs_of(annotation.shape, height, width)
            except ValueError as error:
                name = f"{record.label}, image {record.image_id}, annotation {_shown(annotation.id)}"
                raise DataError(f"{name}: {error}; correct or remove the annotation") from error
            objects.append((-int(lengths[1::2].sum()), position, value, lengths))
        # Only runs are kept and drawn: a scene with thousands of small objects has no room for a mask of each.
        raw = np.full(height * width, self.background, np.int32)
        for _, _, value, lengths in sorted(objects, key=lambda item: item[:2]):
            ends = lengths.cumsum().tolist()
            for start, end in zip(ends[::2], ends[1::2], strict=False):
                raw[start:end] = value
        return raw.reshape(width, height).T

    def _raw_value(self, annotation: Annotation) -> int:
        category = annotation.category
        if type(category) is not int or not 0 <= category <= self.largest:
            raise ValueError(f"category_id is {_shown(category)}, but must be 0 to {self.largest}")
        if annotation.is_crowd:
            return CROWD
        if category == self.background:
            raise ValueError(
                f"category_id {category} is also labels.background; set that to an unused number, as {self.largest}"
            )
        return category


def runs_of(shape: tuple[npt.NDArray[np.generic], ...] | Runs | str, height: int, width: int) -> npt.NDArray[np.int64]:
    """Return the mask of an object as lengths of runs.

    Args:
        shape: Polygons, whose union is the object, or runs.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Returns:
        Lengths of alternate runs outside and inside of the object, column by column, which add up to H x W.

    Raises:
        ValueError: The shape is damaged, or does not fit the image.
    """
    if isinstance(shape, str):
        raise ValueError(shape)
    if isinstance(shape, Runs):
        if shape.size != [height, width]:
            raise ValueError(f"its mask has size {_shown(shape.size)}, but the image is {height} x {width}")
        counts = decompress(shape.counts) if isinstance(shape.counts, bytes) else shape.counts
        return _checked(counts, height, width)
    for polygon in shape:
        _check_polygon(polygon, height, width)
    masks = _library()
    polygons = masks.frPyObjects([polygon.astype(np.float64).tolist() for polygon in shape], height, width)
    return decompress(masks.merge(polygons)["counts"])


def decompress(text: bytes) -> npt.NDArray[np.int64]:
    """Decode the lengths of runs from COCO's text form.

    A character holds five bits of a number, least significant first, and whether more follow; from the fourth number
    on, the difference to the last but one is stored.

    Raises:
        ValueError: The text has other characters, or ends within a number.
    """
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes & 32 == 0)
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or ends[-1:].tolist() != [len(codes) - 1]:
        raise ValueError("the text of its counts is damaged")
    starts = np.concatenate(([0], ends[:-1] + 1))
    # Seven characters hold the number of pixels of any image.
    if (ends - starts).max() >= 7:
        raise ValueError("the text of its counts is damaged")
    places = 5 * (np.arange(len(codes)) - np.repeat(starts, ends - starts + 1))
    numbers = np.add.reduceat((codes & 31) << places, starts)
    numbers[codes[ends] & 16 != 0] -= 1 << (places[ends[codes[ends] & 16 != 0]] + 5)
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    return numbers


def _checked(counts: npt.NDArray[np.generic], height: int, width: int) -> npt.NDArray[np.int64]:
    total = height * width
    if counts.dtype.kind != "i" or int(counts.min()) < 0 or int(counts.max()) > total or int(counts.sum()) != total:
        raise ValueError(f"its counts are not whole numbers that add up to {height} x {width} pixels")
    return counts.astype(np.int64)


def _check_polygon(polygon: npt.NDArray[np.generic], height: int, width: int) -> None:
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"its polygon has {len(polygon)} coordinates, but needs an even number of at least 6")
    points = polygon.astype(np.float64).reshape(-1, 2)
    side = max(height, width)
    # A sloppy outline may leave the image, but not by more than its size; infinity and NaN fail this too.
    if not ((points >= -side) & (points <= 2 * side)).all():
        raise ValueError(f"its polygon leaves the image of {height} x {width} pixels by more than its size")
    if np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum() > _MAX_OUTLINE:
        raise ValueError(f"its polygon is longer than {_MAX_OUTLINE} pixels")


def _size(record: Record, image: CocoImage) -> tuple[int, int]:
    """Return height and width of an image from the file, after a comparison with the image itself."""
    height, width = image.height, image.width
    where = f"{record.label}, image {record.image_id}"
    if type(height) is not int or type(width) is not int or height < 1 or width < 1:
        raise DataError(f"{where}: height {_shown(height)} and width {_shown(width)} are not sizes; correct the entry")
    # The orientation of the image, which a manifest may apply, exchanges the two.
    actual = read_size(record.image, record.reading)
    if sorted(actual) != sorted((height, width)):
        raise DataError(
            f"{where}: {height} x {width} (height x width), but the image is {actual[0]} x {actual[1]}; replace the "
            "image or correct the entry"
        )
    return height, width


def _library() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ConfigError(
            f"labels.encoding coco: polygons need pycocotools, which cannot be imported ({error}): run pip install "
            "'seg_transfer[formats]'"
        ) from error
    return mask


def _shown(value: object) -> str:
    return f"{value!r:.80}"
