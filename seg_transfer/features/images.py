"""The images of a target as networks take them: resized, in batches of one size, and decoded while the network runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from seg_transfer.data.images import image_size, read_image, resize_to_short_side, short_side_size
from seg_transfer.data.prefetch import prefetch
from seg_transfer.data.record import Record

Pixels = npt.NDArray[np.uint8]


class ImageBatch(NamedTuple):
    """Images of one size: `pixels`, uint8 (B, 3, H, W), and their `indices` into the target's records."""

    indices: tuple[int, ...]
    pixels: Pixels


class TargetImages:
    """Batches of a target's images, each image decoded once for all the sources that are scored on it.

    Args:
        records: The images, in the order that indices refer to.
        short_side: Images are resized so that the shorter side has this many pixels; the aspect ratio is kept.
        batch_size: Maximum number of images per batch; all have one size.
        memory_bytes: Up to this many bytes of decoded images are kept; all others are decoded again for each source.
    """

    def __init__(
        self, records: Sequence[Record], short_side: int, *, batch_size: int = 1, memory_bytes: int = 2 << 30
    ) -> None:
        self._records = records
        self._short_side = short_side
        sizes = [short_side_size(*image_size(record), short_side) for record in records]
        self._plan = list(_batches_of_one_size(sizes, batch_size))
        self._kept: dict[tuple[int, ...], ImageBatch] = {}
        self._free_bytes = memory_bytes

    def __iter__(self) -> Iterator[ImageBatch]:
        for batch in prefetch(self._batch, self._plan):
            self._keep(batch)
            yield batch

    def _batch(self, indices: tuple[int, ...]) -> ImageBatch:
        return self._kept.get(indices) or ImageBatch(indices, np.stack([self._decoded(i) for i in indices]))

    def _decoded(self, index: int) -> Pixels:
        image = resize_to_short_side(read_image(self._records[index]), self._short_side)
        return np.ascontiguousarray(image.transpose(2, 0, 1))

    def _keep(self, batch: ImageBatch) -> None:
        if batch.indices not in self._kept and batch.pixels.nbytes <= self._free_bytes:
            self._kept[batch.indices] = batch
            self._free_bytes -= batch.pixels.nbytes


def _batches_of_one_size(sizes: Sequence[tuple[int, int]], batch_size: int) -> Iterator[tuple[int, ...]]:
    by_size = sorted(range(len(sizes)), key=lambda index: (sizes[index], index))
    for _, group in groupby(by_size, key=lambda index: sizes[index]):
        indices = tuple(group)
        yield from (indices[start : start + batch_size] for start in range(0, len(indices), batch_size))
