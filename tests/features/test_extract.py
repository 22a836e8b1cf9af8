"""Observations hold what the enlarged feature maps show at the sampled pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from seg_transfer.data.images import read_image, read_label, resize_to_short_side
from seg_transfer.data.manifest import load_manifest
from seg_transfer.data.record import Record
from seg_transfer.data.records import low_shot_records
from seg_transfer.features.extract import extract, extract_readings
from seg_transfer.features.images import ImageBatch, TargetImages
from seg_transfer.models.configs import read_model_config, with_classes, with_normalization
from seg_transfer.models.loading import load_source_model
from seg_transfer.models.outputs import FeatureMaps
from seg_transfer.models.reading import with_features
from seg_transfer.models.source_model import SourceModel
from seg_transfer.observations import Observations, PixelSample
from seg_transfer.resources import shipped
from seg_transfer.sampling import draw_pixel_sample

SIZES = [(48, 72), (75, 50), (48, 72), (61, 97), (48, 72)]
SHORT_SIDE = 40


@pytest.fixture(scope="module")
def source() -> SourceModel:
    model = with_classes(read_model_config(shipped("configs/models/hrnetv2_tiny.py")), 5)
    return load_source_model(with_normalization(model, (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)))


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """Images of three sizes and two orientations, coarse patterns that are brighter towards one corner."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(11)
    found = []
    for number, (height, width) in enumerate(SIZES):
        coarse = generator.integers(0, 160, (6, 9, 3), np.uint8)
        pixels = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(float)
        pixels += np.linspace(0, 80, width)[None, :, None]
        file = folder / f"{number}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)
        found.append(Record(str(number), file, file))
    return found


@pytest.fixture(scope="module")
def sample() -> PixelSample:
    """Unequal numbers of pixels per image, none of image 2, in no order, with all four corners of image 3."""
    generator = np.random.default_rng(12)
    index = np.concatenate([np.full(n, image) for image, n in enumerate([20, 7, 0, 13, 31])])
    index = generator.permutation(index)
    sizes = np.array(SIZES)[index]
    rows, columns = (generator.integers(0, sizes[:, axis]) for axis in (0, 1))
    in_third = np.flatnonzero(index == 3)[:4]
    rows[in_third], columns[in_third] = [0, 0, 60, 60], [0, 96, 0, 96]
    labels = generator.choice([0, 3, 7], p=[0.7, 0.2, 0.1], size=len(index))
    labels[:3] = [0, 3, 7]
    return PixelSample(tuple("01234"), np.array(SIZES), index, rows, columns, labels)


