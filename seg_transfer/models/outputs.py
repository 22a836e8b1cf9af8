"""Outputs of networks of any library: running a network, and finding and enlarging its score maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_transfer.errors import ConfigError, SegTransferError, is_out_of_memory, reason_of
from seg_transfer.models.devices import Precision
from seg_transfer.models.precision import arithmetic
from seg_transfer.models.sizes import WHOLE, Extent

# Relative to the largest score. The network may resize its scores on its own device, and the check resizes them again.
_TOLERANCE = 1e-4


class FeatureMaps(NamedTuple):
    """Feature maps and class scores of B images.

    Attributes:
        features: One or more maps, float32 (B, D_i, h_i, w_i), whose channels together are the features; () where only
            scores are available.
        scores: float32 (B, C_s, h, w), logits whose softmax gives the class probabilities; None for a backbone, which
            has no classes.
        extent: The part of the maps that the images cover; the rest is padding at the right and bottom.
    """

    features: tuple[Tensor, ...]
    scores: Tensor | None
    extent: Extent = WHOLE


def run_network(network: nn.Module, images: Tensor, precision: Precision = "float32") -> object:
    """Run a network without gradients.

    Args:
        network: In evaluation mode.
        images: Normalized, float32 (B, 3, H, W), on the network's device.
        precision: What it computes in.

    Returns:
        Whatever the network returns.

    Raises:
        ConfigError: The network fails on these images.
    """
    try:
        with torch.inference_mode(), arithmetic(precision, images.device):
            return network(images)
    except SegTransferError:
        raise
    except Exception as error:  # a network is arbitrary code and fails in arbitrary ways
        if is_out_of_memory(error):
            raise
        height, width = images.shape[2:]
        in_precision = "" if precision == "float32" else f" in precision: {precision}"
        advice = "one that takes images of this size, or whose forward resizes them"
        raise ConfigError(
            f"network {type(network).__name__}: fails on an image of {height} x {width} pixels{in_precision} "
            f"({reason_of(error)}); use {'precision: float32, or ' * bool(in_precision)}{advice}"
        ) from error


def tensors_in(output: object) -> Iterator[Tensor]:
    """Yield all tensors of a network's or a module's output, in order: itself, or the items or values of its parts."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from tensors_in(value)
    elif isinstance(output, Sequence) and not isinstance(output, str | bytes):
        for value in output:
            yield from tensors_in(value)


def is_auxiliary(name: object) -> bool:
    """Return whether a value of a network's output is that of an auxiliary head."""
    return str(name).startswith("aux")


def score_maps(output: object) -> list[Tensor]:
    """List the tensors (B, C, h, w) in a network's output: itself, its items or values, or its attribute ``logits``.

    Values whose names begin with ``aux`` come last: they are those of auxiliary heads.
    """
    parts: list[object] = [output]
    if isinstance(output, Mapping):
        parts = [output[name] for name in sorted(output, key=is_auxiliary)]
    elif isinstance(output, Sequence):
        parts = list(output)
    elif not isinstance(output, Tensor):
        parts = [getattr(output, "logits", None)]
    return [part for part in parts if isinstance(part, Tensor) and part.dim() == 4]


def single_score_map(network: nn.Module, output: object, n_channels: int | None = None) -> Tensor:
    """Return the only score map in a network's output.

    Args:
        network: The network, for the message.
        output: What the network returned.
        n_channels: Consider only maps of this many channels.

    Returns:
        (B, C, h, w).

    Raises:
        ConfigError: There is none, or there are several.
    """
    maps = [scores for scores in score_maps(output) if n_channels in (None, scores.shape[1])]
    if len(maps) != 1:
        classes = "" if n_channels is None else f" of {n_channels} classes"
        raise ConfigError(
            f"network {type(network).__name__}: returns {len(maps)} score maps (B, C, h, w){classes}, "
            "one is expected; provide, by a factory, a network that returns one"
        )
    return maps[0]


def matches_output(scores: Tensor, output: Tensor) -> bool:
    """Return whether an output (B, C, H, W) is given by scores (B, C, h, w).

    They may be equal, or resized bilinearly, and the output may be their softmax, its logarithm or, per channel,
    their sigmoid.
    """
    if output.shape[:2] != scores.shape[:2]:
        return False
    if output.shape == scores.shape:
        return torch.equal(output, scores) or any(_is_close(part, output) for part in _activated(scores))
    size = tuple(output.shape[2:])
    resized = [F.interpolate(scores, size=size, mode="bilinear", align_corners=align) for align in (False, True)]
    return any(_is_close(part, output) for each in resized for part in (each, *_activated(each)))


def _activated(scores: Tensor) -> Iterator[Tensor]:
    yield scores.sigmoid()
    if scores.shape[1] > 1:
        yield scores.softmax(dim=1)
        yield scores.log_softmax(dim=1)


def _is_close(scores: Tensor, output: Tensor) -> bool:
    return float((scores - output).abs().max()) <= _TOLERANCE * float(output.abs().max())


def is_distribution(scores: Tensor) -> bool:
    """Return whether scores (B, C, h, w) are already probabilities: nonnegative, with sum 1 at every position."""
    return bool((scores >= 0).all()) and bool(((scores.float().sum(dim=1) - 1).abs() < 1e-3).all())


def as_logits(scores: Tensor, *, are_probabilities: bool) -> Tensor:
    """Turn a network's scores into logits whose softmax gives the probabilities of at least two classes.

    Args:
        scores: (B, C, h, w). With one channel, the score of the foreground, whose sigmoid is its probability p; the two
            classes are background and foreground, (1 - p, p).
        are_probabilities: Whether the scores are probabilities instead of logits.
    """
    if scores.shape[1] == 1:
        background = 1 - scores if are_probabilities else torch.zeros_like(scores)
        scores = torch.cat([background, scores], dim=1)
    # The softmax of log-probabilities gives the probabilities.
    return scores.clamp_min(torch.finfo(scores.dtype).tiny).log() if are_probabilities else scores


def enlarge(scores: Tensor, extent: Extent, size: Sequence[int]) -> Tensor:
    """Interpolate class scores bilinearly at the centers of an image's pixels.

    Args:
        scores: (B, C, h, w).
        extent: The part of the map that the image covers.
        size: Height H and width W of the image.

    Returns:
        (B, C, H, W).
    """
    height, width = size
    if extent == WHOLE:
        return F.interpolate(scores, size=(height, width), mode="bilinear", align_corners=False)
    y, x = (
        (torch.arange(side, device=scores.device, dtype=scores.dtype) + 0.5) / side * 2 * fraction - 1
        for side, fraction in ((height, extent.height), (width, extent.width))
    )
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None].expand(len(scores), -1, -1, -1)
    return F.grid_sample(scores, grid, mode="bilinear", padding_mode="border", align_corners=False)


def cover(maps: Tensor, extent: Extent) -> Tensor:
    """Cut off the padding: the cells of maps (B, D, h, w) whose centers lie on the image, at least one."""
    if extent == WHOLE:
        return maps
    height, width = (max(1, round(side * fraction)) for side, fraction in zip(maps.shape[2:], extent, strict=True))
    return maps[:, :, :height, :width]
