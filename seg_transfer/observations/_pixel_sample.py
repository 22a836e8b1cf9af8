"""Which pixels of a target are used, validated once and frozen."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.errors import ObservationsError
from seg_transfer.observations._checks import check_integers, check_length, check_range


@dataclass(frozen=True, eq=False)
class PixelSample:
    """Which pixels of a target are used: drawn once, the same for every source and every metric.

    The center of a pixel, in fractions of the image, is ``((row + 0.5) / height, (column + 0.5) / width)``.

    Attributes:
        image_ids: One unique id per image.
        image_sizes: (n_images, 2) int32, height and width of the map that the pixels were drawn from.
        image_index: (N,) int32, the image of each pixel.
        rows: (N,) int32, the row of each pixel.
        columns: (N,) int32, the column of each pixel.
        labels: (N,) integers, the label of each pixel.

    Raises:
        ObservationsError: Lengths differ, an image id is repeated, or a pixel lies outside its image.
    """

    image_ids: tuple[str, ...]
    image_sizes: npt.NDArray[np.int32]
    image_index: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    labels: npt.NDArray[np.integer[Any]]

    def __post_init__(self) -> None:
        for name in ("image_sizes", "image_index", "rows", "columns"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.int32))
        object.__setattr__(self, "labels", np.asarray(self.labels))
        check_integers("labels", self.labels)
        for name in ("image_index", "rows", "columns"):
            check_length(name, getattr(self, name), len(self.labels))
        if self.image_sizes.shape != (len(self.image_ids), 2):
            raise ObservationsError(
                f"image_sizes has shape {self.image_sizes.shape}; {len(self.image_ids)} images need shape "
                f"({len(self.image_ids)}, 2)"
            )
        if len(set(self.image_ids)) != len(self.image_ids):
            raise ObservationsError("image_ids has an id twice; give every image of a pixel sample its own id")
        self._check_positions()

    def __len__(self) -> int:
        return len(self.labels)

    def _check_positions(self) -> None:
        check_range("image_index", self.image_index, len(self.image_ids))
        check_range("rows", self.rows, self.image_sizes[self.image_index, 0])
        check_range("columns", self.columns, self.image_sizes[self.image_index, 1])
