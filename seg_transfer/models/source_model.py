"""A trained segmentation network, or a backbone without a head, as a source of pixel features."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

from seg_transfer.errors import ConfigError
from seg_transfer.models.devices import Precision
from seg_transfer.models.normalization import RGB, Normalization
from seg_transfer.models.outputs import (
    FeatureMaps,
    as_logits,
    run_network,
    score_maps,
    single_score_map,
)
from seg_transfer.models.sizes import ANY_SIZE, WHOLE, Extent, InputSizes
from seg_transfer.models.watching import (
    INPUT,
    MapLayer,
    Recorded,
    as_scores,
    is_pointwise,
    read_maps,
    recording,
    returning_zeros,
)

Features = Literal["last", "stages"] | Sequence[str] | None
"""What counts as features: the classifier's input, the last map of every stride, or the outputs of named layers. None
means the classifier's input, or the stages of a network without a classifier."""


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A network in evaluation mode, and the layers from which its pixel features are read.

    Attributes:
        network: Takes normalized images (B, 3, H, W), float32, on its device.
        normalization: Mean and std of the images the network was trained on, and its channel order.
        layers: The maps that together are the features; () if only the network's scores are used.
        classifier_name: Name of its last linear layer or convolution, whose output is the class scores; None if the
            scores are the network's own output, or if it has none.
        n_classes: C_s, the number of classes that the network scores; 0 for a backbone.
        outputs_probabilities: Whether the output of a network without a classifier is class probabilities instead of
            logits.
        sizes: The sizes of images that the network takes.
    """

    network: nn.Module
    normalization: Normalization
    layers: tuple[MapLayer, ...]
    classifier_name: str | None
    n_classes: int
    outputs_probabilities: bool = False
    sizes: InputSizes = ANY_SIZE

    @property
    def n_features(self) -> int:
        """D, the channels of all feature maps together; 0 if features are unknown."""
        return sum(layer.channels for layer in self.layers)

    @property
    def features_known(self) -> bool:
        """Whether the source has features; otherwise it has only scores."""
        return bool(self.layers)

    @property
    def scores_known(self) -> bool:
        """Whether the source has class scores; a backbone has none."""
        return self.n_classes > 0

    @property
    def classifier(self) -> nn.Module | None:
        """The layer whose output is the class scores, if there is one."""
        return None if self.classifier_name is None else self.network.get_submodule(self.classifier_name)

    @property
    def linear_classifier(self) -> tuple[Tensor, Tensor | None] | None:
        """Weight (C, D) and bias (C,) where the scores of a pixel are a linear map of its features; None otherwise.

        Then interpolating features and interpolating scores commute. With one score, C is 1; see `as_logits`.
        """
        layer = self.classifier
        read = [(one.name, one.output, one.prefix_tokens) for one in self.layers]
        if layer is None or not is_pointwise(layer) or read != [(self.classifier_name, INPUT, 0)]:
            return None
        bias = None if layer.bias is None else layer.bias.detach().float()
        return layer.weight.detach().flatten(1).float(), bias

    def feature_maps(self, images: Tensor, mean: RGB | None = None, std: RGB | None = None) -> FeatureMaps:
        """Run the network once, in float32 on every device.

        Args:
            images: uint8 (B, 3, H, W), RGB.
            mean, std: Normalize by these (RGB, fractions of 255) instead of the network's own.

        Returns:
            The feature maps and the class scores, each at its own stride.

        Raises:
            ConfigError: The network fails on images of this size.
        """
        return feature_maps_of([self], images, mean, std)[0]

    def class_scores(self, normalized: Tensor) -> tuple[Tensor, Extent]:
        """Compute class scores, with gradients.

        Args:
            normalized: float32 (B, 3, H, W).

        Returns:
            Logits (B, C_s, h, w) of the fitted images, and the part of them that the images cover.
        """
        fitted, extent = self.sizes.fit(normalized)
        with recording(self.network, self._classifiers, self._classifiers) as recorded:
            output: object = self.network(fitted)
        raw = self._raw_scores(recorded, output)
        return as_logits(raw, are_probabilities=self.outputs_probabilities), extent

    def read(self, fitted: Tensor) -> tuple[Tensor, ...]:
        """Run the network on images that it takes; return all maps that are read, then the scores if there are any."""
        maps = _readings([self], fitted, WHOLE)[0]
        return maps.features if maps.scores is None else (*maps.features, maps.scores)

    def _maps(
        self, recorded: Recorded, output: object, fitted: Tensor, extent: Extent, *, with_scores: bool
    ) -> FeatureMaps:
        features = read_maps(recorded, self.layers, fitted.shape[2:])
        scores = self._raw_scores(recorded, output).float() if with_scores and self.scores_known else None
        if scores is not None:
            scores = as_logits(scores, are_probabilities=self.outputs_probabilities)
        return FeatureMaps(features, scores, extent)

    @property
    def _recorded_names(self) -> list[str]:
        return [*(layer.name for layer in self.layers), *self._classifiers]

    @property
    def _classifiers(self) -> list[str]:
        return [] if self.classifier_name is None else [self.classifier_name]

    def _raw_scores(self, recorded: Recorded, output: object) -> Tensor:
        """Return the scores as the network gives them, with one channel for binary networks."""
        if self.classifier_name is None:
            n_channels = {scores.shape[1] for scores in score_maps(output)} & {self.n_classes, self.n_classes - 1}
            return single_score_map(self.network, output, max(n_channels, default=self.n_classes))
        if self.classifier_name not in recorded.scores:
            raise ConfigError(f"layer {self.classifier_name!r}: was not used in a forward pass; name another one")
        given = recorded.scores[self.classifier_name][0]
        if not isinstance(self.classifier, nn.Linear):
            return given
        if given.dim() == 4:
            return given.movedim(-1, 1)
        answer = next(one for one in score_maps(output) if one.shape[1] == given.shape[2])
        as_map = as_scores(given, answer.shape[2:])
        if as_map is None:
            raise ConfigError(
                f"network {type(self.network).__name__}: {given.shape[1]} tokens of its classifier are no map of its "
                f"scores of {answer.shape[2]} x {answer.shape[3]} pixels; choose features: stages"
            )
        return as_map

    def normalize(self, images: Tensor, mean: RGB, std: RGB) -> Tensor:
        """Turn images into the network's input: (pixel / 255 - mean) / std, in its channel order.

        Args:
            images: uint8 (B, 3, H, W), RGB.
            mean, std: RGB, fractions of 255.

        Returns:
            float32 (B, 3, H, W) on the network's device.
        """
        device = device_of(self.network)
        # The bytes are copied first, which are a quarter as many.
        pixels = images.to(device).to(torch.float32)
        normalized = torch.sub(pixels, _of_channels(mean, device)).div_(_of_channels(std, device))
        ordered = normalized.flip(1) if self.normalization.channel_order == "bgr" else normalized
        return ordered.contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=64)
def _of_channels(fractions: RGB, device: torch.device) -> Tensor:
    """Return values of the three channels as (1, 3, 1, 1) on a device: copying them there would wait for it."""
    return 255 * torch.tensor(fractions, device=device).view(1, 3, 1, 1)


def device_of(network: nn.Module) -> torch.device:
    """Return the device that a network's weights are on."""
    return next((tensor.device for tensor in network.parameters()), torch.device("cpu"))


