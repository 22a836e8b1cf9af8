"""The family of a source: the architecture, of whatever kind the model is, and the form of its features."""

from dataclasses import replace
from typing import Any

import pytest
from torch import nn

from seg_transfer.errors import ConfigError
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.family import architecture_name, family_of
from seg_transfer.models.normalization import IMAGENET, Normalization
from seg_transfer.models.source_model import SourceModel
from seg_transfer.models.watching import MapLayer


class Described(SourceEntry):
    """An entry with a description."""

    kind = "described"
    marker = "name"

    def architecture(self) -> dict[str, Any]:
        return DESCRIPTIONS[self.name]


MMSEG = {"type": "EncoderDecoder", "backbone": {"type": "HRNet"}, "decode_head": [{"type": "OCR"}, {"type": "FCNHead"}]}
DESCRIPTIONS: dict[str, dict[str, Any]] = {
    "mmseg": MMSEG,
    "without_head": {"backbone": {"type": "MSCAN", "depth": 3}},
    "timm": {"kind": "timm", "model": "resnet50", "n_classes": 3},
    "transformers": {"role": "segmentor", "config": {"model_type": "segformer", "depths": [2, 2]}},
    "factory": {"kind": "factory", "factory": "net:build", "folder": "/tmp", "code": "abc"},
    "trained": {"kind": "timm", "architecture": {"kind": "timm", "model": "hrnet_w18"}},
    "nameless": {},
}
ENTRY = Described(name="timm", dataset="city")


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("mmseg", "HRNet FCNHead"),
        ("without_head", "MSCAN"),
        ("timm", "resnet50"),
        ("transformers", "segformer"),
        ("factory", "net:build"),
        ("trained", "hrnet_w18"),
        ("nameless", "described"),
    ],
)
def test_the_name_of_the_architecture_of_every_kind(name: str, architecture: str) -> None:
    assert architecture_name(Described(name=name, dataset="city")) == architecture


def test_a_kind_without_description_stands_for_its_architecture() -> None:
    entry = SourceEntry(name="city", dataset="city")
    with pytest.raises(ConfigError):
        entry.architecture()
    assert architecture_name(entry) == "study"


def test_the_form_of_the_features_is_part_of_the_family() -> None:
    layers = tuple(MapLayer(f"stage{n}", 0, 16 * n, 2.0**n) for n in (3, 1, 2))
    source = SourceModel(nn.Identity(), Normalization(IMAGENET.mean, IMAGENET.std), layers, None, 0)
    assert family_of(ENTRY, source) == "resnet50, 96 at strides 2 to 8"
    assert family_of(ENTRY, replace(source, layers=layers[:1])) == "resnet50, 48 at stride 8"
    assert family_of(ENTRY, replace(source, layers=())) == "resnet50, class scores alone"
