"""Source model + images + pixel sample -> observations, in one forward pass per image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seg_transfer.features.images import ImageBatch
from seg_transfer.features.points import Points, SamplePoints, read_at
from seg_transfer.features.transfer import on_device
from seg_transfer.models.devices import Precision, require_precision
from seg_transfer.models.normalization import RGB
from seg_transfer.models.outputs import FeatureMaps, as_logits, cover
from seg_transfer.models.precision import plain_float32
from seg_transfer.models.source_model import SourceModel, device_of, feature_maps_of
from seg_transfer.observations import Observations, PixelSample


def extract(
    source: SourceModel,
    images: Iterable[ImageBatch],
    sample: PixelSample,
    *,
    mean: RGB | None = None,
    std: RGB | None = None,
    precision: Precision = "float32",
) -> Observations:
    """Observe a pixel sample through a source, with one forward pass per batch of images.

    Features and class scores are read at the centers of the sampled pixels by bilinear interpolation
    (``align_corners=False``) from each of the network's own maps; the maps are never enlarged. Where the scores are
    linear in the features, they are computed from the features of the sampled pixels, and their map is not made.

    Args:
        source: The network.
        images: All images of the sample, in any order; their indices refer to `sample.image_ids`.
        sample: N pixels.
        mean, std: Normalize the images by these (RGB, fractions of 255) instead of the source's own.
        precision: What the network computes in; probabilities of linear scores are computed in float32 in any case.

    Returns:
        Observations with features float32 (N, D) and source_probs float32 (N, C_s), in the order of the sample, and
        image_embeddings float32 (M, D), the mean of the whole feature maps of every image with a pixel in the sample.
        For a source that has only scores, features and image_embeddings are None; for a backbone, source_probs are.

    Raises:
        ConfigError: The network fails on images of this size, or the device lacks the precision.
    """
    return extract_readings([source], images, sample, mean=mean, std=std, precision=precision)[0]


def extract_readings(
    sources: Sequence[SourceModel],
    images: Iterable[ImageBatch],
    sample: PixelSample,
    *,
    mean: RGB | None = None,
    std: RGB | None = None,
    precision: Precision = "float32",
    in_numpy: bool = True,
) -> list[Observations]:
    """Observe a pixel sample through several readings of one network, with one forward pass per batch for all of them.

    Args:
        sources: Sources with the same network, normalization and sizes.
        images, sample, mean, std, precision: As for `extract`.
        in_numpy: Whether to copy the features and probabilities from the device at the end; otherwise they stay there,
            as tensors.
    """
    device = device_of(sources[0].network)
    require_precision(precision, str(device))
    points = SamplePoints(sample, device)
    observed = [_Observed(source, sample, device) for source in sources]
    for batch, pixels in on_device(images, device):
        maps = feature_maps_of(sources, pixels, mean, std, linear_scores=False, precision=precision)
        for one, its_maps in zip(observed, maps, strict=True):
            one.add(batch.indices, its_maps, points.of(batch.indices))
    return [one.observations(in_numpy) for one in observed]


class _Observed:
    """Collects, on the device, what the feature maps of all images hold at the sampled pixels."""

    def __init__(self, source: SourceModel, sample: PixelSample, device: torch.device) -> None:
        self._sample = sample
        self._source = source
        self._linear = source.linear_classifier
        n_pixels, n_images = len(sample.labels), len(sample.image_ids)
        self._features = torch.empty((n_pixels, source.n_features), device=device)
        self._embeddings = torch.empty((n_images, source.n_features), device=device)
        self._probabilities = torch.empty((n_pixels, source.n_classes), device=device)
        self._feature_vectors, self._score_vectors = _OneVector(), _OneVector()

    def add(self, images: Sequence[int], maps: FeatureMaps, points: Points) -> None:
        """Read the maps of a batch of images at the points of their sampled pixels."""
        if maps.features:
            covered = [cover(each, maps.extent) for each in maps.features]
            self._feature_vectors.add(covered)
            means = torch.cat([each.mean(dim=(2, 3)) for each in covered], dim=1)
            for image, mean in zip(images, means, strict=True):
                self._embeddings[image] = mean
            values = [read_at(each, points, maps.extent) for each in maps.features]
            self._features[points.rows] = torch.cat(values, dim=1)
        if maps.scores is not None and self._linear is None:
            self._score_vectors.add([cover(maps.scores, maps.extent)])
            self._probabilities[points.rows] = read_at(maps.scores, points, maps.extent).softmax(dim=1)

    def observations(self, in_numpy: bool) -> Observations:
        """Return what was collected, in NumPy or where it is."""
        # Interpolation turns maps of one vector into noise of its last digits, which would pass for variation.
        if self._feature_vectors.only is not None:
            self._features[:] = self._embeddings[:] = self._feature_vectors.only
        if self._score_vectors.only is not None:
            self._probabilities[:] = self._score_vectors.only.softmax(dim=0)
        if self._linear is not None:
            self._probabilities = self._linear_probabilities(*self._linear)
        index, has_features = self._sample.image_index, self._source.features_known
        embeddings = self._embeddings[torch.from_numpy(np.unique(index)).to(self._embeddings.device)]

        def placed(values: Tensor, is_known: bool) -> Any:
            if not is_known:
                return None
            return values.cpu().numpy() if in_numpy else values

        return Observations(
            features=placed(self._features, has_features),
            labels=self._sample.labels,
            source_probs=placed(self._probabilities, self._source.scores_known),
            image_index=index,
            image_embeddings=embeddings.cpu().numpy() if has_features else None,
        )

    def _linear_probabilities(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        one = self._feature_vectors.only
        with torch.inference_mode(), plain_float32():
            scores = F.linear(self._features if one is None else one[None], weight, bias)
            return as_logits(scores, are_probabilities=False).softmax(dim=1).expand(len(self._features), -1)


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
        pairs = list(zip(maps, parts, strict=True))
        # One cell nearly always shows it, and spares the comparison of whole maps.
        self._differ = any(bool((each[-1, :, -1, -1] != part).any()) for each, part in pairs) or any(
            bool((each != part[:, None, None]).any()) for each, part in pairs
        )
        self.only = None if self._differ else vector
