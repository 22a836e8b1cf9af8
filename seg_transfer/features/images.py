"""The images of a target as networks take them: resized, in batches of one size, and decoded while the network runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from seg_transfer.data.images import image_size, read_image, resize_to_short_side, short_side_size
from seg_transfer.data.prefetch import prefetch
from seg_transfer.data.record import Record
from seg_transfer.errors import DataError

Pixels = npt.NDArray[np.uint8]
_AHEAD_BYTES = 512 << 20


class ImageBatch(NamedTuple):
    """Images of one size: `pixels`, uint8 (B, 3, H, W), and their `indices` into the target's records.

    In memory the channels of a pixel are neighbors, as decoders give them and networks in `channels_last` take them.
    """

    indices: tuple[int, ...]
    pixels: Pixels


class TargetImages:
    """Batches of a target's images, each image decoded once for all the sources that are scored on it.

    Only images of one size share a batch. Padding smaller ones would change what convolutions see at the border: it
    moves the features of HRNetV2-W18-small by 10 %, those near the border by 30 %.

    Args:
        records: The images, in the order that indices refer to.
        short_side: Images are resized so that the shorter side has this many pixels; the aspect ratio is kept.
        batch_size: Maximum number of images per batch; all have one size.
        memory_bytes: Up to this many bytes of decoded images are kept; all others are decoded again for each source.
        threads: Number of threads that decode ahead of the network, at most 512 MB of resized images.
    """

    def __init__(
        self,
        records: Sequence[Record],
        short_side: int,
        *,
        batch_size: int = 1,
        memory_bytes: int = 2 << 30,
        threads: int = 2,
    ) -> None:
        self._records = records
        self._short_side = short_side
        sizes = [short_side_size(*image_size(record), short_side) for record in records]
        self._plan = list(_batches_of_one_size(sizes, batch_size))
        largest = max((3 * height * width for height, width in sizes), default=1) * batch_size
        self._threads, self._ahead = threads, max(1, min(2 * threads, _AHEAD_BYTES // largest))
        self._kept: dict[tuple[int, ...], ImageBatch] = {}
        self._free_bytes = memory_bytes

    def __iter__(self) -> Iterator[ImageBatch]:
        for batch in prefetch(self._batch, self._plan, threads=self._threads, ahead=self._ahead):
            self._keep(batch)
            yield batch

    def _batch(self, indices: tuple[int, ...]) -> ImageBatch:
        return self._kept.get(indices) or ImageBatch(indices, _stacked([self._decoded(index) for index in indices]))

    def _decoded(self, index: int) -> Pixels:
        return resize_to_short_side(read_image(self._records[index]), self._short_side)

    def _keep(self, batch: ImageBatch) -> None:
        if batch.indices not in self._kept and batch.pixels.nbytes <= self._free_bytes:
            self._kept[batch.indices] = batch
            self._free_bytes -= batch.pixels.nbytes


def refuse_constant_images(batches: Iterable[ImageBatch], target: str) -> Iterator[ImageBatch]:
    """Pass on the batches of a target's images.

    Padding lets a network's features vary even on an image of one color, so that they do not reveal such images.

    Raises:
        DataError: At the end, if every image holds one color only.
    """
    n_images, all_constant = 0, True
    for batch in batches:
        n_images += len(batch.indices)
        all_constant = all_constant and bool((batch.pixels == batch.pixels[:, :, :1, :1]).all())
        yield batch
    if n_images and all_constant:
        raise DataError(
            f"target {target}: each of its {n_images} images holds one color, so there is nothing to compare; look at "
            "them with 'seg-transfer inspect'; images of 10 or 12 bits need images.range in the manifest"
        )


def _stacked(images: Sequence[Pixels]) -> Pixels:
    """Arrange images (H, W, 3) as (B, 3, H, W); one alone is not copied."""
    batch = images[0][None] if len(images) == 1 else np.stack(images)
    return batch.transpose(0, 3, 1, 2)


def _batches_of_one_size(sizes: Sequence[tuple[int, int]], batch_size: int) -> Iterator[tuple[int, ...]]:
    by_size = sorted(range(len(sizes)), key=lambda index: (sizes[index], index))
    for _, group in groupby(by_size, key=lambda index: sizes[index]):
        indices = tuple(group)
        yield from (indices[start : start + batch_size] for start in range(0, len(indices), batch_size))
