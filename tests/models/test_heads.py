"""New last layers for other classes: only they change, and what they give is what their weights say."""

import pytest
import torch
import torch.nn.functional as F
from tiny_source import images, message_of
from torch import Tensor, nn
from toy_nets import NORMALIZATION, AnySize, Trunk, UNet, seeded

from seg_transfer.errors import ConfigError
from seg_transfer.models.heads import LinearHead, with_new_head
from seg_transfer.models.reading import read_network

HEADS = {
    "linear": (lambda: nn.Linear(8, 3), True, (5, 8)),
    "1x1": (lambda: nn.Conv2d(8, 3, 1), False, (5, 8, 1, 1)),
    "3x3": (lambda: nn.Conv2d(8, 3, 3, padding=1, padding_mode="reflect"), False, (5, 8, 3, 3)),
    "grouped": (lambda: nn.Conv2d(8, 4, 1, groups=4), False, (5, 8, 1, 1)),
    "transposed": (lambda: nn.ConvTranspose2d(8, 3, 2, stride=2), False, (8, 5, 2, 2)),
    "one channel": (lambda: nn.Conv2d(8, 1, 1), False, (5, 8, 1, 1)),
    "no bias": (lambda: nn.Conv2d(8, 3, 1, bias=False), False, (5, 8, 1, 1)),
}


@pytest.mark.parametrize("kind", HEADS)
def test_only_the_last_layer_changes(kind):
    make, channels_last, shape = HEADS[kind]
    source = read_network(seeded(AnySize(make(), channels_last=channels_last)), NORMALIZATION)
    before = {name: tensor.clone() for name, tensor in source.network.state_dict().items()}
    old_bias = source.classifier.bias is not None
    changed = with_new_head(source, 5, seed=3)
    assert (changed.n_classes, changed.n_features, changed.classifier_name) == (5, 8, "head")
    assert tuple(changed.classifier.weight.shape) == shape
    assert (changed.classifier.bias is not None) == old_bias
    assert not old_bias or not changed.classifier.bias.detach().any()
    assert float(changed.classifier.weight.detach().std()) == pytest.approx(0.01, rel=0.5)
    after = changed.network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items() if not name.startswith("head"))
    scores = changed.feature_maps(images(1, 48, 72)).scores
    expected = source.feature_maps(images(1, 48, 72)).scores
    assert torch.equal(scores, expected)  # the network is shared


def test_new_weights_depend_on_the_seed_alone():
    def weights(seed: int) -> Tensor:
        torch.rand(7)  # the global generator has no influence
        source = read_network(seeded(AnySize(nn.Conv2d(8, 3, 1))), NORMALIZATION)
        return with_new_head(source, 4, seed=seed).classifier.weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_a_backbone_gets_a_linear_layer_on_its_maps_at_stride_four():
    trunk = seeded(Trunk())
    tuned = with_new_head(read_network(trunk, NORMALIZATION, has_scores=False), 4, seed=0)
    assert isinstance(tuned.network, LinearHead)
    assert (tuned.n_features, tuned.n_classes, tuned.classifier_name) == (18, 4, "classifier")
    pixels = images(1, 48, 72)
    with torch.inference_mode():
        maps = trunk(tuned.normalize(pixels, NORMALIZATION.mean, NORMALIZATION.std))
    halved, enlarged = F.avg_pool2d(maps[0], 2), F.interpolate(maps[2], size=maps[1].shape[2:], mode="bilinear")
    features = torch.cat([halved, maps[1], enlarged], dim=1)
    found = tuned.feature_maps(pixels)
    torch.testing.assert_close(found.features[0], features)
    weight, bias = tuned.classifier.weight[:, :, 0, 0], tuned.classifier.bias
    expected = torch.einsum("cd,bdhw->bchw", weight, features) + bias[:, None, None]
    torch.testing.assert_close(found.scores, expected, atol=1e-5, rtol=1e-5)
    names = tuned.network.state_dict().keys()
    assert names == {f"backbone.{name}" for name in trunk.state_dict()} | {"classifier.weight", "classifier.bias"}


def test_a_map_finer_than_stride_four_stays_where_it_is_alone():
    trunk = seeded(Trunk())
    tuned = with_new_head(read_network(trunk, NORMALIZATION, has_scores=False, features=("downs.0",)), 4, seed=0)
    (features,) = tuned.feature_maps(images(1, 48, 72)).features
    assert features.shape == (1, 5, 24, 36)


def test_gradients_reach_all_weights_of_a_backbone():
    tuned = with_new_head(read_network(seeded(Trunk()), NORMALIZATION, has_scores=False), 4, seed=0)
    scores, _ = tuned.class_scores(torch.randn(2, 3, 32, 48))
    scores.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in tuned.network.parameters())


class Queries(Trunk):
    """A network without a last layer, which can replace its classes itself."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(3, 7))

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("bdhw,cd->bchw", super().forward(images)[-1], F.normalize(self.vectors, dim=1))

    def replace_classes(self, n_classes: int, generator: torch.Generator) -> None:
        self.vectors = nn.Parameter(torch.randn(n_classes, 7, generator=generator))


def test_a_network_may_replace_its_classes_itself():
    tuned = with_new_head(read_network(seeded(Queries()), NORMALIZATION, scores_only=True), 6, seed=0)
    assert isinstance(tuned.network, Queries)
    assert (tuned.n_classes, tuple(tuned.network.vectors.shape)) == (6, (6, 7))
    assert tuned.feature_maps(images(1, 48, 72)).scores.shape[1] == 6


def test_scores_alone_cannot_be_replaced():
    class Fixed(Queries):
        replace_classes = None

    with pytest.raises(ConfigError) as caught:
        with_new_head(read_network(seeded(Fixed()), NORMALIZATION, scores_only=True), 6, seed=0)
    assert message_of(caught) == (
        "network Fixed: gives scores only, and no layer that could be replaced; choose features: stages for a linear "
        "layer on its features"
    )


def test_a_network_that_relies_on_its_number_of_classes():
    class Doubled(UNet):
        def forward(self, images: Tensor) -> Tensor:
            scores = super().forward(images)
            return scores if scores.shape[1] == 3 else scores[:, :3]

    with pytest.raises(ConfigError, match="its class scores are not the output of its layer 'head'"):
        with_new_head(read_network(seeded(Doubled()), NORMALIZATION), 5, seed=0)
