"""Networks that do what no source should: change tensors in place, answer at random, or return scores in odd forms.

Values are compared with a slow way of reading: the whole maps are enlarged to the image, and indexed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toy_nets import NORMALIZATION, AnySize, seeded

from seg_transfer.errors import ConfigError
from seg_transfer.features.extract import extract
from seg_transfer.features.images import ImageBatch
from seg_transfer.models.heads import with_new_head
from seg_transfer.models.reading import read_network
from seg_transfer.models.sizes import InputSizes
from seg_transfer.models.source_model import SourceModel
from seg_transfer.models.watching import covers
from seg_transfer.observations import Observations, PixelSample

SIZE = (37, 50)


class Ends(AnySize):
    """A network of stride 4 whose last layer is followed by something."""

    def __init__(self, end: Callable[[Tensor], Any], n_classes: int = 4) -> None:
        super().__init__(nn.Conv2d(8, n_classes, 1))
        self.end = end

    def forward(self, images: Tensor) -> Any:
        return self.end(super().forward(images))


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 3, *SIZE), dtype=np.uint8)


def sample() -> PixelSample:
    rng = np.random.default_rng(1)
    rows, columns = (rng.integers(0, side, 30) for side in SIZE)
    rows[:2], columns[:2] = 0, SIZE[1] - 1
    index = np.arange(30) // 15
    return PixelSample(("a", "b"), np.array([SIZE, SIZE]), index, rows, columns, np.arange(30) % 2)


def observed(source: SourceModel) -> Observations:
    return extract(source, [ImageBatch((0, 1), pixels())], sample())


def read_slowly(maps: Tensor) -> np.ndarray:
    """Enlarge maps (2, C, h, w) to the images, and take the pixels of the sample."""
    of = sample()
    enlarged = F.interpolate(maps, size=SIZE, mode="bilinear").numpy()
    return enlarged[of.image_index, :, of.rows, of.columns]


def normalized() -> Tensor:
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in NORMALIZATION[:2])
    return (torch.from_numpy(pixels()).float() / 255 - mean) / std


@pytest.mark.parametrize(
    "end",
    [
        lambda scores: scores.sigmoid_(),
        lambda scores: scores.log_softmax(dim=1),
        lambda scores: {"aux": -scores, "out": scores},
    ],
    ids=["sigmoid in place", "log-softmax", "auxiliary first"],
)
@torch.no_grad()
def test_scores_are_those_of_the_last_layer_whatever_follows(end):
    network = seeded(Ends(end))
    source = read_network(network, NORMALIZATION)
    assert source.classifier_name == "head"
    features = torch.tanh(network.body(torch.tanh(network.stem(normalized()))))
    found = observed(source)
    np.testing.assert_allclose(found.features, read_slowly(features), atol=1e-5)
    expected = torch.from_numpy(read_slowly(network.head(features))).softmax(dim=1)
    np.testing.assert_allclose(found.source_probs, expected, atol=1e-5)


def test_scores_that_are_changed_in_place_are_those_that_the_network_returns():
    network = seeded(Ends(lambda scores: scores.mul_(3)))
    source = read_network(network, NORMALIZATION)
    assert source.classifier_name is None
    with torch.no_grad():
        expected = torch.from_numpy(read_slowly(network(normalized()))).softmax(dim=1)
    np.testing.assert_allclose(observed(source).source_probs, expected, atol=1e-5)


def test_a_new_last_layer_is_trained_on_its_scores_before_they_are_changed_in_place():
    source = with_new_head(read_network(seeded(Ends(lambda scores: scores.sigmoid_(), 1)), NORMALIZATION), 3, seed=0)
    scores, _ = source.class_scores(normalized())
    assert scores.shape[1] == 3
    assert float(scores.detach().min()) < 0
    scores.square().sum().backward()
    assert float(source.network.stem.weight.grad.abs().sum()) > 0


class TwoNames(AnySize):
    """Uses its last layer under a second name."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(8, 4, 1))
        self.classifier = self.head

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(torch.tanh(self.body(torch.tanh(self.stem(images)))))


def test_a_last_layer_of_two_names_is_replaced_under_both():
    source = with_new_head(read_network(seeded(TwoNames()), NORMALIZATION), 3, seed=0)
    assert source.network.head is source.network.classifier
    assert source.feature_maps(torch.from_numpy(pixels())).scores.shape[1] == 3


class InPlacePatches(nn.Module):
    """Patches of 16 pixels, which drop what is beyond the last whole one; changes the images that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 16, stride=16)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stem(images.sub_(0.25)))


def test_a_network_that_changes_its_images_is_found_to_drop_their_border():
    assert read_network(seeded(InPlacePatches()), NORMALIZATION).sizes == InputSizes(multiple=16)


class TokenHead(nn.Module):
    """A linear layer that scores tokens of patches; the scores are enlarged to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 8, stride=8)
        self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        one = torch.tanh(self.stem(images))
        scores = self.head(one.flatten(2).movedim(1, 2)).movedim(2, 1).reshape(len(one), 3, *one.shape[2:])
        return F.interpolate(scores, size=images.shape[2:], mode="bilinear")


