"""A study's precision decides what the network computes in; features and settings of the process stay float32."""

import contextlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seg_transfer.errors import ConfigError
from seg_transfer.features.extract import extract
from seg_transfer.features.images import ImageBatch
from seg_transfer.models.devices import require_precision
from seg_transfer.models.normalization import IMAGENET
from seg_transfer.models.outputs import run_network
from seg_transfer.models.precision import arithmetic
from seg_transfer.models.reading import read_network
from seg_transfer.models.source_model import SourceModel
from seg_transfer.observations import Observations, PixelSample

CPU = torch.device("cpu")
HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Net(nn.Module):
    """Notes the kind of numbers of its first map."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.first, self.second, self.classifier = (
            nn.Conv2d(3, 16, 3, 2, 1),
            nn.Conv2d(16, 24, 3, 2, 1),
            nn.Conv2d(24, 4, 1),
        )
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5
        self.seen: list[torch.dtype] = []

    def forward(self, images: Tensor) -> Tensor:
        first = self.first(images)
        self.seen.append(first.dtype)
        scores: Tensor = self.classifier(self.second(first.relu()).relu())
        return scores


@pytest.fixture(scope="module")
def source() -> SourceModel:
    return read_network(Net(), IMAGENET)


def observed(source: SourceModel, precision: Any) -> Observations:
    generator = np.random.default_rng(7)
    pixels = generator.integers(0, 256, (2, 3, 32, 48), np.uint8)
    places = generator.integers(0, 32, (2, 200))
    sample = PixelSample(("a", "b"), np.array([(32, 48)] * 2), np.arange(200) % 2, *places, np.arange(200) % 2)
    return extract(source, [ImageBatch((0, 1), pixels)], sample, precision=precision)


@pytest.mark.parametrize("precision", HALF)
def test_the_network_computes_in_it_and_observations_are_float32(source, precision):
    exact = observed(source, "float32")
    source.network.seen.clear()  # type: ignore[operator, union-attr]
    found = observed(source, precision)
    assert source.network.seen == [HALF[precision]]
    assert found.features.dtype == found.source_probs.dtype == found.image_embeddings.dtype == np.float32
    error = np.abs(found.features - exact.features).max() / np.abs(exact.features).max()
    # Two convolutions of numbers with 8 bits of mantissa, or 11.
    assert 0 < error < {"bfloat16": 2**-6, "float16": 2**-9}[precision]
    np.testing.assert_allclose(found.source_probs.sum(axis=1), 1, atol=1e-6)


def test_float32_is_the_default(source):
    source.network.seen.clear()  # type: ignore[operator, union-attr]
    source.feature_maps(torch.zeros(1, 3, 32, 48, dtype=torch.uint8))
    assert source.network.seen == [torch.float32]


@pytest.mark.parametrize("precision", ["float32", *HALF])
def test_settings_are_restored(precision):
    def settings() -> list[Any]:
        conv, product = torch.backends.cudnn.conv.fp32_precision, torch.get_float32_matmul_precision()  # type: ignore[attr-defined]
        return [torch.is_autocast_enabled("cpu"), conv, product]

    before = settings()
    with contextlib.suppress(ValueError), arithmetic(precision, CPU):
        assert torch.is_autocast_enabled("cpu") == (precision in HALF)
        assert torch.get_float32_matmul_precision() == "highest"
        raise ValueError
    assert settings() == before


def test_tf32_switches_every_kind_of_product():
    with arithmetic("tf32", CPU):
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    assert torch.get_float32_matmul_precision() == "highest"


def test_tf32_is_refused_where_no_device_computes_in_it(source, monkeypatch):
    line = r"^precision: tf32: device cpu does not compute in it, .*; choose float32 or bfloat16$"
    with pytest.raises(ConfigError, match=line):
        observed(source, "tf32")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.raises(ConfigError, match="device cuda:1 does not"):
        require_precision("tf32", "cuda:1")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    require_precision("tf32", "cuda:1")


def test_a_network_that_fails_in_it_says_so():
    class Strict(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.conv2d(images, torch.ones(2, 3, 1, 1)).view(torch.int32)

    run_network(Strict(), torch.zeros(1, 3, 4, 5))
    line = r"image of 4 x 5 pixels in precision: bfloat16 \(.*\); use precision: float32, or one that takes images"
    with pytest.raises(ConfigError, match=line):
        run_network(Strict(), torch.zeros(1, 3, 4, 5), "bfloat16")
