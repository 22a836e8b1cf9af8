"""The tiny network of the demo as a source, images for it, and the message of an error."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seg_transfer.resources import shipped

TINY = shipped("configs/models/hrnetv2_tiny.py")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)


def images(n: int = 2, height: int = 48, width: int = 72, seed: int = 0) -> Tensor:
    """Smooth colors that differ between images, places and channels."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 5, 7, generator=generator)
    coarse[:, 2] *= 0.3
    return (F.interpolate(coarse, size=(height, width), mode="bilinear") * 255).to(torch.uint8)


def message_of(error: pytest.ExceptionInfo[Exception]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)
