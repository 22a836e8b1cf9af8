"""Source model + images + pixel sample -> observations, in one forward pass per image."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from seg_transfer.features.images import ImageBatch
from seg_transfer.models.configs import RGB
from seg_transfer.models.source_model import SourceModel
from seg_transfer.observations import Observations, PixelSample


def extract(
    source: SourceModel,
    images: Iterable[ImageBatch],
    sample: PixelSample,
    *,
    mean: RGB | None = None,
    std: RGB | None = None,
) -> Observations:
    """Observe a pixel sample through a source, with one forward pass per batch of images.

    Features and class scores are read at the centers of the sampled pixels by bilinear interpolation
    (``align_corners=False``) from the network's own maps; the maps are never enlarged.

    Args:
        source: The network.
        images: All images of the sample, in any order; their indices refer to `sample.image_ids`.
        sample: N pixels.
        mean, std: Normalize the images by these (RGB, fractions of 255) instead of the source's own.

    Returns:
        Observations with features float32 (N, D) and source_probs float32 (N, C_s), in the order of the sample, and
        image_embeddings float32 (M, D), the mean of the whole feature map of every image with a pixel in the sample.
        For a source that has only scores, features and image_embeddings are None.

    Raises:
        ConfigError: The network fails on images of this size.
    """
    n_pixels = len(sample.labels)
    features = np.empty((n_pixels, source.n_features), np.float32)
    probabilities = np.empty((n_pixels, source.n_classes), np.float32)
    embeddings = np.empty((len(sample.image_ids), source.n_features), np.float32)
    rows_of_image = _rows_of_image(sample)
    for batch in images:
        maps = source.feature_maps(torch.from_numpy(batch.pixels), mean, std)
        if maps.features is not None:
            embeddings[list(batch.indices)] = maps.features.mean(dim=(2, 3)).cpu().numpy()
        for position, index in enumerate(batch.indices):
            rows = rows_of_image[index]
            if len(rows):
                points = pixel_centers(sample, index, rows).to(maps.scores.device)
                if maps.features is not None:
                    features[rows] = interpolate_at(maps.features[position], points).cpu().numpy()
                probabilities[rows] = interpolate_at(maps.scores[position], points).softmax(dim=1).cpu().numpy()
    return Observations(
        features=features if source.features_known else None,
        labels=sample.labels,
        source_probs=probabilities,
        image_index=sample.image_index,
        image_embeddings=embeddings[np.unique(sample.image_index)] if source.features_known else None,
    )


def pixel_centers(sample: PixelSample, image: int, rows: npt.NDArray[np.int64]) -> Tensor:
    """Compute the centers of sampled pixels of one image.

    Args:
        sample: The pixel sample.
        image: Index of the image.
        rows: Positions of pixels in the sample, all of this image.

    Returns:
        float32 (n, 2) as (x, y), where the image spans [-1, 1] in both directions.
    """
    height, width = sample.image_sizes[image]
    x = (sample.columns[rows] + 0.5) / width
    y = (sample.rows[rows] + 0.5) / height
    return torch.from_numpy(np.stack([x, y], axis=1) * 2 - 1).float()


def interpolate_at(feature_map: Tensor, points: Tensor) -> Tensor:
    """Interpolate a map bilinearly at points; beyond the outermost centers, the map continues with its border values.

    Args:
        feature_map: float32 (D, h, w).
        points: float32 (n, 2) as `pixel_centers` returns them.

    Returns:
        (n, D).
    """
    grid = points[None, None]
    values = F.grid_sample(feature_map[None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    return values[0, :, 0].T


def _rows_of_image(sample: PixelSample) -> list[npt.NDArray[np.int64]]:
    """Return, for every image, the positions of its pixels in the sample."""
    order = np.argsort(sample.image_index, kind="stable")
    counts = np.bincount(sample.image_index, minlength=len(sample.image_ids))
    return np.split(order, np.cumsum(counts)[:-1])
