"""Where the pixels of a sample lie in feature maps, and what the maps hold there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seg_transfer.models.sizes import WHOLE, Extent
from seg_transfer.observations import PixelSample


class Points(NamedTuple):
    """Points in the images of a batch.

    Attributes:
        rows: int64 (n,), the positions of their pixels in the sample.
        images: int64 (n,), the position of each point's image in the batch.
        centers: float32 (n, 2), row and column as fractions of the image.
    """

    rows: Tensor
    images: Tensor
    centers: Tensor


class SamplePoints:
    """The pixels of a sample, ordered by image, on the device that the maps are on.

    Args:
        sample: N pixels.
        device: Where the points are needed; nothing is copied there later.
    """

    def __init__(self, sample: PixelSample, device: torch.device) -> None:
        order = np.argsort(sample.image_index, kind="stable")
        counts = np.bincount(sample.image_index, minlength=len(sample.image_ids))
        self._ends = np.concatenate([[0], counts.cumsum()]).tolist()
        self._rows = torch.from_numpy(order).to(device)
        self._centers = pixel_centers(sample)[order].to(device)

    def of(self, images: Sequence[int]) -> Points:
        """Return the points of a batch of images; an image may have none."""
        parts = [slice(self._ends[image], self._ends[image + 1]) for image in images]
        return Points(
            torch.cat([self._rows[part] for part in parts]),
            torch.cat([torch.full_like(self._rows[part], position) for position, part in enumerate(parts)]),
            torch.cat([self._centers[part] for part in parts]),
        )


def pixel_centers(sample: PixelSample) -> Tensor:
    """Compute the centers of sampled pixels, float32 (N, 2): row and column as fractions of the image."""
    corners = np.stack([sample.rows, sample.columns], axis=1)
    return torch.from_numpy((corners + 0.5) / sample.image_sizes[sample.image_index]).float()


def read_at(maps: Tensor, points: Points, extent: Extent = WHOLE) -> Tensor:
    """Interpolate the maps of a batch bilinearly at points, as ``align_corners=False`` does.

    Beyond the outermost centers of its cells, a map continues with its border values. Maps in the memory format
    ``channels_last`` are read in place; others are copied to it.

    Args:
        maps: float32 (B, D, h, w).
        points: n points in the B images.
        extent: The part of the maps that the images cover.

    Returns:
        (n, D).

    Example:
        >>> maps = torch.tensor([[[[10.0, 20.0]]]])
        >>> first = torch.zeros(3, dtype=torch.int64)
        >>> read_at(maps, Points(first, first, torch.tensor([[0.5, 0.25], [0.5, 0.5], [0.5, 1.0]])))[:, 0]
        tensor([10., 15., 20.])
    """
    channels, height, width = maps.shape[1:]
    top, bottom, down = _neighbors(points.centers[:, 0] * (height * extent.height), height)
    left, right, across = _neighbors(points.centers[:, 1] * (width * extent.width), width)
    upper, lower = ((points.images * height + row) * width for row in (top, bottom))
    cells = torch.stack([upper + left, upper + right, lower + left, lower + right], dim=1)
    weights = [(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across]
    vectors = maps.permute(0, 2, 3, 1).reshape(-1, channels)
    return F.embedding_bag(cells, vectors, per_sample_weights=torch.stack(weights, dim=1), mode="sum")


def _neighbors(position: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cells before and after positions along a side, and how far between their centers these lie."""
    place = (position - 0.5).clamp(0, side - 1)
    before = place.floor()
    first = before.long()
    return first, (first + 1).clamp_max(side - 1), place - before
