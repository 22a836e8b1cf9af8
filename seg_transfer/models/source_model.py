"""A trained segmentation network as a source of pixel features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from seg_transfer.errors import ConfigError
from seg_transfer.models.checkpoints import load_checkpoint
from seg_transfer.models.configs import RGB, ModelConfig, n_classes_of, origin_of, resolve
from seg_transfer.models.networks import build_network, classifier_name, load_weights, to_device
from seg_transfer.models.outputs import (
    FeatureMaps,
    is_distribution,
    matches_output,
    run_network,
    run_with_hook,
    score_maps,
    single_score_map,
)


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A network in evaluation mode, and the layer before which its pixel features are read.

    Attributes:
        network: Takes normalized images (B, 3, H, W), float32, on its device.
        classifier: Its last linear or 1x1 layer, whose input is the feature map and whose output is the class scores;
            a linear layer has the channels last. None if only the network's output is used.
        n_features: D, the channels of the feature map; 0 without a classifier.
        n_classes: C_s, the number of classes that the network scores.
        mean, std: Mean and std of the images the network was trained on (RGB, fractions of 255).
        channel_order: Channel order of the images that the network takes, "rgb" or "bgr".
        outputs_probabilities: Whether the output of a network without a classifier is class probabilities instead of
            logits.
    """

    network: nn.Module
    classifier: nn.Module | None
    n_features: int
    n_classes: int
    mean: RGB
    std: RGB
    channel_order: str
    outputs_probabilities: bool = False

    @property
    def features_known(self) -> bool:
        """Whether the source has features; otherwise it has only scores."""
        return self.classifier is not None

    def feature_maps(self, images: Tensor, mean: RGB | None = None, std: RGB | None = None) -> FeatureMaps:
        """Run the network once, in float32 on every device.

        Args:
            images: uint8 (B, 3, H, W), RGB.
            mean, std: Normalize by these (RGB, fractions of 255) instead of the network's own.

        Returns:
            The feature map before the classifier and the class scores, both at the network's own stride. Without a
            classifier, there are no features, and the scores are those that the network outputs.

        Raises:
            ConfigError: The network fails on images of this size.
        """
        normalized = self.normalize(images, mean or self.mean, std or self.std)
        if self.classifier is None:
            return FeatureMaps(None, self._scores_from(run_network(self.network, normalized)))
        return run_with_hook(self.network, self.classifier, normalized)[0]

    def _scores_from(self, output: object) -> Tensor:
        scores = single_score_map(self.network, output, self.n_classes).float()
        # The softmax of log-probabilities gives the probabilities.
        return scores.clamp_min(torch.finfo(scores.dtype).tiny).log() if self.outputs_probabilities else scores

    def normalize(self, images: Tensor, mean: RGB, std: RGB) -> Tensor:
        """Turn images into the network's input: (pixel / 255 - mean) / std, in its channel order.

        Args:
            images: uint8 (B, 3, H, W), RGB.
            mean, std: RGB, fractions of 255.

        Returns:
            float32 (B, 3, H, W) on the network's device.
        """
        weight = next((self.classifier or self.network).parameters())
        shape = (1, 3, 1, 1)
        center = 255 * torch.tensor(mean, device=weight.device).view(shape)
        spread = 255 * torch.tensor(std, device=weight.device).view(shape)
        normalized = (images.to(weight.device, torch.float32) - center) / spread
        ordered = normalized.flip(1) if self.channel_order == "bgr" else normalized
        return ordered.contiguous(memory_format=torch.channels_last)


def load_source_model(
    config: str | Path | ModelConfig,
    checkpoint: str | Path | None = None,
    *,
    device: str = "cpu",
    seed: int = 0,
    scores_only: bool = False,
) -> SourceModel:
    """Load any mmseg EncoderDecoder as a source model.

    Args:
        config: An mmseg config file (a .py file is run), its ``model`` dict, or the ``source.json`` of a source that
            was trained here (runs no code; its weights lie beside it).
        checkpoint: Its weights. None means those beside ``source.json``, or random weights for any other config.
        device: A torch device, such as "cuda:1".
        seed: Seed of the random weights.
        scores_only: Use only the network's output and no features, for a network that does not end in a classifier.

    Returns:
        The source model, in evaluation mode.

    Raises:
        ConfigError: The config is unreadable, or its class scores are not the output of a 1x1 classifier.
        CheckpointError: The checkpoint is unsafe, or does not fit the config (for example, the class count differs).
    """
    model, weights = resolve(config, checkpoint)
    network = build_network(model, seed=seed, origin=origin_of(config))
    if weights is not None:
        load_weights(network, load_checkpoint(weights), str(weights))
    to_device(network, device)
    if scores_only:
        return source_of_scores(network, *_normalization(model), n_classes=n_classes_of(model))
    return verify_classifier_output(as_source_model(network, model))


def as_source_model(network: nn.Module, model: ModelConfig) -> SourceModel:
    """Wrap a network that was built from `model` as a source; switches it to evaluation mode.

    Raises:
        ConfigError: The network has no 1x1 classifier, or the config's normalization does not have three channels.
    """
    network.eval()
    name = classifier_name(network)
    n_features, _ = sizes_of(network.get_submodule(name), name)
    return SourceModel(network, network.get_submodule(name), n_features, n_classes_of(model), *_normalization(model))


