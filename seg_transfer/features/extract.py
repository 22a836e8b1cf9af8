"""Source model + images + pixel sample -> observations, in one forward pass per image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from seg_transfer.features.images import ImageBatch
from seg_transfer.models.normalization import RGB
from seg_transfer.models.outputs import FeatureMaps, cover
from seg_transfer.models.sizes import WHOLE, Extent
from seg_transfer.models.source_model import SourceModel, feature_maps_of
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
    (``align_corners=False``) from each of the network's own maps; the maps are never enlarged.

    Args:
        source: The network.
        images: All images of the sample, in any order; their indices refer to `sample.image_ids`.
        sample: N pixels.
        mean, std: Normalize the images by these (RGB, fractions of 255) instead of the source's own.

    Returns:
        Observations with features float32 (N, D) and source_probs float32 (N, C_s), in the order of the sample, and
        image_embeddings float32 (M, D), the mean of the whole feature maps of every image with a pixel in the sample.
        For a source that has only scores, features and image_embeddings are None; for a backbone, source_probs are.

    Raises:
        ConfigError: The network fails on images of this size.
    """
    return extract_readings([source], images, sample, mean=mean, std=std)[0]


def extract_readings(
    sources: Sequence[SourceModel],
    images: Iterable[ImageBatch],
    sample: PixelSample,
    *,
    mean: RGB | None = None,
    std: RGB | None = None,
) -> list[Observations]:
    """Observe a pixel sample through several readings of one network, with one forward pass per batch for all of them.

    Args:
        sources: Sources with the same network, normalization and sizes.
        images, sample, mean, std: As for `extract`.
    """
    observed = [_Observed(source, sample) for source in sources]
    for batch in images:
        maps = feature_maps_of(sources, torch.from_numpy(batch.pixels), mean, std)
        for one, its_maps in zip(observed, maps, strict=True):
            one.add(batch, its_maps)
    return [one.observations() for one in observed]


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


class _Observed:
    """Collects what the feature maps of all images hold at the sampled pixels."""

    def __init__(self, source: SourceModel, sample: PixelSample) -> None:
        self._sample = sample
        self._rows_of_image = _rows_of_image(sample)
        self._source = source
        self._features = np.empty((len(sample.labels), source.n_features), np.float32)
        self._probabilities = np.empty((len(sample.labels), source.n_classes), np.float32)
        self._embeddings = np.empty((len(sample.image_ids), source.n_features), np.float32)
        self._feature_vectors, self._score_vectors = _OneVector(), _OneVector()

    def add(self, batch: ImageBatch, maps: FeatureMaps) -> None:
        covered = [cover(each, maps.extent) for each in maps.features]
        if covered:
            self._feature_vectors.add(covered)
            means = torch.cat([each.mean(dim=(2, 3)) for each in covered], dim=1)
            self._embeddings[list(batch.indices)] = means.cpu().numpy()
        if maps.scores is not None:
            self._score_vectors.add([cover(maps.scores, maps.extent)])
        for position, index in enumerate(batch.indices):
            rows = self._rows_of_image[index]
            if len(rows):
                self._read(maps, position, rows, pixel_centers(self._sample, index, rows))

    def _read(self, maps: FeatureMaps, position: int, rows: npt.NDArray[np.int64], centers: Tensor) -> None:
        """Read all maps of one image at the centers of its sampled pixels."""
        points = _in_fitted_image(centers, maps.extent)
        if maps.features:
            values = [interpolate_at(each[position], points.to(each.device)) for each in maps.features]
            self._features[rows] = torch.cat(values, dim=1).cpu().numpy()
        if maps.scores is not None:
            scores = interpolate_at(maps.scores[position], points.to(maps.scores.device))
            self._probabilities[rows] = scores.softmax(dim=1).cpu().numpy()

    def observations(self) -> Observations:
        # Interpolation turns maps of one vector into noise of its last digits, which would pass for variation.
        if self._feature_vectors.only is not None:
            self._features[:] = self._embeddings[:] = self._feature_vectors.only.cpu().numpy()
        if self._score_vectors.only is not None:
            self._probabilities[:] = self._score_vectors.only.softmax(dim=0).cpu().numpy()
        index, has_features = self._sample.image_index, self._source.features_known
        return Observations(
            features=self._features if has_features else None,
            labels=self._sample.labels,
            source_probs=self._probabilities if self._source.scores_known else None,
            image_index=index,
            image_embeddings=self._embeddings[np.unique(index)] if has_features else None,
        )


def _in_fitted_image(points: Tensor, extent: Extent) -> Tensor:
    """Return points (n, 2) of an image, as (x, y) in [-1, 1], as points of the padded image."""
    if extent == WHOLE:
        return points
    return (points + 1) * torch.tensor([extent.width, extent.height]) - 1


class _OneVector:
    """The vector that maps hold at every place of every image, ``only``; None once they differ, or without maps."""

    def __init__(self) -> None:
        self.only: Tensor | None = None
        self._differ = False

    def add(self, maps: Sequence[Tensor]) -> None:
        """Compare maps (B, D_i, h_i, w_i) with those before; no longer looks at them once any differed."""
        if self._differ:
            return
        vector = torch.cat([each[0, :, 0, 0] for each in maps]) if self.only is None else self.only
        parts = torch.split(vector, [each.shape[1] for each in maps])
        self._differ = any(bool((each != part[:, None, None]).any()) for each, part in zip(maps, parts, strict=True))
        self.only = None if self._differ else vector
