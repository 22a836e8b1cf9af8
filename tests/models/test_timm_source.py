"""HRNets of timm with a linear head. timm needs a torchvision that fits torch: where there is none, a stand-in makes
four branches of the same strides, and asks for the same options.
"""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.models.adapters.timm import TimmEntry
from seg_transfer.models.checkpoints import save_weights

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
WIDTHS = (4, 6, 8, 10)


class Branches(nn.Module):
    """Maps at strides 4, 8, 16 and 32, of images whose sides are multiples of 32."""

    feature_info = SimpleNamespace(channels=lambda: list(WIDTHS))

    def __init__(self) -> None:
        super().__init__()
        strides = (4, 8, 16, 32)
        self.convs = nn.ModuleList(nn.Conv2d(3, n, s, stride=s) for n, s in zip(WIDTHS, strides, strict=True))

    def forward(self, images: Tensor) -> list[Tensor]:
        assert all(side % 32 == 0 for side in images.shape[2:])
        return [torch.tanh(conv(images)) for conv in self.convs]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the stand-in for timm was asked for."""
    calls: list[Any] = []

    def create_model(name: str, **options: Any) -> nn.Module:
        calls.append((name, options))
        if name != "hrnet_w18":
            raise RuntimeError(f"Unknown model ({name})")
        return Branches()

    timm = ModuleType("timm")
    timm.create_model = create_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", timm)
    return calls


def entry(model: str, weights: Path) -> TimmEntry:
    return TimmEntry(name="net", dataset="elsewhere", timm=model, weights=weights, mean=MEAN, std=STD)


def written(folder: Path, n_classes: int = 7) -> tuple[TimmEntry, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    shapes = {f"backbone.{name}": tensor.shape for name, tensor in Branches().state_dict().items()}
    shapes |= {"classifier.weight": (n_classes, sum(WIDTHS), 1, 1), "classifier.bias": (n_classes,)}
    state = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    # By the root of how many products each sums up, so that all outputs are of the order of one.
    state = {name: tensor / tensor[0].numel() ** 0.5 for name, tensor in state.items()}
    save_weights(state, folder / "w.safetensors")
    return entry("hrnet_w18", folder / "w.safetensors"), state


def pixels(height: int, width: int) -> Tensor:
    coarse = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(3))
    return (F.interpolate(coarse, size=(height, width), mode="bilinear") * 255).to(torch.uint8)


def test_the_branches_are_concatenated_at_the_size_of_the_first(tmp_path, asked):
    entry, state = written(tmp_path)
    source = entry.load()
    images = pixels(64, 96)
    normalized = (images.double() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    branches = []
    for place, stride in enumerate((4, 8, 16, 32)):
        weight, bias = (state[f"backbone.convs.{place}.{name}"].double() for name in ("weight", "bias"))
        branches.append(torch.tanh(F.conv2d(normalized, weight, bias, stride=stride)))
    expected = torch.cat([F.interpolate(one, size=(16, 24), mode="bilinear") for one in branches], dim=1)
    maps = source.feature_maps(images)
    assert (source.n_features, source.n_classes) == (28, 7)
    # Sums of up to 3072 products in float32, whose rounding grows as the root of their number in whichever order. The
    # squares of the weights of an output add up to about one, so that a sum is about as large as its inputs.
    epsilon = torch.finfo(torch.float32).eps
    rounding = {"atol": epsilon * 3072**0.5 * float(normalized.abs().max()), "rtol": 0.0}
    torch.testing.assert_close(maps.features.double(), expected, **rounding)
    linear = torch.einsum("cd,bdhw->bchw", state["classifier.weight"][:, :, 0, 0].double(), expected)
    linear += state["classifier.bias"][:, None, None]
    torch.testing.assert_close(maps.scores.double(), linear, **rounding)


def test_plain_branches_are_requested_without_download(tmp_path, asked):
    written(tmp_path)[0].load()
    options = {"pretrained": False, "features_only": True, "feature_location": "", "out_indices": (1, 2, 3, 4)}
    assert asked == [("hrnet_w18", options)]


@pytest.mark.parametrize(("size", "expected"), [((70, 100), (16, 24)), ((10, 50), (8, 16)), ((64, 64), (16, 16))])
def test_images_of_any_size_are_resized_to_the_nearest_valid_size(tmp_path, asked, size, expected):
    maps = written(tmp_path)[0].load().feature_maps(pixels(*size))
    assert maps.scores.shape == (2, 7, *expected)


def test_a_network_that_timm_does_not_have_is_named(tmp_path, asked):
    source, _ = written(tmp_path)
    with pytest.raises(ConfigError, match=r"timm hrnet_w17: cannot be built \(Unknown model \(hrnet_w17\)\)"):
        entry("hrnet_w17", source.weights).load()


def test_weights_without_a_classifier_are_named(tmp_path, asked):
    source, state = written(tmp_path)
    save_weights({name: state[name] for name in state if not name.startswith("classifier")}, source.weights)
    with pytest.raises(CheckpointError, match=r"lacks classifier\.weight of shape"):
        source.load()
    save_weights({name: state[name] for name in state if name != "backbone.convs.0.bias"}, source.weights)
    with pytest.raises(CheckpointError, match=r"lacks parameter backbone\.convs\.0\.bias"):
        source.load()


def test_without_timm_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"pip install 'seg_transfer\[timm\]'"):
        written(tmp_path)[0].load()