def feature_maps_of(
    sources: Sequence[SourceModel],
    images: Tensor,
    mean: RGB | None = None,
    std: RGB | None = None,
    *,
    linear_scores: bool = True,
    precision: Precision = "float32",
) -> list[FeatureMaps]:
    """Run a network once, and return what each of several sources reads in it.

    Args:
        sources: Sources with the same network, normalization and sizes.
        images, mean, std: As for `SourceModel.feature_maps`.
        linear_scores: Without them, ``scores`` is None if all sources have a `SourceModel.linear_classifier`, and the
            network does not compute them.
        precision: What the network computes in; the maps are float32 in any case.
    """
    first = sources[0]
    own = first.normalization
    fitted, extent = first.sizes.fit(first.normalize(images, mean or own.mean, std or own.std))
    with_scores = linear_scores or any(source.linear_classifier is None for source in sources)
    return _readings(sources, fitted, extent, with_scores=with_scores, precision=precision)


def _readings(
    sources: Sequence[SourceModel],
    fitted: Tensor,
    extent: Extent,
    *,
    with_scores: bool = True,
    precision: Precision = "float32",
) -> list[FeatureMaps]:
    network, classifier = sources[0].network, sources[0].classifier
    names = [name for source in sources for name in source._recorded_names]
    classifiers = [name for source in sources for name in source._classifiers if with_scores]
    with ExitStack() as stack:
        if not with_scores and classifier is not None and is_pointwise(classifier):
            stack.enter_context(returning_zeros(classifier))
        recorded = stack.enter_context(recording(network, names, classifiers))
        output = run_network(network, fitted, precision)
    return [source._maps(recorded, output, fitted, extent, with_scores=with_scores) for source in sources]
