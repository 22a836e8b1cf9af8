"""Networks of torchvision as sources, against torchvision's own answers."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from library_nets import entry, library, normalized, pixels, refusal, saved, seeded
from torch import nn

from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.models.heads import with_new_head

STRIDES = [2, 4, 8, 16, 32]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def torchvision() -> Any:
    return library("torchvision")


def segmentation(torchvision: Any, model: str, **options: Any) -> Any:
    return seeded(torchvision.models.get_model(model, weights=None, weights_backbone=None, num_classes=5, **options))


def own_scores(network: Any, height: int, width: int) -> Any:
    with torch.inference_mode():
        return network(normalized(pixels(height, width), MEAN, STD))["out"]


def test_a_segmentation_model_with_an_auxiliary_head(torchvision, tmp_path):
    """As torchvision's own training writes it; the number of classes is that of the weights."""
    network = segmentation(torchvision, "deeplabv3_mobilenet_v3_large", aux_loss=True)
    torch.save({"model": network.state_dict(), "epoch": 3}, tmp_path / "w.pth")
    source = entry(torchvision="deeplabv3_mobilenet_v3_large", weights=tmp_path / "w.pth").load()
    assert (source.n_classes, source.classifier_name, source.n_features) == (5, "classifier.4", 256)
    maps = source.feature_maps(pixels(64, 96))
    scores = F.interpolate(maps.scores, size=(64, 96), mode="bilinear")
    torch.testing.assert_close(scores, own_scores(network, 64, 96), atol=1e-4, rtol=1e-4)
    layer = network.classifier[4]
    with torch.inference_mode():
        torch.testing.assert_close(layer(maps.features[0]), maps.scores, atol=1e-5, rtol=1e-5)


def test_a_model_whose_scores_are_a_sum_has_features_of_its_stages(torchvision, tmp_path):
    network = segmentation(torchvision, "lraspp_mobilenet_v3_large")
    source = entry(torchvision="lraspp_mobilenet_v3_large", weights=saved(network, tmp_path / "w.pth")).load()
    assert (source.n_classes, source.classifier_name) == (5, None)
    maps = source.feature_maps(pixels(64, 96))
    torch.testing.assert_close(maps.scores, own_scores(network, 64, 96), atol=1e-4, rtol=1e-4)
    assert [one.shape[1] for one in maps.features] == [16, 24, 40, 128]


@pytest.mark.parametrize(
    ("model", "nodes", "strides"),
    [
        ("mobilenet_v3_small", ["features.0", "features.1", "features.3", "features.8", "features.12"], STRIDES),
        ("shufflenet_v2_x0_5", ["conv1", "stage2", "stage3", "conv5"], [2, 8, 16, 32]),
    ],
)
def test_an_image_classifier_is_a_backbone(torchvision, tmp_path, model, nodes, strides):
    from torchvision.models.feature_extraction import create_feature_extractor

    network = seeded(torchvision.models.get_model(model, weights=None))
    source = entry(torchvision=model, weights=saved(network, tmp_path / "w.pth")).load()
    maps = source.feature_maps(pixels(64, 96))
    assert (maps.scores, source.n_classes) == (None, 0)
    with torch.inference_mode():
        own = create_feature_extractor(network, nodes)(normalized(pixels(64, 96), MEAN, STD))
    by_shape = {tuple(one.shape): one for one in maps.features}
    for expected in own.values():
        torch.testing.assert_close(by_shape[tuple(expected.shape)], expected, atol=1e-4, rtol=1e-4)
    assert [64 // one.shape[2] for one in maps.features] == strides


def test_weights_with_a_linear_head_have_scores(torchvision, tmp_path):
    network = seeded(torchvision.models.shufflenet_v2_x0_5(weights=None))
    backbone = entry(torchvision="shufflenet_v2_x0_5", weights=saved(network, tmp_path / "w.pth"))
    trained = with_new_head(backbone.load(), 3, seed=0)
    source = entry(torchvision="shufflenet_v2_x0_5", weights=saved(trained.network, tmp_path / "head.pth"))
    assert (backbone.has_scores, source.has_scores) == (False, True)
    assert torch.equal(source.load().feature_maps(pixels(50, 70)).scores, trained.feature_maps(pixels(50, 70)).scores)


def test_mean_and_std_are_those_of_imagenet_or_given(tmp_path):
    assert entry(torchvision="resnet18", weights="w.pth").input_normalization() == (MEAN, STD, "rgb")
    given = entry(torchvision="resnet18", weights="w.pth", mean=(0.1, 0.2, 0.3), std=(1, 2, 3))
    assert given.input_normalization() == ((0.1, 0.2, 0.3), (1, 2, 3), "rgb")


@pytest.mark.parametrize(
    ("model", "similar"),
    [
        ("deeplabv3_resnet5", "deeplabv3_resnet50"),
        ("resnet_18", "resnet18"),
        ("fasterrcnn_resnet50_fpn", "fcn_resnet50"),
    ],
)
def test_an_unknown_network_is_named_with_similar_ones(torchvision, tmp_path, model, similar):
    line = refusal(ConfigError, torchvision=model, weights=saved(nn.Linear(1, 1), tmp_path / "w.pth"))
    assert line.startswith(
        f"source net: field torchvision: {model!r}: torchvision {torchvision.__version__} has no such"
    )
    assert similar in line


def test_weights_of_another_network_are_refused(torchvision, tmp_path):
    weights = saved(torchvision.models.shufflenet_v2_x0_5(weights=None), tmp_path / "w.pth")
    line = refusal(CheckpointError, torchvision="deeplabv3_mobilenet_v3_large", weights=weights)
    assert line == (
        f"{weights}: lacks classifier.4.weight, whose size is the number of classes; name weights of this network"
    )
    assert str(weights) in refusal(CheckpointError, torchvision="mobilenet_v3_small", weights=weights)
    missing = tmp_path / "none.pth"
    assert str(missing) in refusal(CheckpointError, torchvision="resnet18", weights=missing)


def test_without_torchvision_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    line = refusal(ConfigError, torchvision="resnet18", weights=saved(nn.Linear(1, 1), tmp_path / "w.pth"))
    assert line.startswith("source net: torchvision cannot be imported (")
    assert "pip install 'seg_transfer[torchvision]', in the version that fits the installed torch" in line


def test_nothing_is_downloaded(torchvision, tmp_path, monkeypatch):
    """torchvision's segmentation models load a pretrained backbone unless they are told not to."""

    def download(*_: object, **__: object) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    network = segmentation(torchvision, "lraspp_mobilenet_v3_large")
    fields = {"torchvision": "lraspp_mobilenet_v3_large", "weights": saved(network, Path(tmp_path, "w.pth"))}
    assert entry(**fields).load().n_classes == 5


def test_a_network_that_asks_for_the_version_of_its_weights_loads(torchvision, tmp_path):
    network = seeded(torchvision.models.mnasnet0_5(weights=None))
    source = entry(torchvision="mnasnet0_5", weights=saved(network, tmp_path / "w.pth")).load()
    assert torch.equal(source.network.layers[0].weight, network.layers[0].weight)
