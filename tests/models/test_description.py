"""What a network is read as: its maps, classifier, sizes and costs, as its definition says."""

import json

import torch
from torch import nn

from seg_transfer.models.description import describe
from seg_transfer.models.heads import with_new_head
from seg_transfer.models.normalization import Normalization
from seg_transfer.models.reading import read_network

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
NORMALIZATION = Normalization(MEAN, STD, "bgr")


class Net(nn.Module):
    """Maps at strides 2 and 4 of 6 and 10 channels; the last layer of 4 classes has a kernel of 3 x 3."""

    def __init__(self, *, is_backbone: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.second = nn.Conv2d(6, 10, 3, stride=2, padding=1)
        self.head = nn.Conv2d(10, 4, 3, padding=1)
        self.is_backbone = is_backbone

    def forward(self, images: torch.Tensor) -> object:
        fine = torch.tanh(self.first(images))
        coarse = torch.tanh(self.second(fine))
        return (fine, coarse) if self.is_backbone else self.head(coarse)


def maps(described: object) -> list[tuple[float, int]]:
    return [(one.stride, one.channels) for one in described]  # type: ignore[attr-defined]


def test_a_network_with_a_classifier():
    model = describe(read_network(Net(), NORMALIZATION))
    assert model.network == "Net"
    assert maps(model.features) == [(4, 10)]
    assert model.features[0].layer == "input of head"
    assert maps(model.stages) == [(2, 6), (4, 10)]
    assert model.classifier is not None
    assert (model.classifier.name, model.classifier.kind, model.classifier.kernel) == ("head", "convolution", (3, 3))
    assert (model.n_classes, model.outputs_probabilities) == (4, False)
    assert model.normalization == NORMALIZATION
    assert model.costs.parameters == 6 * 28 + 10 * 55 + 4 * 91


def test_a_backbone_is_read_by_all_its_maps():
    model = describe(read_network(Net(is_backbone=True), NORMALIZATION, has_scores=False))
    assert model.classifier is None
    assert model.n_classes == 0
    assert maps(model.features) == maps(model.stages) == [(2, 6), (4, 10)]


def test_the_stages_are_those_that_features_stages_reads():
    read_by_stages = read_network(Net(), NORMALIZATION, features="stages")
    model = describe(read_by_stages)
    assert maps(model.features) == [(layer.stride, layer.channels) for layer in read_by_stages.layers]
    assert model.features == model.stages == describe(read_network(Net(), NORMALIZATION)).stages


def test_a_network_of_scores_alone_has_no_features():
    model = describe(read_network(Net(), NORMALIZATION, scores_only=True))
    assert model.features == ()
    assert model.classifier is None
    assert model.n_classes == 4
    assert maps(model.stages)[0] == (2, 6)


def test_the_description_is_plain_data():
    plain = json.loads(json.dumps(describe(read_network(Net(), NORMALIZATION)).as_dict()))
    assert (plain["sizes"]["multiple"], plain["sizes"]["square"], plain["sizes"]["fixed"]) == (1, False, None)
    assert plain["normalization"] == {"mean": list(MEAN), "std": list(STD), "channel_order": "bgr"}
    assert plain["features"] == [{"layer": "input of head", "stride": 4, "channels": 10}]
    assert plain["costs"]["height"] == 512


def test_a_linear_head_is_named_beside_its_backbone():
    source = read_network(Net(is_backbone=True), NORMALIZATION, has_scores=False)
    model = describe(with_new_head(source, 3, seed=0))
    assert model.network == "Net with a linear head"
    assert model.classifier is not None
    assert model.classifier.name == "classifier"
