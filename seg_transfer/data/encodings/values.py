"""Label maps that are images with one number per pixel."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from seg_transfer.data.decoding import read_raw_values
from seg_transfer.data.encodings.base import RawValues
from seg_transfer.data.record import Record


class ValueLabels(RawValues):
    """Images with one number per pixel: 8-bit gray (``id``), palette index (``palette``), 16-bit gray (``id16``)."""

    encoding: Literal["id", "palette", "id16"]

    @property
    def largest(self) -> int:
        """The largest raw value that the encoding can hold."""
        return 65535 if self.encoding == "id16" else 255

    def read_raw(self, record: Record) -> npt.NDArray[np.integer]:
        """Read the numbers of a label map, (H, W)."""
        return read_raw_values(record.label, self.encoding)
