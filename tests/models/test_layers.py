"""What counts as features: the last layer's input, the last map of every stride, or layers by name."""

import pytest
import torch
import torch.nn.functional as F
from tiny_source import images, message_of
from torch import Tensor, nn
from toy_nets import NORMALIZATION, AnySize, Blocks, Trunk, UNet, seeded

from seg_transfer.errors import ConfigError
from seg_transfer.models.outputs import as_logits, matches_output
from seg_transfer.models.reading import read_network, with_features
from seg_transfer.models.source_model import SourceModel, feature_maps_of
from seg_transfer.models.watching import MapLayer, as_layer


def read(network: nn.Module, **fields: object) -> SourceModel:
    return read_network(seeded(network), NORMALIZATION, **fields)


def layers_of(source: SourceModel) -> list[tuple[str, int, float]]:
    return [(layer.name, layer.channels, layer.stride) for layer in source.layers]


# The last layer

HEADS = {
    "linear": (nn.Linear(8, 3), True),
    "1x1": (nn.Conv2d(8, 3, 1), False),
    "3x3": (nn.Conv2d(8, 3, 3, padding=1), False),
    "transposed": (nn.ConvTranspose2d(8, 3, 2, stride=2), False),
    "strided": (nn.Conv2d(8, 3, 1, stride=2), False),
    "no bias": (nn.Conv2d(8, 3, 1, bias=False), False),
}


@pytest.mark.parametrize("kind", HEADS)
def test_last_layers_of_every_kind(kind):
    head, channels_last = HEADS[kind]
    source = read(AnySize(head, channels_last=channels_last))
    assert (source.classifier_name, source.n_features, source.n_classes) == ("head", 8, 3)
    pixels = images(1, 48, 72)
    maps = source.feature_maps(pixels)
    with torch.inference_mode():
        normalized = source.normalize(pixels, NORMALIZATION.mean, NORMALIZATION.std)
        expected = torch.tanh(source.network.body(torch.tanh(source.network.stem(normalized))))
        answer = source.network(normalized)
    assert torch.equal(maps.features[0], expected)
    assert torch.equal(maps.scores, answer)


@pytest.mark.parametrize(
    "activation", [nn.Identity(), nn.Softmax(dim=1), nn.Sigmoid(), nn.Upsample(scale_factor=4, mode="bilinear")]
)
def test_the_last_layer_is_found_behind_activations_and_resizing(activation):
    source = read(AnySize(nn.Sequential(nn.Conv2d(8, 3, 1), activation)))
    assert source.classifier_name == "head.0"
    scores = source.feature_maps(images(1, 48, 72)).scores
    assert scores.min() < 0  # the layer's own output


