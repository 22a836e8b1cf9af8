"""What a network that is read as a source must not do: answer at random, or at other places than its image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from seg_transfer.errors import ComputationError, ConfigError
from seg_transfer.models.outputs import is_distribution, run_network, score_maps, tensors_in
from seg_transfer.models.source_model import SourceModel
from seg_transfer.models.watching import covers

# Relative to the largest value: sums of floats on a GPU may differ in their order, and noise is far larger.
_NOISE = 1e-3
# Where one quarter of an image changes, networks of every library change that quarter of their maps at least as much as
# any other, even with random weights; equally where each cell sees the whole image.
_ELSEWHERE = 4.0


def require_finite(network: nn.Module, scores: Iterable[Tensor]) -> None:
    """Raise ComputationError if scores are not finite, of which nothing else could be said."""
    if not all(bool(torch.isfinite(each).all()) for each in scores):
        raise ComputationError(
            f"network {type(network).__name__}: gives scores that are not finite; lower learning_rate or name other "
            "weights"
        )


def require_repeatable(network: nn.Module, images: Tensor, output: object) -> None:
    """Check that a network in evaluation mode gives the same for the same images, and stays in that mode.

    Args:
        network: The network, which has just run.
        images: Normalized (B, 3, H, W).
        output: What it returned for these images.

    Raises:
        ConfigError: It does not.
    """
    training = next((name for name, module in network.named_modules() if module.training), None)
    if training is not None:
        where = f"layer {training!r}" if training else "itself"
        raise ConfigError(
            f"network {type(network).__name__}: switches {where} to training mode in a forward pass, so that other "
            "images change its features; remove that from its forward"
        )
    again = run_network(network, images)
    for first, second in zip(_tensors(output), _tensors(again), strict=True):
        scale = first.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
        if first.shape != second.shape or bool((first - second).abs().max() > _NOISE * scale):
            raise ConfigError(
                f"network {type(network).__name__}: gives different outputs for the same image, so that its features "
                "cannot be repeated; remove from its forward what is random (dropout, noise) or counts its calls"
            )


def _tensors(output: object) -> list[Tensor]:
    tensors = list(tensors_in(output)) or score_maps(output)
    return [tensor.float() for tensor in tensors if tensor.numel()]


def require_map(network: nn.Module, what: str, sides: Sequence[int], size: Sequence[int]) -> None:
    """Check that a map may cover an image: that its sides are those of the image at one stride.

    Args:
        network: The network, for the message.
        what: What the map is, for the message.
        sides: Height and width of the map.
        size: Height and width of the image.

    Raises:
        ConfigError: They are not.
    """
    if not covers(sides, size):
        raise ConfigError(
            f"network {type(network).__name__}: {what} {sides[0]} x {sides[1]} cells for an image of {size[0]} x "
            f"{size[1]} pixels, so it does not cover the image; have it return maps (B, C, height, width) of whole "
            "images, padded where its convolutions are not"
        )


def require_scores(network: nn.Module, scores: Tensor) -> None:
    """Raise ConfigError for an answer (B, 1, H, W) that is class indices or a mask instead of scores."""
    if scores.shape[1] == 1 and not is_distribution(scores) and bool((scores == scores.round()).all()):
        raise ConfigError(
            f"network {type(network).__name__}: returns class indices or a mask instead of class scores; have it "
            "return its scores"
        )


def require_in_place(source: SourceModel, images: Tensor) -> None:
    """Check that what a source reads belongs to the places where it is read.

    One quarter of the images is changed. Where another quarter of a map changes far more, the map is flipped,
    transposed or otherwise rearranged: by a network that runs again on flipped images, or that sorts its tokens.

    Args:
        source: The source.
        images: Normalized images that it takes.

    Raises:
        ConfigError: A map belongs to other places.
    """
    before = source.read(images.clone())
    elsewhere = _largest_changes_elsewhere(source, images, before, mirrored=False)
    if max(elsewhere, default=0.0) <= _ELSEWHERE:
        return
    # A random network may happen to change little in one quarter; a rearranged map moves the opposite quarter too.
    opposite = _largest_changes_elsewhere(source, images, before, mirrored=True)
    for name, one, other in zip(_names(source), elsewhere, opposite, strict=True):
        if min(one, other) > _ELSEWHERE:
            raise ConfigError(
                f"network {type(source.network).__name__}: {name} at other places than the image does, as those of "
                "flipped images or of rearranged tokens do; name other layers as features"
            )


def _largest_changes_elsewhere(
    source: SourceModel, images: Tensor, before: Sequence[Tensor], *, mirrored: bool
) -> list[float]:
    """Return for each map how much more it changes elsewhere when the top right quarter does, or the bottom left."""
    height, width = images.shape[2:]
    changed = images.clone()
    rows, columns = slice(0, height // 2), slice(width - width // 2, width)
    if mirrored:
        rows, columns = slice(height - height // 2, height), slice(0, width // 2)
    changed[:, :, rows, columns] *= -1
    differences = [
        (one - other).abs().mean(dim=(0, 1)) for one, other in zip(before, source.read(changed), strict=True)
    ]
    return [_changes_elsewhere(one.flip(0, 1) if mirrored else one) for one in differences]


def _names(source: SourceModel) -> list[str]:
    layers = [f"the map of layer {layer.name!r} changes" for layer in source.layers]
    return [*layers, "the map of its scores changes"] if source.scores_known else layers


def _changes_elsewhere(change: Tensor) -> float:
    """Return how much more a map (h, w) changes in another quarter than in the top right one; 0 for tiny maps."""
    rows, columns = (side // 2 for side in change.shape)
    if not rows or not columns:
        return 0.0
    own = change[:rows, -columns:].mean()
    others = change[:rows, :columns], change[-rows:, :columns], change[-rows:, -columns:]
    return float(max(other.mean() for other in others) / own.clamp_min(torch.finfo(torch.float32).tiny))