def _normalization(model: ModelConfig) -> tuple[RGB, RGB, str]:
    """Return mean and std in RGB order as fractions of 255, and the channel order that the network takes.

    mmseg reads images as BGR, and `bgr_to_rgb` reverses the channels; its mean and std are in the resulting order.
    """
    preprocessor = model.get("data_preprocessor") or {}
    mean, std = (
        [float(value) / 255 for value in preprocessor.get(field) or (default,) * 3]
        for field, default in (("mean", 0.0), ("std", 1.0))
    )
    if not len(mean) == len(std) == 3:
        raise ConfigError("model config: field data_preprocessor: mean and std must have three channels; correct them")
    if preprocessor.get("bgr_to_rgb", False):
        return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), "rgb"
    return (mean[2], mean[1], mean[0]), (std[2], std[1], std[0]), "bgr"


def source_of(network: nn.Module, classifier: str, mean: RGB, std: RGB, channel_order: str) -> SourceModel:
    """Wrap any network as a source whose features are read before its layer `classifier`.

    Args:
        network: Takes normalized images (B, 3, H, W); switched to evaluation mode.
        classifier: Dotted name of its last linear or 1x1 layer.
        mean, std: Mean and std of the images it takes, RGB, fractions of 255.
        channel_order: "rgb" or "bgr".

    Raises:
        ConfigError: The layer does not exist, is not a linear or 1x1 layer on a map, or does not compute the output.
    """
    network.eval()
    try:
        layer = network.get_submodule(classifier)
    except AttributeError as error:
        names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        raise ConfigError(
            f"network {type(network).__name__}: has no layer {classifier!r}; its last ones are {', '.join(names[-3:])}"
        ) from error
    return verify_classifier_output(SourceModel(network, layer, *sizes_of(layer, classifier), mean, std, channel_order))


def source_of_scores(
    network: nn.Module, mean: RGB, std: RGB, channel_order: str, n_classes: int | None = None
) -> SourceModel:
    """Wrap any network whose output is class scores or probabilities as a source of class probabilities alone.

    Args:
        network: Takes normalized images (B, 3, H, W); switched to evaluation mode.
        mean, std: Mean and std of the images it takes, RGB, fractions of 255.
        channel_order: "rgb" or "bgr".
        n_classes: Its number of classes, if known.

    Raises:
        ConfigError: The output does not have exactly one score map (of `n_classes` classes, if given).
    """
    network.eval()
    source = SourceModel(network, None, 0, 0, mean, std, channel_order)
    output = run_network(network, source.normalize(_test_image(), mean, std))
    scores = single_score_map(network, output, n_classes)
    if scores.shape[1] < 2:
        raise ConfigError(f"network {type(network).__name__}: returns one channel; a channel per class is needed")
    return replace(source, n_classes=scores.shape[1], outputs_probabilities=is_distribution(scores))


def sizes_of(classifier: nn.Module, name: str) -> tuple[int, int]:
    """Return the numbers of features and classes of a linear or 1x1 layer; raises ConfigError for any other layer."""
    if isinstance(classifier, nn.Linear):
        return classifier.in_features, classifier.out_features
    if isinstance(classifier, nn.Conv2d) and classifier.kernel_size == (1, 1) and classifier.groups == 1:
        return classifier.in_channels, classifier.out_channels
    raise ConfigError(
        f"classifier {name} is a {type(classifier).__name__}, but pixel features need a linear layer or 1x1 "
        "convolution; name such a layer, or set scores_only: true to use its class probabilities alone"
    )


def verify_classifier_output(source: SourceModel) -> SourceModel:
    """Return the same source, after checking that the network's output is the output of its classifier.

    The network may resize that output bilinearly. If its output were anything else, the classifier's input would not be
    the last features.

    Raises:
        ConfigError: The outputs differ, or the classifier's input is not a feature map.
    """
    assert source.classifier is not None
    images = source.normalize(_test_image(), source.mean, source.std)
    maps, output = run_with_hook(source.network, source.classifier, images)
    assert maps.features is not None
    is_map = maps.scores.dim() == 4 and maps.features.shape[2:] == maps.scores.shape[2:]
    if is_map and any(matches_output(maps.scores, scores) for scores in score_maps(output)):
        return source
    reason = (
        "its class scores are not the output of its 1x1 classifier"
        if is_map
        else "its classifier sees no feature map of the size of its scores"
    )
    alternative = (
        ", or set scores_only: true to use its class probabilities alone" if len(score_maps(output)) == 1 else ""
    )
    raise ConfigError(
        f"network {type(source.network).__name__}: {reason}, so its pixel features are unknown; "
        f"use a model that ends in a 1x1 classifier{alternative}"
    )


def _test_image() -> Tensor:
    """Make an image of 64 x 64 pixels with many different values."""
    size = (1, 3, 64, 64)
    return torch.arange(3 * 64 * 64, dtype=torch.int64).mul(37).remainder(256).to(torch.uint8).view(size)