class Auxiliary(AnySize):
    """Answers as torchvision does, with an auxiliary head that runs last."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(8, 3, 1))
        self.auxiliary = nn.Conv2d(6, 3, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"out": super().forward(images), "aux": self.auxiliary(self.stem(images))}


def test_the_first_answer_counts():
    assert read(Auxiliary()).classifier_name == "head"


def test_a_head_of_one_channel_is_background_and_foreground():
    source = read(AnySize(nn.Conv2d(8, 1, 1)))
    assert source.n_classes == 2
    pixels = images(1, 48, 72)
    with torch.inference_mode():
        probability = source.network(source.normalize(pixels, NORMALIZATION.mean, NORMALIZATION.std)).sigmoid()
    found = source.feature_maps(pixels).scores.softmax(dim=1)
    torch.testing.assert_close(found, torch.cat([1 - probability, probability], dim=1))


@pytest.mark.parametrize("activation", [nn.Identity(), nn.Sigmoid()])
def test_scores_of_one_channel_alone(activation):
    """Whether they are logits or probabilities shows on an image of extreme values."""
    source = read(AnySize(nn.Sequential(nn.Conv2d(8, 1, 1), activation)), scores_only=True)
    expected = read(AnySize(nn.Conv2d(8, 1, 1))).feature_maps(images(1, 48, 72)).scores.softmax(dim=1)
    assert source.outputs_probabilities == isinstance(activation, nn.Sigmoid)
    found = source.feature_maps(images(1, 48, 72)).scores.softmax(dim=1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_logits_of_probabilities_by_hand():
    foreground = torch.tensor([0.25]).view(1, 1, 1, 1)
    assert as_logits(foreground, are_probabilities=True).softmax(dim=1).flatten().tolist() == pytest.approx(
        [0.75, 0.25]
    )
    score = torch.log(torch.tensor([3.0])).view(1, 1, 1, 1)
    assert as_logits(score, are_probabilities=False).softmax(dim=1).flatten().tolist() == pytest.approx([0.25, 0.75])


def test_what_does_not_match_an_output():
    scores = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert matches_output(scores, scores.clone())
    assert matches_output(scores, F.interpolate(scores, size=(8, 11), mode="bilinear", align_corners=True))
    assert not matches_output(scores, 2 * scores)
    assert not matches_output(scores, scores[:, :2])
    assert not matches_output(scores, F.interpolate(scores, size=(8, 11), mode="nearest"))


# Stages


def test_the_stages_of_an_hrnet_are_its_branches(source):
    stages = with_features(source, "stages")
    assert layers_of(stages) == [("backbone", 16, stride) for stride in (4, 8, 16, 32)]
    assert [layer.output for layer in stages.layers] == [0, 1, 2, 3]
    pixels = images(1, 64, 96)
    normalized = source.normalize(pixels, source.normalization.mean, source.normalization.std)
    with torch.inference_mode():
        branches = source.network.backbone(normalized)
    assert all(map(torch.equal, stages.feature_maps(pixels).features, branches))


def test_the_stages_of_a_u_net():
    """The decoder gives the last maps of strides 2 and 4; the widened maps inside blocks are none."""
    source = read(UNet(), features="stages")
    assert layers_of(source) == [("ups.1", 10, 2), ("ups.0", 9, 4), ("downs.2", 7, 8)]
    assert read(UNet()).classifier_name == "head"


def test_class_scores_are_no_stage():
    class TwoHeads(UNet):
        """The sum of two maps of class scores, which no single layer gives."""

        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Conv2d(5, 3, 1)

        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) + self.other(self.downs[0](images)).mean()

    source = read(TwoHeads())
    assert source.classifier_name is None
    assert [layer.channels for layer in source.layers] == [5, 9, 7]
    assert not any(layer.name in ("head", "other") for layer in source.layers)


@pytest.mark.parametrize(
    ("n_blocks", "expected"), [(12, (2, 5, 8, 11)), (6, (1, 2, 4, 5)), (4, (0, 1, 2, 3)), (3, (0, 1, 2))]
)
@pytest.mark.parametrize("n_prefix", [0, 1, 5])
def test_the_stages_of_a_transformer_are_evenly_spaced_blocks(n_blocks, expected, n_prefix):
    source = read(Blocks(n_blocks, n_prefix), features="stages")
    assert source.layers == tuple(MapLayer(f"blocks.{index}", 0, 6, 8.0, "tokens", n_prefix) for index in expected)


def test_tokens_become_a_map():
    source = read(Blocks(4, n_prefix=2), features=["blocks.0"])
    pixels = images(1, 40, 56)
    network = source.network
    with torch.inference_mode():
        patches = network.embed(source.normalize(pixels, NORMALIZATION.mean, NORMALIZATION.std))
        flat = patches.flatten(2).movedim(1, -1)
        expected = network.blocks[0](flat).movedim(-1, 1).reshape(1, 6, 5, 7)
    torch.testing.assert_close(source.feature_maps(pixels).features[0], expected)


def test_a_backbone_gives_its_maps_and_no_scores():
    source = read(Trunk(), has_scores=False)
    assert layers_of(source) == [("", 5, 2), ("", 6, 4), ("", 7, 8)]
    assert (source.n_features, source.n_classes, source.scores_known) == (18, 0, False)
    maps = source.feature_maps(images(1, 48, 72))
    assert maps.scores is None
    assert [tuple(one.shape[1:]) for one in maps.features] == [(5, 24, 36), (6, 12, 18), (7, 6, 9)]
    assert layers_of(read(Trunk(), has_scores=False, features="last")) == [("", 7, 8)]


# Layers by name


def test_layers_by_name():
    source = read(UNet(), features=["downs.2", "head", "downs.0.widen"])
    assert layers_of(source) == [("downs.2", 7, 8), ("head", 3, 2), ("downs.0.widen", 12, 1)]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("downs.7", "has no layer 'downs.7'; similar ones are downs"),
        ("xyzzy", "has no layer 'xyzzy'; its last ones are ups.1, head, unused"),
        ("pool", "layer 'pool' gives no map, but [(1, 7, 1, 1)]; name another one"),
        ("unused", "layer 'unused' is not used; name another one"),
    ],
)
def test_layers_that_cannot_be_read(name, reason):
    class Pooled(UNet):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.unused = nn.Conv2d(3, 3, 1)

        def forward(self, images: Tensor) -> Tensor:
            self.pool(self.downs[2](self.downs[1](self.downs[0](images))))
            return super().forward(images)

    with pytest.raises(ConfigError) as caught:
        read(Pooled(), features=[name])
    assert reason in message_of(caught)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 7, 24, 40), MapLayer("x", 0, 7, 4, "channels_first")),
        ((1, 24, 40, 7), MapLayer("x", 0, 7, 4, "channels_last")),
        ((1, 960, 7), MapLayer("x", 0, 7, 4, "tokens", 0)),
        ((1, 961, 7), MapLayer("x", 0, 7, 4, "tokens", 1)),
        ((1, 965, 7), MapLayer("x", 0, 7, 4, "tokens", 5)),
        ((1, 7, 960), None),
        ((1, 7, 24, 41), None),
        ((1, 4, 60, 60), None),
        ((1, 7), None),
    ],
)
def test_shapes_of_maps(shape, expected):
    assert as_layer("x", 0, torch.zeros(shape), (96, 160)) == expected


def test_squares_of_attention_are_no_maps_of_square_images():
    assert as_layer("x", 0, torch.zeros(1, 3, 197, 197), (224, 224)) is None
    assert as_layer("x", 0, torch.zeros(1, 8, 64, 64), (224, 224)) == MapLayer("x", 0, 8, 3.5)


# Several readings


def test_several_readings_in_one_pass():
    source = read(UNet())
    stages = with_features(source, "stages")
    calls = []
    source.network.register_forward_hook(lambda *_: calls.append(None))
    first, second = feature_maps_of([source, stages], images(1, 48, 72))
    assert len(calls) == 1
    assert torch.equal(first.features[0], source.feature_maps(images(1, 48, 72)).features[0])
    assert len(second.features) == 3
    assert torch.equal(first.scores, second.scores)
