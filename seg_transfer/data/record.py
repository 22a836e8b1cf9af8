"""A record: an image and its label map."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from seg_transfer.data.cells import Cell, Source
from seg_transfer.data.fields import Block, Number, Positive, Text
from seg_transfer.errors import DataError

Window = tuple[int, int, int, int]


class ImageReading(Block):
    """The way in which the image files of a dataset are read.

    Attributes:
        exif: Whether the orientation in an image's EXIF data is applied; never to label maps. The orientation of TIFF
            files is part of that format and always applied.
        bands: Numbers, from 1, of the bands that are red, green and blue.
        range: The values that become black and white, with a linear scale between them; values without data become
            black. None means 0 to 255, or 0 to 65535 for 16 bits.
    """

    optional: ClassVar[frozenset[str]] = frozenset({"exif", "bands", "range"})

    exif: Literal["apply", "ignore"] = "ignore"
    bands: tuple[Positive, Positive, Positive] | None = None
    range: tuple[Number, Number] | None = None

    @model_validator(mode="after")
    def _black_below_white(self) -> Self:
        if self.range and not self.range[0] < self.range[1]:
            raise ValueError(
                f"images.range is [{self.range[0]:g}, {self.range[1]:g}], but the value of black must be less than "
                "that of white; write the lower one first"
            )
        return self


class Columns(Block):
    """The columns of the tables that hold the images and label maps of a dataset.

    Attributes:
        image: Column of the images.
        label: Column of the label maps.
    """

    image: Text
    label: Text


@dataclass(frozen=True, slots=True)
class Record:
    """One image and its label map.

    Attributes:
        image_id: Path of the image below the root of the dataset, without suffix.
        image: Image file.
        label: Label file.
        companion: Another file that is needed to read the label map, such as the JSON file of panoptic label maps.
        reading: How the image is read.
        row: Row of the table that holds image and label map, if the files are tables.
        window: The part of image and label map that the record is, if it is a tile: (top, left, height, width).
        columns: Columns of image and label map, if the files are tables.
        entry: Position of the image in the list of images of the label file, if that file describes several images.
    """

    image_id: str
    image: Path
    label: Path
    companion: Path | None = None
    reading: ImageReading = field(default_factory=ImageReading)
    row: int | None = None
    window: Window | None = None
    columns: Columns | None = None
    entry: int | None = None

    @property
    def image_source(self) -> Source:
        """What is opened as the image."""
        return Cell(self.image, self.row, self.columns.image) if self.row is not None and self.columns else self.image

    @property
    def label_source(self) -> Source:
        """What is opened as the label map."""
        return Cell(self.label, self.row, self.columns.label) if self.row is not None and self.columns else self.label

    @property
    def label_name(self) -> str:
        """The label map, for messages."""
        return f"{self.label}, image {self.image_id}" if self.entry is not None else str(self.label_source)

    def check_sizes(self, label_size: tuple[int, ...], image_size: tuple[int, ...]) -> None:
        """Raise DataError unless label map and image have one (height, width)."""
        check_same_size(self.label_name, label_size, self.image_source, image_size)


def check_same_size(label: object, label_size: tuple[int, ...], image: object, image_size: tuple[int, ...]) -> None:
    """Raise DataError, which names both files, unless a label map and its image have one (height, width)."""
    if label_size != image_size:
        shown, of_image = (" x ".join(map(str, size)) for size in (label_size, image_size))
        raise DataError(
            f"{label}: {shown} (height x width), but its image {image} is {of_image}; a label map needs one value per "
            "pixel: replace one of the files or exclude both"
        )
