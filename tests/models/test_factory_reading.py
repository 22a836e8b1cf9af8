"""What a factory's entry says about its network, and what is found out where it says nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from other_nets import MEAN, STD, factory_entry, write_net
from torch import Tensor

from seg_transfer.errors import ConfigError
from seg_transfer.models.adapters.factory import FactoryEntry
from seg_transfer.models.sizes import InputSizes


def entry(folder: Path, network: str, classifier: str | None = None, **fields: Any) -> FactoryEntry:
    return factory_entry(f"nets:{network}", folder, folder / f"{network}.safetensors", classifier, **fields)


def images() -> Tensor:
    coarse = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(3))
    return (F.interpolate(coarse, size=(48, 80), mode="bilinear") * 255).to(torch.uint8)


def normalized(pixels: Tensor) -> Tensor:
    return (pixels.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def refusal(what: FactoryEntry) -> str:
    with pytest.raises(ConfigError) as caught:
        what.load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("network", "features", "excerpt"),
    [
        ("Backbone", None, "its network returns maps of 4 and 6 channels: class scores, or features? Name its classif"),
        ("Prototypes", None, "returns maps of 3 channels: class scores, or features? Name its classifier, choose feat"),
        ("Tokens", "stages", "the only map that its network returns is the output of its last layer head"),
        ("Tokens", "stages", "If scores, give classifier: head; if features, features: [head]"),
    ],
)
def test_maps_that_may_be_class_scores_or_features_are_doubtful(tmp_path, network, features, excerpt):
    write_net(tmp_path, network)
    line = refusal(entry(tmp_path, network, features=features))
    assert line.startswith(f"factory nets:{network}: ")
    assert excerpt in line


def test_images_are_padded_to_the_sizes_that_a_network_takes(tmp_path):
    net = write_net(tmp_path, "Halves")
    source = entry(tmp_path, "Halves").load()
    assert source.sizes == InputSizes(multiple=16)
    pixels = images()[:, :, :40, :56]
    with torch.inference_mode():
        expected = net(F.pad(normalized(pixels), (0, 8, 0, 8)))
    maps = source.feature_maps(pixels)
    torch.testing.assert_close(maps.scores, expected)
    assert maps.extent == (40 / 48, 56 / 64)


@pytest.mark.parametrize("network", ["Tokens", "Pyramid", "Wide", "Skipping", "One", "FlatTokens"])
def test_a_classifier_that_is_not_named_is_found(tmp_path, network):
    write_net(tmp_path, network)
    named = entry(tmp_path, network, "head").load()
    found = entry(tmp_path, network).load()
    assert found.classifier_name == named.classifier_name == "head"
    assert torch.equal(found.feature_maps(images()).features[0], named.feature_maps(images()).features[0])


@pytest.mark.parametrize(
    ("features", "channels"), [("stages", [4, 6]), (["coarse"], [6]), (["coarse", "fine"], [6, 4]), ("last", [6])]
)
def test_maps_of_a_backbone_are_its_features(tmp_path, features, channels):
    net = write_net(tmp_path, "Backbone")
    source = entry(tmp_path, "Backbone", features=features)
    if features == "last":  # it would be the input of a classifier, which must be there
        assert source.has_scores
        return
    assert not source.has_scores
    maps = source.load().feature_maps(images())
    assert maps.scores is None
    with torch.inference_mode():
        fine, coarse = net(normalized(images()))
    expected = {4: fine, 6: coarse}
    assert [one.shape[1] for one in maps.features] == channels
    for one in maps.features:
        torch.testing.assert_close(one, expected[one.shape[1]])


def test_a_network_of_one_size_gets_images_of_that_size(tmp_path):
    net = write_net(tmp_path, "OneSize")
    source = entry(tmp_path, "OneSize", input_size=(36, 60)).load()
    assert source.sizes.fixed == (36, 60)
    resized = F.interpolate(normalized(images()), size=(36, 60), mode="bilinear", antialias=True)
    with torch.inference_mode():
        torch.testing.assert_close(source.feature_maps(images()).scores, net(resized))
    line = refusal(entry(tmp_path, "OneSize"))
    assert line.startswith("factory nets:OneSize: network OneSize: fails on an image of ")


def test_a_network_is_built_again_only_with_the_code_that_it_had(tmp_path):
    write_net(tmp_path, "Tokens")
    architecture = json.loads(json.dumps(entry(tmp_path, "Tokens").architecture()))
    assert type(FactoryEntry.build(architecture, "x")).__name__ == "Tokens"
    with (tmp_path / "nets.py").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(
        ConfigError, match=r"source\.json: the code of factory nets:Tokens in .* has changed; restore it"
    ):
        FactoryEntry.build(architecture, "source.json")
