"""Networks of segmentation_models_pytorch as sources, against the library's own answers."""

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
from seg_transfer.models.compat import quiet
from seg_transfer.models.sources import fields_in_folder

GIVEN = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.1)}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Architecture, encoder, classes, activation -> the layer that gives the class scores, and its features.
NETWORKS = [
    ("Unet", "tu-test_efficientnet", 3, "softmax2d", "segmentation_head.0", 8),
    ("Unet", "tu-test_resnet", 1, "sigmoid", "segmentation_head.0", 8),
    ("FPN", "tu-test_resnet", 4, None, "segmentation_head.0", 128),
    ("Segformer", "tu-test_efficientnet", 2, None, "segmentation_head.0", 256),
    ("Linknet", "tu-test_resnet", 3, None, "segmentation_head.0", 32),
]


@pytest.fixture(scope="module")
def smp() -> Any:
    return library("segmentation_models_pytorch")


def made(smp: Any, model: str = "Unet", encoder: str = "tu-test_resnet", classes: int = 3, **options: Any) -> Any:
    if model == "Unet":
        options = {"encoder_depth": 3, "decoder_channels": (8, 8, 8), **options}
    with quiet():
        network = getattr(smp, model)(encoder_name=encoder, encoder_weights=None, classes=classes, **options)
    return seeded(network)


def written(network: Any, folder: Path, **config: Any) -> Path:
    """Write a folder as people do, and change its config."""
    network.save_pretrained(folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return folder


def own_answer(network: Any, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(normalized(images, GIVEN["mean"], GIVEN["std"]))


@pytest.mark.parametrize(("model", "encoder", "classes", "activation", "classifier", "n_features"), NETWORKS)
def test_probabilities_are_those_of_the_library(
    smp, tmp_path, model, encoder, classes, activation, classifier, n_features
):
    network = made(smp, model, encoder, classes, activation=activation)
    source = entry(smp=written(network, tmp_path / "net"), **GIVEN).load()
    assert (source.n_classes, source.n_features) == (max(2, classes), n_features)
    assert source.classifier_name == classifier
    maps = source.feature_maps(pixels(64, 96))
    answer = own_answer(network, pixels(64, 96))
    enlarged = F.interpolate(maps.scores, size=(64, 96), mode="bilinear", align_corners=model in ("FPN", "Segformer"))
    probabilities = enlarged.softmax(dim=1)
    if activation is None:
        answer = answer.softmax(dim=1)
    elif classes == 1:
        answer = torch.cat([1 - answer, answer], dim=1)
    torch.testing.assert_close(probabilities, answer, atol=1e-4, rtol=1e-3)
    assert answer.std() > 0.01


def test_arguments_and_weights_make_the_same_network_as_the_folder(smp, tmp_path):
    network = made(smp, aux_params={"classes": 2})
    folder = written(network, tmp_path / "net")
    arguments = {"arch": "unet", "encoder_name": "tu-test_resnet", "classes": 3, "encoder_depth": 3}
    arguments |= {"decoder_channels": [8, 8, 8], "encoder_weights": "imagenet"}
    parts = entry(smp=arguments, weights=saved(network, tmp_path / "w.pth"), **GIVEN).load()
    whole = entry(smp=folder, **GIVEN).load()
    first, second = (source.feature_maps(pixels(48, 64)) for source in (parts, whole))
    assert torch.equal(first.features[0], second.features[0])
    assert torch.equal(first.scores, second.scores)


# Normalization


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"encoder_name": "resnet18", "encoder_weights": "imagenet"}, IMAGENET),
        ({"encoder_name": "resnet50", "encoder_weights": "swsl"}, IMAGENET),
        ({"encoder_name": "tu-test_vit", "encoder_weights": True}, ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))),
        ({"encoder_name": "tu-test_efficientnet", "encoder_weights": "imagenet"}, IMAGENET),
    ],
)
def test_the_normalization_is_that_of_the_encoders_first_weights(smp, config, expected):
    mean, std, order = entry(smp={"arch": "Unet", **config}, weights="w.pth").input_normalization()
    assert (mean, std, order) == (*expected, "rgb")


