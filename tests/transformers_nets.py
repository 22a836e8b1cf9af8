"""Small networks of the transformers library, with random weights, in folders as `save_pretrained` writes them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seg_transfer.errors import ConfigError
from seg_transfer.models.adapters.transformers import TransformersEntry
from seg_transfer.models.checkpoints import save_weights
from seg_transfer.models.compat import import_torchvision, quiet

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
PREPROCESSOR = {
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(MEAN),
    "image_std": list(STD),
}


def transformers_library() -> Any:
    """Import transformers; skips the test where it is not installed."""
    import_torchvision()
    with quiet():
        return pytest.importorskip("transformers")


def segformer(library: Any) -> Any:
    config = library.SegformerConfig(
        num_labels=5,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 4],
        decoder_hidden_size=24,
    )
    return library.SegformerForSemanticSegmentation(config)


def upernet(library: Any) -> Any:
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = library.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic", out_features=stages
    )
    config = library.UperNetConfig(
        backbone_config=backbone, hidden_size=16, num_labels=5, auxiliary_channels=8, auxiliary_in_channels=24
    )
    return library.UperNetForSemanticSegmentation(config)


def mobilenet(library: Any) -> Any:
    return library.MobileNetV2ForSemanticSegmentation(library.MobileNetV2Config(num_labels=5, depth_multiplier=0.25))


def mobilevit(library: Any) -> Any:
    config = library.MobileViTConfig(
        num_labels=5, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 16, 16, 24, 32, 40, 64], aspp_out_channels=16
    )
    return library.MobileViTForSemanticSegmentation(config)


def beit(library: Any) -> Any:
    config = library.BeitConfig(
        num_labels=5,
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        out_indices=[1, 2, 3, 4],
    )
    return library.BeitForSemanticSegmentation(config)


def dpt(library: Any) -> Any:
    config = library.DPTConfig(
        num_labels=5,
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
    )
    return library.DPTForSemanticSegmentation(config)


def written(folder: Path, library: Any, make: Callable[[Any], Any] = segformer, **changes: Any) -> Any:
    """Write a folder with a network of random weights, and return the network."""
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(4)
        network = make(library).eval()
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape)
        network.config.save_pretrained(folder)
    save_weights(network.state_dict(), folder / "model.safetensors")
    if changes.get("preprocessor", True) is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR | changes.get("preprocessor", {})))
    return network


def images(n: int = 2, height: int = 64, width: int = 96) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(n, 3, 5, 7, generator=generator)
    coarse[:, 2] *= 0.3
    return (F.interpolate(coarse, size=(height, width), mode="bilinear") * 255).to(torch.uint8)


def normalized(pixels: Tensor) -> Tensor:
    return (pixels.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def entry(folder: Path, **fields: Any) -> TransformersEntry:
    return TransformersEntry(name="net", dataset="elsewhere", transformers=folder, **fields)


def refusal(folder: Path, kind: type[Exception] = ConfigError, **fields: Any) -> str:
    with pytest.raises(kind) as caught:
        entry(folder, **fields).load()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith((str(folder), "source net: "))
    return str(caught.value)
