"""Building an HRNet of timm with a linear head: one 1x1 convolution on the four concatenated branches."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_transfer.errors import CheckpointError, ConfigError, reason_of
from seg_transfer.models.checkpoints import load_checkpoint, load_exactly
from seg_transfer.models.compat import quiet
from seg_transfer.models.networks import to_device
from seg_transfer.models.normalization import RGB
from seg_transfer.models.reading import source_of
from seg_transfer.models.sealed import sealed
from seg_transfer.models.source_model import SourceModel

_CLASSIFIER = "classifier"
_MULTIPLE = 32
_BRANCHES = (1, 2, 3, 4)


class HRNetWithLinearHead(nn.Module):
    """The branches of a timm HRNet, enlarged to the size of the first and concatenated, and a 1x1 classifier.

    timm's branches fit together only for sides that are multiples of 32. Images of other sizes are resized bilinearly
    to the nearest such size, which changes a side by at most 16 pixels.

    Its state dict has ``backbone.*``, the names of timm, and ``classifier.weight`` (C, D, 1, 1), ``classifier.bias``.
    """

    def __init__(self, backbone: nn.Module, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Conv2d(n_features, n_classes, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Compute class scores (B, C, H / 4, W / 4) of normalized images (B, 3, H, W)."""
        fitting = [max(_MULTIPLE, round(side / _MULTIPLE) * _MULTIPLE) for side in images.shape[2:]]
        if fitting != list(images.shape[2:]):
            images = F.interpolate(images, size=fitting, mode="bilinear", align_corners=False, antialias=True)
        branches = self.backbone(images)
        size = branches[0].shape[2:]
        resized = [F.interpolate(branch, size=size, mode="bilinear", align_corners=False) for branch in branches[1:]]
        scores: Tensor = self.classifier(torch.cat([branches[0], *resized], dim=1))
        return scores


def load_timm(model: str, weights: Path, mean: RGB, std: RGB, *, device: str) -> SourceModel:
    """Load an HRNet of timm with a linear head; its weights determine the number of classes. Downloads nothing.

    Args:
        model: Name of the network in timm.
        weights: File of its state dict.
        mean, std: Mean and std of the images that it takes, RGB, fractions of 255.
        device: A torch device.

    Raises:
        ConfigError: timm is missing, or has no such network.
        CheckpointError: The weights are missing, unsafe, or those of another network.
    """
    state = load_checkpoint(weights)
    weight = state.get(f"{_CLASSIFIER}.weight")
    if weight is None or weight.dim() != 4:
        raise CheckpointError(
            f"{weights}: lacks {_CLASSIFIER}.weight of shape (classes, features, 1, 1); save the network with its "
            "parameters named backbone.* and classifier.*"
        )
    backbone: Any = _backbone(model)
    network = HRNetWithLinearHead(backbone, sum(backbone.feature_info.channels()), len(weight))
    load_exactly(network, state, str(weights))
    return source_of(to_device(network, device), _CLASSIFIER, mean, std, "rgb")


def _backbone(model: str) -> nn.Module:
    try:
        with quiet():
            timm: Any = import_module("timm")
    except ImportError as error:
        raise ConfigError(
            f"timm {model}: timm cannot be imported ({error}); pip install 'seg_transfer[timm]', and a torchvision "
            "that fits the installed torch"
        ) from error
    try:
        with quiet(), sealed(), torch.random.fork_rng():
            # By default, timm returns branches that are widened for classification, and the stem before them.
            backbone: nn.Module = timm.create_model(
                model, pretrained=False, features_only=True, feature_location="", out_indices=_BRANCHES
            )
    except Exception as error:  # timm raises whatever a constructor raises
        raise ConfigError(f"timm {model}: cannot be built ({reason_of(error)}); name an HRNet of timm") from error
    return backbone
