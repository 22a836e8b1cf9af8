"""What networks of any library answer: calling one, finding the score map in its answer, and listening to a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_transfer.errors import ConfigError, SegTransferError, is_out_of_memory, reason_of
from seg_transfer.models.precision import plain_float32

# Of the largest score: an enlarged map is computed by the network on its own device, and here once more.
_TOLERANCE = 1e-4


class FeatureMaps(NamedTuple):
    """What a source model makes of B images: float32 `features` (B, D, h, w) and class `scores` (B, C_s, h, w).

    `features` is None where only scores can be had. The softmax of the scores are the class probabilities.
    """

    features: Tensor | None
    scores: Tensor


def answer_of(network: nn.Module, images: Tensor) -> object:
    """Run a network on normalised images (B, 3, H, W), in float32; raises ConfigError where it fails on them."""
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


def hooked(network: nn.Module, classifier: nn.Module, images: Tensor) -> tuple[FeatureMaps, object]:
    """Run a network, and give the input and the output of its classifier, channels first, beside its answer."""
    caught: list[tuple[Any, Any]] = []

    def catch(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        caught.append(((*inputs, *named.values())[0], output))

    handle = classifier.register_forward_hook(catch, with_kwargs=True)
    try:
        answer = answer_of(network, images)
    finally:
        handle.remove()
    if not caught:
        raise ConfigError(f"network {type(network).__name__}: does not use its classifier; name its last layer")
    features, scores = caught[-1]
    if isinstance(classifier, nn.Linear):
        features, scores = features.movedim(-1, 1), scores.movedim(-1, 1)
    return FeatureMaps(features, scores), answer


def score_maps(answer: object) -> list[Tensor]:
    """The tensors (B, C, h, w) in an answer: itself, its items, its fields, or its attribute ``logits``."""
    parts: list[object] = [answer]
    if isinstance(answer, Mapping):
        parts = list(answer.values())
    elif isinstance(answer, Sequence):
        parts = list(answer)
    elif not isinstance(answer, Tensor):
        parts = [getattr(answer, "logits", None)]
    return [part for part in parts if isinstance(part, Tensor) and part.dim() == 4]


def only_score_map(network: nn.Module, answer: object, n_classes: int | None = None) -> Tensor:
    """The one score map (B, C_s, h, w) in an answer; raises ConfigError where there is none, or several."""
    found = [scores for scores in score_maps(answer) if n_classes in (None, scores.shape[1])]
    if len(found) != 1:
        classes = "" if n_classes is None else f" of {n_classes} classes"
        raise ConfigError(
            f"network {type(network).__name__}: answers with {len(found)} score maps (B, C, h, w){classes}, "
            "one is expected; let a factory return a network that answers with one"
        )
    return found[0]


def is_answered(scores: Tensor, answer: Tensor) -> bool:
    """Whether an answer is these scores, or these enlarged or reduced bilinearly."""
    if answer.shape[:2] != scores.shape[:2]:
        return False
    if answer.shape == scores.shape:
        return torch.equal(answer, scores)
    size, tolerance = tuple(answer.shape[2:]), _TOLERANCE * float(answer.abs().max())
    resized = [F.interpolate(scores, size=size, mode="bilinear", align_corners=align) for align in (False, True)]
    return any(float((one - answer).abs().max()) <= tolerance for one in resized)


def is_distribution(scores: Tensor) -> bool:
    """Whether the scores are probabilities already: not negative, and 1 in sum at every place."""
    return bool((scores >= 0).all()) and bool(((scores.float().sum(dim=1) - 1).abs() < 1e-3).all())