def upsampled(feature_map: Tensor, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """The whole map (D, h, w), enlarged in float64: (D, H, W)."""
    whole = F.interpolate(feature_map[None].double(), size=size, mode="bilinear", align_corners=False)
    return np.asarray(whole[0].numpy())


def sample_of_all(size: tuple[int, int]) -> PixelSample:
    rows, columns = (axis.ravel() for axis in np.indices(size))
    return PixelSample(("a",), np.array([size]), np.zeros(rows.size, int), rows, columns, np.zeros(rows.size, int))


# extract


def reference(source: SourceModel, records: list[Record], sample: PixelSample, **normalization: Any) -> Observations:
    """One pixel after the other, from maps enlarged to the size of the label map."""
    features, probabilities, embeddings = [], [], []
    enlarged = {}
    for index, record in enumerate(records):
        resized = resize_to_short_side(read_image(record), SHORT_SIDE)
        maps = source.feature_maps(torch.from_numpy(resized.transpose(2, 0, 1).copy())[None], **normalization)
        enlarged[index] = [upsampled(part[0], SIZES[index]) for part in (maps.features[0], maps.scores)]
        if index in sample.image_index:
            embeddings.append(maps.features[0][0].double().numpy().mean(axis=(1, 2)))
    for index, row, column in zip(sample.image_index, sample.rows, sample.columns, strict=True):
        feature_map, scores = enlarged[int(index)]
        features.append(feature_map[:, row, column])
        exponentials = np.exp(scores[:, row, column] - scores[:, row, column].max())
        probabilities.append(exponentials / exponentials.sum())
    seen = np.array(features), sample.labels, np.array(probabilities), sample.image_index, np.array(embeddings)
    return Observations(*seen)


def assert_close(found: Observations, expected: Observations) -> None:
    np.testing.assert_allclose(found.features, expected.features, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(found.source_probs, expected.source_probs, atol=1e-5)
    np.testing.assert_allclose(found.image_embeddings, expected.image_embeddings, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_observations_equal_those_of_a_slow_reference(source, records, sample, batch_size):
    found = extract(source, TargetImages(records, SHORT_SIDE, batch_size=batch_size), sample)
    expected = reference(source, records, sample)
    assert np.median(expected.features.std(axis=0)) > 0.1
    assert expected.source_probs.std(axis=0).min() > 0.02
    assert_close(found, expected)
    assert found.features.dtype == found.source_probs.dtype == found.image_embeddings.dtype == np.float32
    assert found.features.shape == (71, 64)
    assert found.image_embeddings.shape == (4, 64)  # image 2 has no pixel in the sample
    assert found.image_embeddings.std(axis=0).max() > 0.02
    np.testing.assert_array_equal(found.labels, sample.labels)
    np.testing.assert_array_equal(found.image_index, sample.image_index)
    np.testing.assert_allclose(found.source_probs.sum(axis=1), 1, atol=1e-6)
    assert found.source_probs.min() > 0


def test_the_order_of_the_images_is_irrelevant(source, records, sample):
    batches = list(TargetImages(records, SHORT_SIDE))
    there, back = extract(source, batches, sample), extract(source, batches[::-1], sample)
    np.testing.assert_array_equal(there.features, back.features)
    np.testing.assert_array_equal(there.source_probs, back.source_probs)
    np.testing.assert_array_equal(there.image_embeddings, back.image_embeddings)


def test_the_order_of_the_pixels_is_irrelevant(source, records, sample):
    order = np.random.default_rng(4).permutation(len(sample))
    shuffled = PixelSample(
        sample.image_ids,
        sample.image_sizes,
        *(part[order] for part in (sample.image_index, sample.rows, sample.columns, sample.labels)),
    )
    batches = list(TargetImages(records, SHORT_SIDE))
    found, expected = extract(source, batches, shuffled), extract(source, batches, sample)
    np.testing.assert_array_equal(found.features, expected.features[order])
    np.testing.assert_array_equal(found.image_embeddings, expected.image_embeddings)


def test_the_targets_normalization_is_used_when_given(source, records, sample):
    other = {"mean": (0.1, 0.2, 0.7), "std": (0.3, 0.1, 0.2)}
    images = TargetImages(records, SHORT_SIDE)
    found = extract(source, images, sample, **other)
    assert_close(found, reference(source, records, sample, **other))
    assert not np.allclose(found.features, extract(source, images, sample).features, atol=0.1)


def test_one_forward_pass_per_batch(source, records, sample):
    passes = []
    counter = source.network.register_forward_hook(lambda _module, inputs, _output: passes.append(len(inputs[0])))
    extract(source, TargetImages(records, SHORT_SIDE, batch_size=2), sample)
    counter.remove()
    assert sorted(passes) == [1, 1, 1, 2]


def test_several_readings_of_a_network_share_its_forward_passes(source, records, sample):
    stages = with_features(source, "stages")
    passes = []
    counter = source.network.register_forward_hook(lambda *_: passes.append(None))
    together = extract_readings([source, stages], TargetImages(records, SHORT_SIDE), sample)
    counter.remove()
    assert len(passes) == len(records)
    for reading, found in zip((source, stages), together, strict=True):
        alone = extract(reading, TargetImages(records, SHORT_SIDE), sample)
        np.testing.assert_array_equal(found.features, alone.features)
        np.testing.assert_array_equal(found.source_probs, alone.source_probs)
        np.testing.assert_array_equal(found.image_embeddings, alone.image_embeddings)


def test_every_map_is_read_at_the_centers_of_the_pixels(source, records, sample):
    """The branches of an HRNet: each is enlarged to the size of the label map here, and read at the pixel."""
    stages = with_features(source, "stages")
    found = extract(stages, TargetImages(records, SHORT_SIDE), sample)
    for index, record in enumerate(records):
        resized = resize_to_short_side(read_image(record), SHORT_SIDE)
        maps = stages.feature_maps(torch.from_numpy(resized.transpose(2, 0, 1).copy())[None])
        full = np.concatenate([upsampled(part[0], SIZES[index]) for part in maps.features])
        rows = sample.image_index == index
        expected = full[:, sample.rows[rows], sample.columns[rows]].T
        np.testing.assert_allclose(found.features[rows], expected, atol=1e-4, rtol=1e-4)


def test_a_pixel_of_a_coarser_grid_lies_at_the_center_of_its_cell(source, records):
    """A sample drawn from labels on the feature grid (10, 15) reads the map's own values there."""
    cells = sample_of_all((10, 15))
    labels = np.arange(len(cells)) % 3
    sample = PixelSample(("0",), cells.image_sizes, cells.image_index, cells.rows, cells.columns, labels)
    resized = resize_to_short_side(read_image(records[0]), SHORT_SIDE)
    maps = source.feature_maps(torch.from_numpy(resized.transpose(2, 0, 1).copy())[None])
    assert maps.features[0].shape[2:] == (10, 15)
    found = extract(source, TargetImages(records[:1], SHORT_SIDE), sample)
    np.testing.assert_allclose(found.features, maps.features[0][0].flatten(1).T, atol=1e-4, rtol=1e-4)


def test_the_records_are_those_of_a_data_root(source, small_world: Path):
    """The whole way on a dataset as it lies on the disk: 64 x 96 images at their own size."""
    manifest = load_manifest(small_world / "manifests" / "day_street.yaml")
    records = low_shot_records(manifest, small_world)
    sample = draw_pixel_sample([(record.image_id, read_label(record, manifest)) for record in records], 50)
    found = extract(source, TargetImages(records, min(manifest.crop_size)), sample)
    assert found.features.shape == (250, 64)
    assert len(found.classes) >= 4


class Constant:
    """A source whose maps hold one vector, but for one value of the last image where ``differs``."""

    features_known, scores_known, n_features, n_classes = True, True, 3, 2
    network, linear_classifier = nn.Identity(), None

    def __init__(self, *, differs: bool) -> None:
        self.differs = differs

    def feature_maps(self, pixels: Tensor, *_: object) -> FeatureMaps:
        n, _, height, width = pixels.shape
        features = torch.tensor([0.1, 1 / 3, -7.7]).view(3, 1, 1).expand(n, 3, height // 4, width // 4).clone()
        scores = torch.tensor([0.3, 1.1]).view(2, 1, 1).expand(n, 2, height // 4, width // 4).clone()
        if self.differs and width == 97:
            features[0, 1, 0, 0], scores[0, 0, 0, 0] = 5, 5
        return FeatureMaps((features,), scores)


def test_maps_of_one_vector_are_read_without_the_noise_of_interpolation(sample, monkeypatch):
    def run(sources: list[Constant], pixels: Tensor, *_: object, **__: object) -> list[FeatureMaps]:
        return [source.feature_maps(pixels) for source in sources]

    monkeypatch.setattr("seg_transfer.features.extract.feature_maps_of", run)
    batches = [ImageBatch((index,), np.zeros((1, 3, *size), np.uint8)) for index, size in enumerate(SIZES)]
    found = extract(Constant(differs=False), batches, sample)  # type: ignore[arg-type]
    assert found.constant_inputs == {"features", "source_probs"}
    np.testing.assert_array_equal(found.features[0], np.array([0.1, 1 / 3, -7.7], np.float32))
    np.testing.assert_array_equal(found.image_embeddings, found.features[:4])
    assert found.source_probs[0, 0] == pytest.approx(1 / (1 + np.exp(0.8)))
    other = extract(Constant(differs=True), batches, sample)  # type: ignore[arg-type]
    assert other.constant_inputs == frozenset()
    np.testing.assert_allclose(np.median(other.features, axis=0), found.features[0], rtol=1e-6)
