"""Small networks of timm, torchvision and segmentation_models_pytorch with random weights, and images for them."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_transfer.models.compat import import_torchvision, quiet
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.sources import parse_entry


def library(name: str) -> Any:
    """Import a library that needs torchvision; skips the test where it is not installed."""
    import_torchvision()
    with quiet():
        return importlib.import_module(name) if importlib.util.find_spec(name) else pytest.skip(f"no {name}")


def seeded(network: nn.Module, seed: int = 4) -> nn.Module:
    """Give a network random weights, the same every time, with which all its outputs are of the order of one."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            parameter.data = noise / parameter[0].numel() ** 0.5
        else:
            parameter.data = (1.0 if name.endswith("weight") else 0.0) + 0.1 * noise
    return network.eval()


def saved(network: nn.Module, file: Path) -> Path:
    """Save weights as most people do."""
    torch.save(network.state_dict(), file)
    return file


def entry(**fields: Any) -> SourceEntry:
    return parse_entry({"name": "net", "dataset": "elsewhere", **fields})


def pixels(height: int, width: int, n: int = 2) -> Tensor:
    """Smooth images, uint8 (n, 3, height, width)."""
    coarse = torch.rand(n, 3, 5, 7, generator=torch.Generator().manual_seed(3))
    return (F.interpolate(coarse, size=(height, width), mode="bilinear") * 255).to(torch.uint8)


def normalized(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    center, spread = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    return (images.float() / 255 - center) / spread


def refusal(kind: type[Exception], **fields: Any) -> str:
    """Load an entry that is wrong, and return the one line that says why."""
    with pytest.raises(kind) as caught:
        entry(**fields).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)
