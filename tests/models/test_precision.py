"""Features are computed in float32 whatever the process allows itself; afterwards it may do what it could before."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from other_nets import factory_entry, write_net
from torch import Tensor, nn

from seg_transfer.models.normalization import Normalization
from seg_transfer.models.precision import plain_float32
from seg_transfer.models.reading import read_network

CUDA, CUDNN, MKLDNN = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
SWITCHES = (CUDA.matmul, CUDNN.conv, CUDNN.rnn, MKLDNN.matmul, MKLDNN.conv, MKLDNN.rnn)


def newer() -> list[str]:
    return [switch.fp32_precision for switch in SWITCHES]


def older() -> list[Any]:
    """What the older switches say; where they disagree with the newer ones torch raises."""
    return [torch.get_float32_matmul_precision(), CUDA.matmul.allow_tf32, CUDNN.allow_tf32]


def tf32_of_everything() -> None:
    torch.backends.fp32_precision = "tf32"


def newer_alone() -> None:
    CUDA.matmul.fp32_precision = CUDNN.conv.fp32_precision = "tf32"
    MKLDNN.matmul.fp32_precision = MKLDNN.conv.fp32_precision = "bf16"


def older_alone() -> None:
    CUDA.matmul.allow_tf32 = CUDNN.allow_tf32 = True


ALLOWED: dict[str, Callable[[], object]] = {
    "as torch starts": lambda: None,
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "older switches": older_alone,
    "newer switches": newer_alone,
    "all at once": tf32_of_everything,
}


@pytest.fixture(params=ALLOWED)
def allowed(request: pytest.FixtureRequest) -> Any:
    """The process, or code of a model, allows other arithmetic."""
    before = newer()
    ALLOWED[request.param]()
    yield request.param
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    CUDNN.allow_tf32 = True
    for switch, precision in zip(SWITCHES, before, strict=True):
        switch.fp32_precision = precision


class Looks(nn.Module):
    """A network that notes what it may compute in."""

    def __init__(self, classifier: nn.Module | None = None) -> None:
        super().__init__()
        self.classifier = classifier or nn.Conv2d(3, 2, 1)
        self.seen: list[list[Any]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append([*newer(), *older(), images.dtype])
        scores: Tensor = self.classifier(images)
        return scores


PLAIN = [*["ieee"] * 6, "highest", False, False, torch.float32]
THIRD = (1 / 3, 1 / 3, 1 / 3)


@pytest.mark.parametrize("with_features", [True, False])
def test_the_forward_pass_is_in_float32_and_settings_are_restored(allowed, with_features):
    network = Looks()
    source = read_network(network, Normalization(THIRD, THIRD), scores_only=not with_features)
    assert source.features_known == with_features
    network.seen.clear()
    before = newer()
    source.feature_maps(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    assert network.seen == [PLAIN]
    assert newer() == before


def test_settings_are_restored_after_a_pass_that_fails(allowed):
    before = newer()
    with pytest.raises(ValueError, match="network"), plain_float32():
        raise ValueError("network")
    assert newer() == before


@pytest.mark.parametrize("name", ["as torch starts", "high", "medium", "older switches"])
def test_older_settings_are_restored_too(name):
    ALLOWED[name]()
    before = older()
    with plain_float32():
        pass
    assert older() == before
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_a_network_of_another_precision_runs_in_float32(tmp_path, kind):
    write_net(tmp_path, "Pyramid")
    file = tmp_path / "nets.py"
    file.write_text(f"{file.read_text()}\n\ndef other():\n    return Pyramid().to(torch.{kind})\n")
    weights, images = tmp_path / "Pyramid.safetensors", torch.arange(3 * 256).view(1, 3, 16, 16).to(torch.uint8)
    found = [
        factory_entry(f"nets:{name}", tmp_path, weights, "head", mean=THIRD, std=THIRD).load().feature_maps(images)
        for name in ("Pyramid", "other")
    ]
    assert found[1].features[0].dtype == torch.float32
    torch.testing.assert_close(found[1].features[0], found[0].features[0], atol=0, rtol=0)
