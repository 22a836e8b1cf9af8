from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.record import Record
from seg_transfer.training.crops import TrainingCrops, random_crop
from seg_transfer.training.schedule import Schedule

SCHEDULE = Schedule(steps=4, batch_size=3, learning_rate=0.1, scale_range=(0.5, 2.0))
MANIFEST = DatasetManifest.model_validate(
    {
        "name": "gradient",
        "title": "gradient",
        "domain": "test",
        "classes": [f"class_{index}" for index in range(16)],
        "labels": {"encoding": "id"},
        "root": ".",
        "train": {"images": "*.png", "labels": "*_label.png"},
        "eval": {"images": "*.png", "labels": "*_label.png"},
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "crop_size": [32, 48],
    }
)


def gradient(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels are vertical bands; the red channel says in which band a pixel lies, green and blue where."""
    columns = np.arange(width) * 16 // width
    label = np.broadcast_to(columns, (height, width)).astype(np.uint8)
    image = np.stack([label * 16 + 7, label * 0 + 40, label * 0 + 200], axis=2).astype(np.uint8)
    return image, label


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    made = []
    for number in range(5):
        image, label = gradient(40 + number, 64)
        paths = tmp_path / f"{number}.png", tmp_path / f"{number}_label.png"
        Image.fromarray(image).save(paths[0])
        Image.fromarray(label).save(paths[1])
        made.append(Record(str(number), *paths))
    return made


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("shape", [(40, 64), (64, 40), (300, 200), (9, 13)])
def test_labels_stay_on_their_pixels(shape: tuple[int, int], seed: int) -> None:
    image, label = gradient(*shape)
    crop, ids = random_crop(image, label, (32, 48), SCHEDULE, np.random.default_rng(seed))
    assert crop.shape == (32, 48, 3)
    assert ids.shape == (32, 48)
    known = ids != 255
    assert known.any()
    band = crop[..., 0][known].astype(int) // 16
    # A resized image blends the colors of neighboring bands, so it may be one band off where two meet.
    assert np.abs(band - ids[known]).max() <= 1
    assert (band == ids[known]).mean() > 0.5
    assert (crop[~known] == 0).all()


def test_a_flip_mirrors_image_and_labels_together() -> None:
    image, label = gradient(32, 48)
    plain = Schedule(steps=1, batch_size=1, learning_rate=0.1, scale_range=(1, 1), flip_probability=0)
    mirrored = plain.model_copy(update={"flip_probability": 1})
    straight = random_crop(image, label, (32, 48), plain, np.random.default_rng(0))
    flipped = random_crop(image, label, (32, 48), mirrored, np.random.default_rng(0))
    assert np.array_equal(straight[0], image)
    assert np.array_equal(flipped[0], image[:, ::-1])
    assert np.array_equal(flipped[1], label[:, ::-1])


def test_scales_span_the_whole_range_evenly_on_a_log_scale() -> None:
    image, label = gradient(32, 32)
    generator = np.random.default_rng(0)
    shares = [(random_crop(image, label, (64, 64), SCHEDULE, generator)[1] != 255).mean() for _ in range(400)]
    # The crop's shorter side is 64, so the image is 64 * factor wide: its share of the crop is factor squared.
    factors = np.sqrt(np.array(shares))
    assert 0.5 <= factors.min() < 0.52
    assert 0.4 < (factors < 1).mean() < 0.6


def test_a_sample_is_the_same_in_any_order_and_process(records: list[Record]) -> None:
    crops, again = (TrainingCrops(records, MANIFEST, SCHEDULE, seed=7) for _ in range(2))
    forwards = [crops[number] for number in range(len(crops))]
    for number in reversed(range(len(crops))):
        assert (again[number]["inputs"] == forwards[number]["inputs"]).all()
    other = TrainingCrops(records, MANIFEST, SCHEDULE, seed=8)
    assert any((other[number]["inputs"] != forwards[number]["inputs"]).any() for number in range(len(crops)))


def test_every_epoch_shows_every_image_once_in_an_order_of_its_own(records: list[Record]) -> None:
    crops = TrainingCrops(records, MANIFEST, SCHEDULE.model_copy(update={"steps": 10}), seed=1)
    paths = [crops[number]["data_samples"].img_path for number in range(30)]
    epochs = [paths[start : start + 5] for start in range(0, 30, 5)]
    assert all(len(set(epoch)) == 5 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_inputs_are_bgr_as_mmseg_reads_images(records: list[Record]) -> None:
    crops = TrainingCrops(records, MANIFEST, SCHEDULE, seed=1)
    sample = crops[0]
    known = sample["data_samples"].gt_sem_seg.data[0] != 255
    blue, green, _ = sample["inputs"]
    assert (blue[known] == 200).all()
    assert (green[known] == 40).all()
