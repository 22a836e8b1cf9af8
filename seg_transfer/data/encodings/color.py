"""Label maps that are images with one RGB color per pixel."""

from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from seg_transfer.data.decoding import raw_values, read_raw_values
from seg_transfer.data.encodings.base import LabelEncoding
from seg_transfer.data.fields import Integer, Positive, Text, ignore_index, refuse_duplicates
from seg_transfer.data.record import Record, Window
from seg_transfer.data.rgb import read_size
from seg_transfer.data.scenes import open_tile

Channel = Annotated[Integer, Field(ge=0, le=255)]
Color = tuple[Channel, Channel, Channel]


class ColorLabels(LabelEncoding):
    """Label maps with one RGB color per pixel; ``colours`` has one [R, G, B] per class, in class order.

    ``crop`` is for label maps that are larger than their image: file name without suffix -> (height, width) in pixels.
    Rows below and columns to the right are cut off.
    """

    optional: ClassVar[frozenset[str]] = frozenset({"crop"})
    listed_in: ClassVar[str] = "labels.colours"

    encoding: Literal["rgb"]
    colours: tuple[Color, ...]
    ignore: tuple[Color, ...] = ()
    unlisted: Literal["error", "nearest", "ignore"] = "error"
    crop: dict[Text, tuple[Positive, Positive]] = Field(default_factory=dict)

    def read_raw(self, record: Record) -> npt.NDArray[np.integer]:
        """Read the colors of a label map as R + 256 G + 65536 B, (H, W)."""
        raw = read_raw_values(record.label_source, self.encoding)
        if record.label.stem not in self.crop:
            return raw
        height, width = self.crop[record.label.stem]
        return raw[:height, :width]

    def read_tile(self, record: Record, window: Window, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        """Read the colors of a part of a label map; the colors of a whole scene would take a gigabyte."""
        record.check_sizes(self.crop.get(record.label.stem) or read_size(record.label), size)
        with open_tile(record.label, window) as image:
            return raw_values(image, str(record.label), self.encoding)

    def raw_classes(self, n_classes: int) -> dict[int, int]:
        """Return the class index, or `ignore_index(n_classes)`, of every listed color R + 256 G + 65536 B."""
        indices = (*range(n_classes), *(ignore_index(n_classes) for _ in self.ignore))
        return {r + 256 * g + 65536 * b: i for (r, g, b), i in zip(self.colours + self.ignore, indices, strict=True)}

    def check(self, n_classes: int) -> None:
        """Check the colors against the number of classes; raises ValueError if a rule is broken."""
        if len(self.colours) != n_classes:
            raise ValueError(
                f"labels.colours holds {len(self.colours)} colors; list one for each of the {n_classes} classes"
            )
        refuse_duplicates("labels.colours with labels.ignore", self.colours + self.ignore)

    def nearest(self, values: npt.NDArray[np.int64], listed: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
        """Return the position of the listed color at the smallest squared distance, the smaller number of two."""
        colors, positions = np.unique(values, return_inverse=True)
        smallest = np.full(len(colors), 3 * 256**2)
        nearest = np.zeros(len(colors), np.intp)
        for index, color in enumerate(_channels(listed)):
            distance = ((_channels(colors) - color) ** 2).sum(axis=1)
            nearest[distance < smallest] = index
            smallest = np.minimum(smallest, distance)
        return nearest[positions]

    def describe(self, raw: int) -> str:
        """Describe a color for messages."""
        return f"color ({raw % 256}, {raw // 256 % 256}, {raw // 65536})"


def _channels(colors: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return R, G and B of colors, (N, 3)."""
    return np.stack([colors % 256, colors // 256 % 256, colors // 65536], axis=1)
