"""A trained segmentation network as a source of pixel features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from seg_transfer.errors import ConfigError
from seg_transfer.models.checkpoints import load_checkpoint
from seg_transfer.models.configs import ModelConfig, n_classes_of, resolve
from seg_transfer.models.networks import build_network, classifier_name, load_weights, placed

RGB = tuple[float, float, float]


class FeatureMaps(NamedTuple):
    """What a source model makes of B images: float32 `features` (B, D, h, w) and class `scores` (B, C_s, h, w)."""

    features: Tensor
    scores: Tensor


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A network in evaluation mode with the layer that its pixel features are read from.

    Attributes:
        network: An mmseg segmentor, on its device.
        classifier: Its last linear or 1x1 layer: the input is the feature map, the output the class scores.
        n_features: D, the channels of the feature map.
        n_classes: C_s, the classes the network scores.
        mean, std: Of the images the network was trained on (RGB, fractions of 255).
        channel_order: The order of the channels in which the network takes images, "rgb" or "bgr".
    """

    network: nn.Module
    classifier: nn.Module
    n_features: int
    n_classes: int
    mean: RGB
    std: RGB
    channel_order: str

    def feature_maps(self, images: Tensor, mean: RGB | None = None, std: RGB | None = None) -> FeatureMaps:
        """Run the network once.

        Args:
            images: uint8 (B, 3, H, W), RGB.
            mean, std: Normalise by these (RGB, fractions of 255) instead of by the network's own.

        Returns:
            The feature map before the classifier and the class scores, both at the network's own stride.
        """
        caught: list[FeatureMaps] = []
        handle = self.classifier.register_forward_hook(
            lambda _module, inputs, output: caught.append(FeatureMaps(inputs[0], output))
        )
        try:
            with torch.inference_mode():
                self.network(self._normalised(images, mean or self.mean, std or self.std))
        finally:
            handle.remove()
        return caught[-1]

    def _normalised(self, images: Tensor, mean: RGB, std: RGB) -> Tensor:
        weight = next(self.classifier.parameters())
        shape = (1, 3, 1, 1)
        centre = 255 * torch.tensor(mean, device=weight.device).view(shape)
        spread = 255 * torch.tensor(std, device=weight.device).view(shape)
        normalised = (images.to(weight.device, torch.float32) - centre) / spread
        ordered = normalised.flip(1) if self.channel_order == "bgr" else normalised
        return ordered.to(weight.dtype).contiguous(memory_format=torch.channels_last)


def load_source_model(
    config: str | Path | ModelConfig, checkpoint: str | Path | None = None, *, device: str = "cpu", seed: int = 0
) -> SourceModel:
    """Load any mmseg EncoderDecoder as a source model.

    Args:
        config: An mmseg config file (a .py file is run), its ``model`` dict, or a ``source.json`` that the training
            of a source wrote (runs no code; its weights lie beside it).
        checkpoint: Weights for it; None takes those beside ``source.json``, or random ones for any other config.
        device: A torch device, e.g. "cuda:1".
        seed: Of the random weights.

    Raises:
        ConfigError: The config is unreadable, or its class scores are not the output of a 1x1 classifier.
        CheckpointError: The checkpoint is unsafe, or does not fit the config (for example another class count).
    """
    model, weights = resolve(config, checkpoint)
    network = build_network(model, seed=seed)
    if weights is not None:
        load_weights(network, load_checkpoint(weights), str(weights))
    placed(network, device)
    source = as_source_model(network, model)
    _check_hook(source)
    return source


def as_source_model(network: nn.Module, model: ModelConfig) -> SourceModel:
    """See a network that was built from `model` as a source; switches it to evaluation mode."""
    network.eval()
    mean, std, order = _normalisation(model)
    name = classifier_name(network)
    classifier = network.get_submodule(name)
    n_features = getattr(classifier, "in_channels", None)
    if not isinstance(n_features, int):
        raise ConfigError(f"{name} is a {type(classifier).__name__}, no 1x1 convolution; pixel features need one")
    return SourceModel(network, classifier, n_features, n_classes_of(model), mean, std, order)


def _normalisation(model: ModelConfig) -> tuple[RGB, RGB, str]:
    """Mean and std in RGB order as fractions of 255, and the order of channels that the network takes.

    mmseg reads images as BGR and `bgr_to_rgb` turns them; its mean and std are in the order after that.
    """
    preprocessor = model.get("data_preprocessor") or {}
    mean = [float(value) / 255 for value in preprocessor.get("mean") or (0.0, 0.0, 0.0)]
    std = [float(value) / 255 for value in preprocessor.get("std") or (1.0, 1.0, 1.0)]
    if preprocessor.get("bgr_to_rgb", False):
        return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), "rgb"
    return (mean[2], mean[1], mean[0]), (std[2], std[1], std[0]), "bgr"


def _check_hook(source: SourceModel) -> None:
    """The classifier's output must be what the network answers, or its input would not be the last features."""
    size = (1, 3, 64, 64)
    images = torch.arange(3 * 64 * 64, dtype=torch.int64).mul(37).remainder(256).to(torch.uint8).view(size)
    maps = source.feature_maps(images)
    with torch.inference_mode():
        answer = source.network(source._normalised(images, source.mean, source.std))
    if not isinstance(answer, Tensor) or not torch.equal(answer, maps.scores):
        raise ConfigError(
            f"network {type(source.network).__name__}: its class scores are not the output of its 1x1 classifier, "
            "so its pixel features are unknown; use a model that ends in a 1x1 classifier"
        )
