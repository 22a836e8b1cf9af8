"""The class of every pixel of an image by a network's scores, in bounded memory whatever the size of the image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seg_transfer.data.record import Window
from seg_transfer.data.scene_tiles import Tiles
from seg_transfer.errors import DataError
from seg_transfer.models.outputs import enlarge
from seg_transfer.models.sizes import Extent

# 256 MiB of float32; the scores of 150 classes at 512 x 512 pixels take less. More are enlarged in strips of 32 MiB.
_MAX_SCORES, _SCORES_OF_STRIP = 1 << 26, 1 << 23
# Of the side of a tile: so much is predicted twice, because a network sees little around pixels at the border.
_OVERLAP = 0.25
# The largest image that is predicted has fewer tiles of 128 pixels; tiles of a few pixels would take days.
_MOST_TILES = 1 << 15


Classes = npt.NDArray[np.unsignedinteger]


class Part(NamedTuple):
    """A part of an image: a `window` (top, left, height, width) to predict, and the `kept` part of it, in the image."""

    window: Window
    kept: Window


def parts_of(height: int, width: int, tiles: Tiles) -> list[Part]:
    """Return the parts in which an image is predicted: the whole image, or tiles that overlap.

    The kept parts cover every pixel once; where tiles overlap, the border is in the middle of the overlap.

    Raises:
        DataError: The tiles are too many.

    Example:
        >>> [part.window[1] for part in parts_of(8, 20, Tiles(above=100, size=8))]
        [0, 6, 12]
        >>> [part.kept for part in parts_of(8, 20, Tiles(above=100, size=8))]
        [(0, 0, 8, 7), (0, 7, 8, 6), (0, 13, 8, 7)]
    """
    if height * width <= tiles.above:
        return [Part((0, 0, height, width), (0, 0, height, width))]
    step = max(1, tiles.size - round(tiles.size * _OVERLAP))
    if (height // step + 1) * (width // step + 1) > _MOST_TILES:
        raise DataError(
            f"{height} x {width} pixels in tiles of {tiles.size} are more than {_MOST_TILES} tiles; state a larger "
            "--tile-size"
        )
    return [
        Part((top, left, rows, columns), (first, begin, last - first, end - begin))
        for top, rows, first, last in _intervals(height, tiles.size)
        for left, columns, begin, end in _intervals(width, tiles.size)
    ]


def best_classes(scores: Tensor, extent: Extent, size: tuple[int, int]) -> Classes:
    """Enlarge class scores to the size of the image, and return the class of the highest one.

    Args:
        scores: (1, C, h, w).
        extent: The part of the map that the image covers.
        size: Height H and width W of the image.

    Returns:
        Class indices (H, W), in the narrowest type; the first of equal ones.
    """
    height, width = size
    per_row = scores.shape[1] * width
    if per_row * height <= _MAX_SCORES:
        return _best(enlarge(scores, extent, size))
    rows = max(1, _SCORES_OF_STRIP // per_row)
    strips = [_strip(scores, extent, size, row, min(row + rows, height)) for row in range(0, height, rows)]
    return np.concatenate(strips)


def _intervals(length: int, size: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield start and length of each tile along a side, and the first and the end of its kept pixels."""
    side = min(length, size)
    n_steps = math.ceil((length - side) / max(1, round(side * (1 - _OVERLAP))))
    starts = [(length - side) * step // max(1, n_steps) for step in range(n_steps + 1)]
    borders = [0, *((start + side + following) // 2 for start, following in pairwise(starts)), length]
    for start, (first, end) in zip(starts, pairwise(borders), strict=True):
        yield start, side, first, end


def _strip(scores: Tensor, extent: Extent, size: tuple[int, int], first: int, end: int) -> Classes:
    """Return the best classes of the rows from `first` to `end` of an image, as `enlarge` interpolates them."""
    rows = _interpolated(scores, 2, torch.arange(first, end), size[0], extent.height)
    strip = _interpolated(rows, 3, torch.arange(size[1]), size[1], extent.width)
    return _best(strip)


def _best(scores: Tensor) -> Classes:
    """Return the class of the highest score, (H, W); scores are (1, C, H, W)."""
    kind = np.min_scalar_type(scores.shape[1] - 1)
    return np.asarray(scores[0].argmax(dim=0).cpu().numpy().astype(kind))


def _interpolated(maps: Tensor, dim: int, pixels: Tensor, length: int, fraction: float) -> Tensor:
    """Interpolate maps linearly along a dimension, at the centers of some of the `length` pixels of an image's side."""
    n_cells = maps.shape[dim]
    position = ((pixels.to(maps.device, torch.float64) + 0.5) / length * fraction * n_cells - 0.5).clamp(0, n_cells - 1)
    low = position.floor().long()
    weight = (position - low).to(maps.dtype).view([-1 if axis == dim else 1 for axis in range(maps.dim())])
    lower = maps.index_select(dim, low)
    return torch.lerp(lower, maps.index_select(dim, (low + 1).clamp_max(n_cells - 1)), weight)
