"""Networks of timm as sources: backbones, and backbones with a linear head; against timm's own answers."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from library_nets import entry, library, normalized, pixels, refusal, saved, seeded
from torch import Tensor, nn

from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.models.checkpoints import save_weights
from seg_transfer.models.heads import with_new_head

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BRANCHES = {"features_only": True, "feature_location": "", "out_indices": (1, 2, 3, 4)}
HRNET = "hrnet_w18_small"


@pytest.fixture(scope="module")
def timm() -> Any:
    return library("timm")


# HRNets with a linear head


def written_hrnet(timm: Any, folder: Path) -> tuple[Any, nn.Module, dict[str, Tensor]]:
    """An entry with its weights, its branches as timm makes them, and the weights of its head."""
    branches = seeded(timm.create_model(HRNET, **BRANCHES))
    generator = torch.Generator().manual_seed(2)
    head = {"weight": torch.randn(7, 240, 1, 1, generator=generator) / 15, "bias": torch.randn(7, generator=generator)}
    state = {f"backbone.{name}": tensor for name, tensor in branches.state_dict().items()}
    save_weights(state | {f"classifier.{name}": tensor for name, tensor in head.items()}, folder / "w.safetensors")
    return entry(timm=HRNET, weights=folder / "w.safetensors", mean=MEAN, std=STD), branches, head


def test_branches_are_concatenated_at_the_size_of_the_first(timm, tmp_path):
    source, branches, head = written_hrnet(timm, tmp_path)
    maps = source.load().feature_maps(pixels(64, 96))
    with torch.inference_mode():
        parts = branches(normalized(pixels(64, 96), MEAN, STD))
    expected = torch.cat([F.interpolate(part, size=(16, 24), mode="bilinear") for part in parts], dim=1)
    torch.testing.assert_close(maps.features[0], expected, atol=1e-5, rtol=1e-5)
    scores = torch.einsum("cd,bdhw->bchw", head["weight"][:, :, 0, 0], expected) + head["bias"][:, None, None]
    torch.testing.assert_close(maps.scores, scores, atol=1e-5, rtol=1e-5)
    assert scores.std() > 0.01


@pytest.mark.parametrize(("size", "expected"), [((70, 100), (16, 24)), ((10, 50), (8, 16)), ((64, 64), (16, 16))])
def test_images_of_any_size_are_resized_to_the_nearest_valid_size(timm, tmp_path, size, expected):
    maps = written_hrnet(timm, tmp_path)[0].load().feature_maps(pixels(*size))
    assert maps.scores.shape == (2, 7, *expected)


def test_the_key_of_an_hrnet_is_what_it_was(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"weights")
    key = entry(timm="hrnet_w18", weights=tmp_path / "w.pth", mean=MEAN, std=STD).key()
    # As computed before there were other networks of timm.
    assert key == "9023c8eef765e1214dc245fe9ddb0bda0f81c22b8fed7906ffe38d053d0cb725"


# Backbones


def own_maps(network: Any, images: Tensor, indices: list[int], **options: bool) -> list[Tensor]:
    with torch.inference_mode():
        maps = network.forward_intermediates(images, indices=indices, intermediates_only=True, **options)
    return list(maps)


@pytest.mark.parametrize(
    ("model", "strides", "normalization"),
    [
        ("test_resnet", [2, 4, 8, 16, 32], HALF),
        ("test_convnext", [4, 8, 16, 32], HALF),
        ("test_efficientnet", [2, 4, 8, 16, 32], IMAGENET),
        ("test_maxvit", [2, 4, 8, 16, 32], HALF),
    ],
)
def test_the_last_map_of_every_stride_is_a_feature(timm, tmp_path, model, strides, normalization):
    network = seeded(timm.create_model(model))
    source = entry(timm=model, weights=saved(network, tmp_path / "w.pth")).load()
    # Of the network's own size, which every network takes as it is.
    maps = source.feature_maps(pixels(160, 160))
    assert [160 / one.shape[3] for one in maps.features] == strides
    assert maps.scores is None
    expected = own_maps(network, normalized(pixels(160, 160), *normalization), list(range(len(strides))))
    torch.testing.assert_close(list(maps.features), expected, atol=1e-5, rtol=1e-4)


def test_four_blocks_of_a_plain_transformer_are_features(timm, tmp_path):
    network = seeded(timm.create_model("test_vit", depth=8))
    timm.models.save_for_hf(network, tmp_path / "vit", safe_serialization=True)
    source = entry(timm=tmp_path / "vit").load()
    assert source.sizes.multiple == 16
    maps = source.feature_maps(pixels(48, 80))
    images = normalized(pixels(48, 80), *HALF)
    plain = timm.create_model("test_vit", depth=8, dynamic_img_size=True).eval()
    plain.load_state_dict(network.state_dict())
    expected = own_maps(plain, images, [1, 3, 5, 7], norm=True)
    torch.testing.assert_close(list(maps.features), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(expected[-1].flatten(2).mT, plain.forward_features(images)[:, 1:], atol=1e-5, rtol=1e-4)


def test_branches_of_an_hrnet_without_a_head_are_features(timm, tmp_path):
    """Weights of the network that classifies images, whose widened branches and head are left out."""
    network = seeded(timm.create_model(HRNET))
    source = entry(timm=HRNET, weights=saved(network, tmp_path / "w.pth")).load()
    branches = timm.create_model(HRNET, **BRANCHES).eval()
    branches.load_state_dict({name: network.state_dict()[name] for name in branches.state_dict()})
    with torch.inference_mode():
        expected = branches(normalized(pixels(64, 96), *IMAGENET))
    torch.testing.assert_close(list(source.feature_maps(pixels(64, 96)).features), expected, atol=1e-5, rtol=1e-4)


def test_weights_without_a_classification_head_are_the_same_backbone(timm, tmp_path):
    network = seeded(timm.create_model("test_resnet"))
    trunk = timm.create_model("test_resnet", num_classes=0)
    trunk.load_state_dict({name: network.state_dict()[name] for name in trunk.state_dict()})
    files = [saved(network, tmp_path / "whole.pth"), saved(trunk, tmp_path / "trunk.pth")]
    whole, other = (entry(timm="test_resnet", weights=file).load().feature_maps(pixels(32, 64)) for file in files)
    assert all(torch.equal(one, two) for one, two in zip(whole.features, other.features, strict=True))


def test_a_copy_of_a_backbone_has_its_own_weights(timm, tmp_path):
    source = entry(timm="test_vit", weights=saved(seeded(timm.create_model("test_vit")), tmp_path / "w.pth")).load()
    images = torch.rand(1, 3, 32, 48)
    with torch.inference_mode():
        expected = source.network(images)
        copied = copy.deepcopy(source.network)
        for parameter in source.network.parameters():
            parameter.zero_()
        torch.testing.assert_close(copied(images), expected)


# Heads


@pytest.mark.parametrize("model", ["test_resnet", "test_vit"])
def test_weights_with_a_linear_head_have_scores(timm, tmp_path, model):
    backbone = entry(timm=model, weights=saved(seeded(timm.create_model(model)), tmp_path / "w.pth"))
    trained = with_new_head(backbone.load(), 3, seed=0)
    source = entry(timm=model, weights=saved(trained.network, tmp_path / "head.pth"))
    assert (backbone.has_scores, source.has_scores) == (False, True)
    assert source.architecture() == {"kind": "timm", "model": model, "n_classes": 3}
    loaded = source.load()
    assert (loaded.n_classes, loaded.classifier_name) == (3, "classifier")
    assert torch.equal(loaded.feature_maps(pixels(50, 70)).scores, trained.feature_maps(pixels(50, 70)).scores)


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["backbone.stem.weight", "classifier.weight"], True),
        (["module.backbone.stem.weight", "module.classifier.weight"], True),
        (["backbone.stem.weight", "aux.classifier.weight"], False),
        (["stem.weight", "classifier.weight"], False),
        (["backbone.stem.weight", "classifier.4.weight"], False),
        (["backbone.classifier.weight"], False),
    ],
)
def test_a_linear_head_is_seen_by_the_names_of_weights(tmp_path, kind, names, expected):
    state = {name: torch.zeros(2, 2) for name in names}
    if kind == "safetensors":
        save_weights(state, tmp_path / "w")
    else:
        torch.save({"state_dict": state}, tmp_path / "w", _use_new_zipfile_serialization=kind == "zip")
    assert entry(timm="test_resnet", weights=tmp_path / "w").has_scores == expected


# Wrong entries


def test_an_unknown_network_is_named_with_similar_ones(timm, tmp_path):
    line = refusal(ConfigError, timm="vit_smal_patch14_dinov2", weights=saved(nn.Linear(1, 1), tmp_path / "w.pth"))
    assert line.startswith(f"source net: field timm: 'vit_smal_patch14_dinov2': timm {timm.__version__} has no such")
    assert "vit_small_patch14_dinov2" in line


def test_an_unknown_tag_is_named(timm, tmp_path):
    line = refusal(ConfigError, timm="test_vit.sunday", weights=saved(nn.Linear(1, 1), tmp_path / "w.pth"))
    assert line.startswith("source net: timm test_vit.sunday: cannot be built (Invalid pretrained tag (sunday)")


def test_weights_of_another_network_are_refused(timm, tmp_path):
    weights = saved(timm.create_model("test_vit"), tmp_path / "w.pth")
    assert str(weights) in refusal(CheckpointError, timm="test_resnet", weights=weights)


def test_without_timm_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    weights = saved(nn.Linear(1, 1), tmp_path / "w.pth")
    line = refusal(ConfigError, timm="resnet18", weights=weights)
    assert line.startswith("source net: timm cannot be imported (")
    assert "pip install 'seg_transfer[timm]', and a torchvision that fits the installed torch" in line


# Folders


def test_a_folder_that_timm_writes_is_found(timm, tmp_path):
    from seg_transfer.models.sources import fields_in_folder

    network = seeded(timm.create_model("test_resnet", num_classes=3))
    timm.models.save_for_hf(network, tmp_path / "net", data_config={"mean": MEAN, "std": STD}, safe_serialization=False)
    assert fields_in_folder(tmp_path / "net") == {"timm": tmp_path / "net"}
    source = entry(timm=str(tmp_path / "net"))
    assert source.input_normalization() == (MEAN, STD, "rgb")
    maps = source.load().feature_maps(pixels(64, 64)).features
    expected = own_maps(network, normalized(pixels(64, 64), MEAN, STD), list(range(5)))
    torch.testing.assert_close(list(maps), expected, atol=1e-5, rtol=1e-4)
    (tmp_path / "net/pytorch_model.bin").unlink()
    with pytest.raises(
        CheckpointError, match=r"net: has neither model\.safetensors nor pytorch_model\.bin; copy the weights there"
    ):
        fields_in_folder(tmp_path / "net")


@pytest.mark.parametrize(
    ("config", "excerpt"),
    [
        ({"architecture": "hf-hub:evil/net"}, "field timm: 'hf-hub:evil/net': timm"),
        ({"architecture": "local-dir:/etc"}, "field timm: 'local-dir:/etc': timm"),
        ({"architecture": ["resnet18"]}, "has no such network"),
        ({"model_args": [1]}, "field model_args: [1]: must be a mapping; copy the file again"),
        ({"pretrained_cfg": "x"}, "field pretrained_cfg: 'x': must be a mapping; copy the file again"),
        ({"model_args": {"no_such_argument": 1}}, "timm test_resnet: cannot be built ("),
        ({"pretrained_cfg": {"mean": [1, 2], "std": [1, 1, 1]}}, "field pretrained_cfg: mean [1, 2] and std [1, 1, 1]"),
    ],
)
def test_a_wrong_folder_is_refused(timm, tmp_path, config, excerpt):
    timm.models.save_for_hf(timm.create_model("test_resnet"), tmp_path, safe_serialization=False)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    assert excerpt in refusal(ConfigError, timm=tmp_path)


def test_arguments_of_a_folder_that_name_other_weights_have_no_effect(timm, tmp_path, monkeypatch):
    network = seeded(timm.create_model("test_resnet"))
    timm.models.save_for_hf(network, tmp_path, safe_serialization=True)
    expected = entry(timm=tmp_path).load().feature_maps(pixels(32, 32)).features
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    config["model_args"] = {"pretrained": True, "checkpoint_path": "/etc/passwd", "num_classes": 5, "cache_dir": "/x"}
    config["pretrained_cfg"] |= {"url": "http://127.0.0.1:9/x.pth", "file": "/etc/passwd", "custom_load": True}
    file.write_text(json.dumps(config))
    maps = entry(timm=tmp_path).load().feature_maps(pixels(32, 32)).features
    assert all(torch.equal(one, two) for one, two in zip(maps, expected, strict=True))
