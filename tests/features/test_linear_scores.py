"""Probabilities from the features of the sampled pixels equal those of the score map, which is not made then."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seg_transfer.features.extract import extract, extract_readings
from seg_transfer.features.images import ImageBatch
from seg_transfer.features.points import SamplePoints, read_at
from seg_transfer.models.normalization import IMAGENET
from seg_transfer.models.outputs import FeatureMaps
from seg_transfer.models.reading import read_network, with_features
from seg_transfer.models.source_model import SourceModel
from seg_transfer.models.watching import is_pointwise, returning_zeros
from seg_transfer.observations import PixelSample

SIZE = (64, 96)


class Net(nn.Module):
    """Two convolutions, a classifier, and scores enlarged to the image."""

    def __init__(self, classifier: nn.Module, *, channels_last: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU())
        self.classifier = classifier
        self.channels_last = channels_last
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        scores = self.classifier(features.movedim(1, -1)).movedim(-1, 1) if self.channels_last else None
        scores = self.classifier(features) if scores is None else scores
        return nn.functional.interpolate(scores, size=images.shape[2:], mode="bilinear")


NETS = {
    "convolution": lambda: Net(nn.Conv2d(8, 5, 1)),
    "without a bias": lambda: Net(nn.Conv2d(8, 5, 1, bias=False)),
    "linear": lambda: Net(nn.Linear(8, 5), channels_last=True),
    "one score": lambda: Net(nn.Conv2d(8, 1, 1)),
}


@pytest.fixture(scope="module")
def batches() -> list[ImageBatch]:
    pixels = np.random.default_rng(5).integers(0, 256, (3, 3, *SIZE), np.uint8)
    return [ImageBatch((0, 2), pixels[[0, 2]]), ImageBatch((1,), pixels[1:2])]


@pytest.fixture(scope="module")
def sample() -> PixelSample:
    generator = np.random.default_rng(6)
    rows, columns = generator.integers(0, SIZE[0], 90), generator.integers(0, SIZE[1], 90)
    return PixelSample(tuple("abc"), np.array([SIZE] * 3), np.arange(90) % 3, rows, columns, np.arange(90) % 2)


def calls(source: SourceModel) -> list[int]:
    """Count, from now on, how many cells its classifier's own method is given."""
    counted: list[int] = []
    layer = source.classifier
    assert layer is not None
    name = "_conv_forward" if isinstance(layer, nn.Conv2d) else "forward"
    own = getattr(layer, name)
    setattr(layer, name, lambda given, *words: counted.append(given.numel()) or own(given, *words))
    return counted


@pytest.mark.parametrize("name", NETS)
def test_probabilities_are_those_of_the_score_map(name, batches, sample):
    source = read_network(NETS[name](), IMAGENET, n_classes=2 if name == "one score" else 5)
    assert source.linear_classifier is not None
    found = extract(source, batches, sample).source_probs
    points = SamplePoints(sample, torch.device("cpu"))
    expected = np.empty_like(found)
    for batch in batches:
        maps = source.feature_maps(torch.from_numpy(batch.pixels))
        assert maps.scores is not None
        read = points.of(batch.indices)
        expected[read.rows] = read_at(maps.scores, read).softmax(dim=1)
    assert expected.std(axis=0).min() > 1e-3
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_the_classifier_is_not_run_on_the_maps(batches, sample):
    source = read_network(NETS["convolution"](), IMAGENET)
    counted = calls(source)
    extract(source, batches, sample)
    assert counted == []
    source.feature_maps(torch.from_numpy(batches[0].pixels))
    assert len(counted) == 1


def test_another_reading_of_the_network_still_gets_its_scores(batches, sample):
    last = read_network(NETS["convolution"](), IMAGENET)
    stages = with_features(last, "stages")
    assert stages.linear_classifier is None
    together = extract_readings([last, stages], batches, sample)
    np.testing.assert_allclose(together[1].source_probs, together[0].source_probs, atol=2e-6)
    np.testing.assert_array_equal(together[0].source_probs, extract(last, batches, sample).source_probs)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 4, 3, padding=1),
        nn.Conv2d(8, 4, 1, stride=2),
        nn.Conv2d(8, 4, 1, padding=1),
        nn.Conv2d(8, 4, 1, groups=2),
        nn.ConvTranspose2d(8, 4, 1),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 4, 1)),
        type("Scaled", (nn.Conv2d,), {})(8, 4, 1),
    ],
)
def test_layers_that_do_more_are_not_taken_for_a_matrix(layer):
    assert not is_pointwise(layer)


def test_a_hook_may_change_the_scores(batches, sample):
    source = read_network(NETS["convolution"](), IMAGENET)
    before = extract(source, batches, sample)
    assert source.classifier is not None
    source.classifier.register_forward_hook(lambda _module, _inputs, output: -output)
    assert source.linear_classifier is None
    after = extract(source, batches, sample)
    ratio = before.source_probs * after.source_probs  # of scores and of their negatives
    np.testing.assert_allclose(ratio / ratio.sum(axis=1, keepdims=True), 0.2, atol=1e-3)


def test_zeros_have_the_shape_of_the_output_and_the_layer_is_itself_again():
    for layer, shape in ((nn.Conv2d(8, 5, 1), (2, 8, 3, 4)), (nn.Linear(8, 5), (2, 12, 8))):
        given = torch.randn(shape)
        expected = layer(given)
        with returning_zeros(layer):
            assert layer(given).shape == layer(input=given).shape == expected.shape
            assert not layer(given).any()
        torch.testing.assert_close(layer(given), expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match="stop"), returning_zeros(layer):
        raise ValueError("stop")
    assert is_pointwise(layer)


def test_a_classifier_without_weights_gives_one_vector(batches, sample):
    source = read_network(NETS["convolution"](), IMAGENET)
    assert isinstance(source.classifier, nn.Conv2d)
    source.classifier.weight.data.zero_()
    found = extract(source, batches, sample)
    assert found.constant_inputs == {"source_probs"}


def test_features_of_one_vector_give_probabilities_of_one_vector(batches, sample, monkeypatch):
    source = read_network(NETS["convolution"](), IMAGENET)

    def constant(sources: list[SourceModel], pixels: Tensor, *_: object, **__: object) -> list[FeatureMaps]:
        maps = torch.linspace(-3, 1 / 3, 8).view(1, 8, 1, 1).expand(len(pixels), 8, 16, 24)
        return [FeatureMaps((maps,), None) for _ in sources]

    def noisy(rows: Tensor, *words: Tensor) -> Tensor:
        """A product whose last digits depend on the row, as those of some libraries do."""
        return product(rows, *words) + 1e-4 * torch.arange(len(rows))[:, None] ** 2 * torch.arange(5)

    product = nn.functional.linear
    monkeypatch.setattr("seg_transfer.features.extract.feature_maps_of", constant)
    monkeypatch.setattr("seg_transfer.features.extract.F.linear", noisy)
    assert extract(source, batches, sample).constant_inputs == {"features", "source_probs"}


def test_other_outputs_are_read_from_their_maps():
    source = read_network(NETS["convolution"](), IMAGENET)
    assert replace(source, layers=()).linear_classifier is None
    assert replace(source, classifier_name=None).linear_classifier is None