@pytest.mark.parametrize(
    "config",
    [
        {"encoder_name": "resnet18", "encoder_weights": None},
        {"encoder_name": "tu-test_vit", "encoder_weights": None},
        {"encoder_name": "inceptionv4", "encoder_weights": "imagenet"},
        {"encoder_name": "dpn68", "encoder_weights": "imagenet"},
        {"encoder_name": "efficientnet-b0", "encoder_weights": "advprop"},
    ],
)
def test_an_unknown_normalization_is_asked_for(tmp_path, config):
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"_model_class": "Unet", **config}))
    (folder / "model.safetensors").write_bytes(b"weights")
    for ask in (lambda source: source.key(), lambda source: source.input_normalization()):
        with pytest.raises(ConfigError) as caught:
            ask(entry(smp=folder, mean=(0.1, 0.2, 0.3)))
        assert str(caught.value).startswith(
            f"{folder / 'config.json'}: encoder_weights: {config['encoder_weights']!r} of "
        )
        assert "give the source's mean and std" in str(caught.value)
    assert entry(smp=folder, **GIVEN).input_normalization() == (*GIVEN.values(), "rgb")


# Folders


def test_the_kind_of_a_folder_is_seen_by_its_config(smp, tmp_path):
    timm = library("timm")
    written(made(smp), tmp_path / "smp")
    timm.models.save_for_hf(timm.create_model("test_resnet"), tmp_path / "timm")
    transformers = tmp_path / "transformers"
    transformers.mkdir()
    (transformers / "config.json").write_text(json.dumps({"model_type": "segformer", "architectures": ["x"]}))
    (transformers / "preprocessor_config.json").write_text(json.dumps({"do_rescale": True}))
    (transformers / "model.safetensors").write_bytes(b"weights")
    for kind in ("smp", "timm", "transformers"):
        assert fields_in_folder(tmp_path / kind) == {kind: tmp_path / kind}
    (tmp_path / "smp/model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"smp: has no model\.safetensors; copy the weights there"):
        fields_in_folder(tmp_path / "smp")


# Wrong entries


@pytest.mark.parametrize(
    ("config", "excerpt"),
    [
        ({"_model_class": "UNet3"}, "source net: smp has no architecture 'UNet3'; name one of its own, such as Unet"),
        ({"_model_class": "__class__"}, "smp has no architecture '__class__'"),
        ({"in_channels": 4}, "config.json: in_channels: 4: must be 3; name another one"),
        ({"no_such_argument": 1}, "smp Unet: cannot be built ("),
        ({"encoder_name": "resnet1"}, "smp Unet: cannot be built ("),
        ({"encoder_name": "tu-hf-hub:evil/net"}, "smp Unet: cannot be built ("),
        ({"encoder_name": "tu-local-dir:/etc"}, "smp Unet: cannot be built ("),
    ],
)
def test_a_wrong_folder_is_refused(smp, tmp_path, config, excerpt):
    assert excerpt in refusal(ConfigError, smp=written(made(smp), tmp_path / "net", **config), **GIVEN)


def test_weights_of_another_network_are_refused(smp, tmp_path):
    folder = written(made(smp), tmp_path / "net", classes=5)
    line = refusal(CheckpointError, smp=folder, **GIVEN)
    assert line.startswith(f"{folder / 'model.safetensors'}: ")
    assert "segmentation_head.0" in line


def test_without_the_library_the_extra_is_named(smp, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    weights = saved(nn.Linear(1, 1), tmp_path / "w.pth")
    line = refusal(ConfigError, smp={"arch": "Unet"}, weights=weights, **GIVEN)
    assert line.startswith("source net: segmentation_models_pytorch cannot be imported (")
    assert "pip install 'seg_transfer[smp]', and a torchvision that fits the installed torch" in line


def test_a_network_is_named_by_architecture_and_encoder(tmp_path):
    assert entry(smp={"arch": "FPN", "encoder_name": "mit_b0"}, weights="w").network_name == "FPN mit_b0"