@torch.no_grad()
def test_a_linear_layer_on_tokens_is_a_classifier_although_its_scores_are_enlarged():
    network = seeded(TokenHead())
    source = read_network(network, NORMALIZATION)
    assert (source.classifier_name, source.sizes.multiple) == ("head", 8)
    images = F.pad(normalized(), (0, 6, 0, 3))
    tokens = torch.tanh(network.stem(images))
    scores = network.head(tokens.movedim(1, 3)).movedim(3, 1)
    maps = source.feature_maps(torch.from_numpy(pixels()))
    torch.testing.assert_close(maps.features[0], tokens)
    torch.testing.assert_close(maps.scores, scores)


def test_stages_of_stride_64_are_found():
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.downs = nn.ModuleList(nn.Conv2d(3 if n == 0 else 4, 4, 3, 2, 1) for n in range(6))

        def forward(self, images: Tensor) -> list[Tensor]:
            maps = [images]
            for down in self.downs:
                maps.append(torch.tanh(down(maps[-1])))
            return maps[1:]

    source = read_network(seeded(Deep()), NORMALIZATION, has_scores=False)
    assert [layer.stride for layer in source.layers] == [2, 4, 8, 16, 32, 64]


# Refused


class Training(AnySize):
    """Switches its normalization to training mode whenever it runs."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)))

    def forward(self, images: Tensor) -> Tensor:
        self.head[0].train()
        return super().forward(images)


class SharedHead(nn.Module):
    """One last layer for the maps of two strides."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        fine = self.first(images)
        return [self.head(fine), self.head(self.second(fine))]


class Flips(AnySize):
    """Adds its answer for the flipped image, so that its layers have seen that last."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + super().forward(images.flip(3)).flip(3)


class Sorted(nn.Module):
    """Tokens of patches in the order of columns."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 8, stride=8)
        self.blocks = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))

    def forward(self, images: Tensor) -> Tensor:
        one = self.stem(images).movedim(3, 2)
        tokens = self.blocks(one.flatten(2).movedim(1, 2))
        return tokens.movedim(2, 1).reshape(one.shape).movedim(2, 3)


class Unpadded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 7), nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stem(images))


@pytest.mark.parametrize(
    ("network", "excerpt"),
    [
        (Ends(lambda scores: scores + torch.rand_like(scores)), "gives different outputs for the same image"),
        (Ends(lambda scores: F.dropout(scores, 0.5)), "gives different outputs for the same image"),
        (Training(), "switches layer 'head.0' to training mode in a forward pass"),
        (Ends(lambda scores: scores.transpose(2, 3)), "returns scores of 80 x 48 cells for an image of 192 x 320 pix"),
        (Ends(lambda scores: scores.movedim(1, 3)), "returns scores of 80 x 4 cells for an image of 192 x 320 pixels"),
        (Ends(lambda scores: scores.argmax(1, keepdim=True).float()), "returns class indices or a mask instead of cl"),
        (Unpadded(), "returns scores of 186 x 314 cells for an image of 192 x 320 pixels, so it does not cover the im"),
        (SharedHead(), "returns 2 score maps (B, C, h, w), one is expected"),
    ],
)
def test_networks_whose_features_would_be_wrong_are_refused(network, excerpt):
    with pytest.raises(ConfigError) as caught:
        read_network(seeded(network), NORMALIZATION)
    assert excerpt in str(caught.value)


@pytest.mark.parametrize(("network", "features"), [(Flips(nn.Conv2d(8, 2, 1)), "stages"), (Sorted(), ["blocks.1"])])
def test_maps_of_other_places_are_refused(network, features):
    with pytest.raises(ConfigError, match="changes at other places than the image does, as those of flipped images"):
        read_network(seeded(network), NORMALIZATION, features=features)


def test_a_named_last_layer_that_is_used_twice_is_refused():
    with pytest.raises(ConfigError, match="uses its layer 'head' 2 times, so it is open which scores are meant"):
        read_network(seeded(SharedHead()), NORMALIZATION, classifier="head")


def test_noise_of_the_last_digits_is_no_other_answer():
    network = Ends(lambda scores: scores * (1 + 1e-5 * torch.rand_like(scores)))
    assert read_network(seeded(network), NORMALIZATION).n_classes == 4


@pytest.mark.parametrize(
    ("sides", "size", "fits"),
    [((12, 20), (96, 160), True), ((13, 21), (97, 161), True), ((20, 12), (96, 160), False), ((1, 1), (9, 90), True)],
)
def test_maps_that_cover_an_image(sides, size, fits):
    assert covers(sides, size) is fits
