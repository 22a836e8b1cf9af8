"""Label maps that are images with one number per pixel."""

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from seg_transfer.data.decoding import raw_values, read_raw_values
from seg_transfer.data.encodings.base import RawValues
from seg_transfer.data.record import Record, Window
from seg_transfer.data.rgb import read_size
from seg_transfer.data.scenes import is_read_by_windows, open_tile


class ValueLabels(RawValues):
    """Images and arrays with one number per pixel.

    ``id`` and ``id16`` are the stored numbers, ``palette`` is palette indices, or numbers of files without a palette.
    """

    bytes_per_pixel: ClassVar[int] = 1

    encoding: Literal["id", "palette", "id16"]

    @property
    def largest(self) -> int:
        """The largest raw value that the encoding can hold."""
        return 255 if self.encoding == "palette" else 65535

    @property
    def lowest(self) -> int:
        """The lowest raw value that can be ignored."""
        return 0 if self.encoding == "palette" else -(2**31)

    def read_raw(self, record: Record) -> npt.NDArray[np.integer]:
        """Read the numbers of a label map, (H, W)."""
        return read_raw_values(record.label_source, self.encoding)

    def read_tile(self, record: Record, window: Window, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        """Read the numbers of a part of a label map: of the part alone where the file allows it."""
        if not is_read_by_windows(record.label):
            return super().read_tile(record, window, size)
        record.check_sizes(read_size(record.label), size)
        with open_tile(record.label, window) as image:
            return raw_values(image, str(record.label), self.encoding)
