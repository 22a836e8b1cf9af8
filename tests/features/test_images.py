"""Each image decoded once for all sources, in batches of one size, whatever the order and the memory."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_transfer.data.images import read_image, resize_to_short_side
from seg_transfer.data.record import Record
from seg_transfer.errors import DataError
from seg_transfer.features import images as module
from seg_transfer.features.images import ImageBatch, TargetImages, refuse_constant_images

SIZES = [(40, 60), (60, 40), (40, 60), (30, 45), (50, 51), (40, 60), (40, 60)]
ONE_IMAGE = 3 * 20 * 30


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    generator = np.random.default_rng(3)
    found = []
    for number, size in enumerate(SIZES):
        file = tmp_path / f"{number}.png"
        Image.fromarray(generator.integers(0, 256, (*size, 3), np.uint8)).save(file)
        found.append(Record(str(number), file, tmp_path / "none.png"))
    return found


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was decoded."""
    counts: Counter[str] = Counter()

    def counted(record: Record) -> np.ndarray:
        counts[record.image.stem] += 1
        return read_image(record)

    monkeypatch.setattr(module, "read_image", counted)
    return counts


@pytest.mark.parametrize("batch_size", [1, 2, 3, 10])
def test_every_image_comes_once_resized_and_with_its_index(records, batch_size):
    seen = {}
    for batch in TargetImages(records, 20, batch_size=batch_size):
        assert len(batch.indices) <= batch_size
        assert batch.pixels.dtype == np.uint8
        assert batch.pixels.shape[:2] == (len(batch.indices), 3)
        seen.update(zip(batch.indices, batch.pixels, strict=True))
    assert sorted(seen) == list(range(len(SIZES)))
    for index, record in enumerate(records):
        expected = resize_to_short_side(read_image(record), 20)
        np.testing.assert_array_equal(seen[index], expected.transpose(2, 0, 1))
        assert min(seen[index].shape[1:]) == 20


def test_images_that_get_one_size_share_a_batch(records):
    plan = sorted(batch.indices for batch in TargetImages(records, 20, batch_size=3))
    assert plan == [(0, 2, 3), (1,), (4,), (5, 6)]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_images_are_decoded_once_for_all_sources(records, decoded, batch_size):
    images = TargetImages(records, 20, batch_size=batch_size)
    passes = [{batch.indices: batch.pixels.copy() for batch in images} for _ in range(3)]
    assert decoded == Counter(map(str, range(len(SIZES))))
    for later in passes[1:]:
        assert later.keys() == passes[0].keys()
        assert all(np.array_equal(later[indices], passes[0][indices]) for indices in later)


def test_without_memory_images_are_decoded_again(records, decoded):
    images = TargetImages(records, 20, memory_bytes=0)
    for _ in range(3):
        assert len(list(images)) == len(SIZES)
    assert set(decoded.values()) == {3}


def test_memory_is_filled_and_not_exceeded(records, decoded):
    images = TargetImages(records[:1] * 5, 20, memory_bytes=3 * ONE_IMAGE + ONE_IMAGE // 2)
    list(images)
    list(images)
    assert decoded == {"0": 5 + 2}


def test_a_list_that_is_not_read_to_its_end_can_be_read_again(records, decoded):
    images = TargetImages(records, 20)
    for _ in images:
        break
    assert sum(len(batch.indices) for batch in images) == len(SIZES)


def test_images_that_wait_for_the_network_fit_in_memory(records, decoded, monkeypatch):
    monkeypatch.setattr(module, "_AHEAD_BYTES", 2 * ONE_IMAGE)
    images = iter(TargetImages(records[:1] * 40, 20, threads=8))
    for taken in range(1, 10):
        next(images)
        assert decoded["0"] <= taken + 2
    images.close()  # type: ignore[attr-defined]


def test_an_image_as_large_as_the_memory_is_read_all_the_same(records, monkeypatch):
    monkeypatch.setattr(module, "_AHEAD_BYTES", 1)
    assert len(list(TargetImages(records, 20))) == len(SIZES)


def test_only_headers_are_read_before_the_first_image_is_requested(records, decoded):
    TargetImages(records, 20)
    assert not decoded


def test_a_damaged_image_is_named(records):
    file = records[3].image
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match=r"3\.png: cannot be decoded"):
        list(TargetImages(records, 20))


def batches_of(*images: np.ndarray) -> list[ImageBatch]:
    return [ImageBatch((number,), image[None]) for number, image in enumerate(images)]


def test_images_of_one_color_each_are_refused():
    colors = [np.full((3, 8, 9), number * 20, np.uint8) for number in range(4)]
    passed = []
    with pytest.raises(DataError, match=r"^target street: each of its 4 images holds one color") as caught:
        passed += [batch.indices for batch in refuse_constant_images(batches_of(*colors), "street")]
    assert "\n" not in str(caught.value)
    speck = colors[2].copy()
    speck[1, 7, 8] += 1
    for images in ([speck, *colors], [*colors, speck]):
        batches = batches_of(*images)
        assert list(refuse_constant_images(batches, "street")) == batches
