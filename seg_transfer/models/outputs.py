"""Outputs of networks of any library: running a network, finding its score map, and hooking its classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_transfer.errors import ConfigError, SegTransferError, is_out_of_memory, reason_of
from seg_transfer.models.precision import plain_float32

# Relative to the largest score. The network may resize its scores on its own device, and the check resizes them again.
_TOLERANCE = 1e-4


class FeatureMaps(NamedTuple):
    """Feature map and class scores of B images.

    Attributes:
        features: float32 (B, D, h, w); None where only scores are available.
        scores: float32 (B, C_s, h, w), logits whose softmax gives the class probabilities.
    """

    features: Tensor | None
    scores: Tensor


def run_network(network: nn.Module, images: Tensor) -> object:
    """Run a network in float32 without gradients.

    Args:
        network: In evaluation mode.
        images: Normalized, float32 (B, 3, H, W), on the network's device.

    Returns:
        Whatever the network returns.

    Raises:
        ConfigError: The network fails on these images.
    """
    try:
        with torch.inference_mode(), plain_float32():
            return network(images)
    except SegTransferError:
        raise
    except Exception as error:  # a network is arbitrary code and fails in arbitrary ways
        if is_out_of_memory(error):
            raise
        height, width = images.shape[2:]
        raise ConfigError(
            f"network {type(network).__name__}: fails on an image of {height} x {width} pixels ({reason_of(error)}); "
            "use one that takes images of any size, or whose forward resizes them"
        ) from error


def run_with_hook(network: nn.Module, classifier: nn.Module, images: Tensor) -> tuple[FeatureMaps, object]:
    """Run a network as `run_network` does, and record the input and output of its classifier.

    Args:
        network: In evaluation mode.
        classifier: A linear or 1x1 layer of the network.
        images: As for `run_network`.

    Returns:
        The input and output of the classifier, channels first, and the output of the network.

    Raises:
        ConfigError: The network fails, or does not use its classifier.
    """
    calls: list[tuple[Any, Any]] = []

    def record(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        calls.append(((*inputs, *named.values())[0], output))

    handle = classifier.register_forward_hook(record, with_kwargs=True)
    try:
        output = run_network(network, images)
    finally:
        handle.remove()
    if not calls:
        raise ConfigError(f"network {type(network).__name__}: does not use its classifier; name its last layer")
    features, scores = calls[-1]
    if isinstance(classifier, nn.Linear):
        features, scores = features.movedim(-1, 1), scores.movedim(-1, 1)
    return FeatureMaps(features, scores), output


def score_maps(output: object) -> list[Tensor]:
    """List the tensors (B, C, h, w) in a network's output: itself, its items or values, or its attribute ``logits``."""
    parts: list[object] = [output]
    if isinstance(output, Mapping):
        parts = list(output.values())
    elif isinstance(output, Sequence):
        parts = list(output)
    elif not isinstance(output, Tensor):
        parts = [getattr(output, "logits", None)]
    return [part for part in parts if isinstance(part, Tensor) and part.dim() == 4]


def single_score_map(network: nn.Module, output: object, n_classes: int | None = None) -> Tensor:
    """Return the only score map in a network's output.

    Args:
        network: The network, for the message.
        output: What `run_network` returned.
        n_classes: Consider only maps of this many classes.

    Returns:
        (B, C_s, h, w).

    Raises:
        ConfigError: There is none, or there are several.
    """
    maps = [scores for scores in score_maps(output) if n_classes in (None, scores.shape[1])]
    if len(maps) != 1:
        classes = "" if n_classes is None else f" of {n_classes} classes"
        raise ConfigError(
            f"network {type(network).__name__}: returns {len(maps)} score maps (B, C, h, w){classes}, "
            "one is expected; provide, by a factory, a network that returns one"
        )
    return maps[0]


def matches_output(scores: Tensor, output: Tensor) -> bool:
    """Return whether an output (B, C, H, W) equals scores (B, C, h, w), as they are or resized bilinearly."""
    if output.shape[:2] != scores.shape[:2]:
        return False
    if output.shape == scores.shape:
        return torch.equal(output, scores)
    size, tolerance = tuple(output.shape[2:]), _TOLERANCE * float(output.abs().max())
    resized = [F.interpolate(scores, size=size, mode="bilinear", align_corners=align) for align in (False, True)]
    return any(float((candidate - output).abs().max()) <= tolerance for candidate in resized)


def is_distribution(scores: Tensor) -> bool:
    """Return whether scores (B, C, h, w) are already probabilities: nonnegative, with sum 1 at every position."""
    return bool((scores >= 0).all()) and bool(((scores.float().sum(dim=1) - 1).abs() < 1e-3).all())
