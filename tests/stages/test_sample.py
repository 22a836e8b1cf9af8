"""Which pixels of a target are drawn, with which labels, and which targets are refused."""

from dataclasses import replace

import numpy as np
import pytest
from pixel_samples import TARGET, differ, label_map, put_label, sample_of, with_sampling

from seg_transfer.data.images import read_label
from seg_transfer.errors import DataError
from seg_transfer.sampling import sample_pixels

# What is drawn


def test_pixels_and_labels_are_those_of_the_label_maps(run):
    sample, records = sample_of(run), run.low_shot(TARGET)
    assert sample.image_ids == tuple(record.image_id for record in records)
    assert np.bincount(sample.image_index).tolist() == [60] * 5
    assert sample.image_sizes.tolist() == [[64, 96]] * 5
    for number, record in enumerate(records):
        labels = read_label(record, run.manifests[TARGET])
        own = sample.image_index == number
        np.testing.assert_array_equal(labels[sample.rows[own], sample.columns[own]], sample.labels[own])
    assert len(set(zip(sample.image_index, sample.rows, sample.columns, strict=True))) == 300
    assert 255 not in sample.labels


def test_without_balance_every_pixel_has_the_same_chance(run):
    record, manifest = run.low_shot(TARGET)[1], run.manifests[TARGET]
    sample, labels = sample_of(with_sampling(run, balance="none")), read_label(record, manifest)
    same = sample_pixels(np.where(labels == 255, 255, 0), 60, dataset=TARGET, image_id=record.image_id, seed=3)
    own = sample.image_index == 1
    assert (sample.rows[own] * 96 + sample.columns[own]).tolist() == same.tolist()
    assert differ(sample, sample_of(run))


def test_frequencies_are_those_of_all_images_or_of_one(run):
    """By hand: the sample of image 2 with the counts of the whole low-shot split, and with its own."""
    manifest, records = run.manifests[TARGET], run.low_shot(TARGET)
    maps = [read_label(record, manifest) for record in records]
    counts = np.zeros(len(manifest.classes), int)
    for labels in maps:
        for value in labels[labels != 255]:
            counts[value] += 1
    for balance, class_counts in (("dataset", counts), ("image", None)):
        sample = sample_of(with_sampling(run, balance=balance))
        expected = sample_pixels(
            maps[2], 60, class_counts=class_counts, dataset=TARGET, image_id=records[2].image_id, seed=3
        )
        own = sample.image_index == 2
        np.testing.assert_array_equal(sample.rows[own] * 96 + sample.columns[own], expected)


def test_rare_classes_are_drawn_more_often_than_they_occur(run):
    sample, manifest = sample_of(run), run.manifests[TARGET]
    maps = np.stack([read_label(record, manifest) for record in run.low_shot(TARGET)])
    share_of_pixels = np.bincount(maps[maps != 255], minlength=len(manifest.classes)) / (maps != 255).sum()
    share_of_sample = np.bincount(sample.labels, minlength=len(manifest.classes)) / len(sample)
    common, rare = share_of_pixels.argmax(), np.where(share_of_pixels > 0, share_of_pixels, 1).argmin()
    assert share_of_sample[rare] > 2 * share_of_pixels[rare]
    assert share_of_sample[common] < share_of_pixels[common]


def test_on_the_feature_grid_indices_and_labels_are_those_of_its_cells(run):
    """Images of 64 x 96 with shorter side 64 have maps of 16 x 24; a cell has the label of the pixel 4 i + 2."""
    sample = sample_of(with_sampling(run, grid="feature"))
    assert sample.image_sizes.tolist() == [[16, 24]] * 5
    assert sample.rows.max() < 16
    assert sample.columns.max() < 24
    assert len(set(zip(sample.image_index, sample.rows, sample.columns, strict=True))) == len(sample) == 300
    for number, record in enumerate(run.low_shot(TARGET)):
        labels = read_label(record, run.manifests[TARGET])
        own = sample.image_index == number
        np.testing.assert_array_equal(labels[4 * sample.rows[own] + 2, 4 * sample.columns[own] + 2], sample.labels[own])


def test_on_the_feature_grid_frequencies_are_those_of_the_label_maps_as_they_are(run):
    manifest, records = run.manifests[TARGET], run.low_shot(TARGET)
    maps = [read_label(record, manifest) for record in records]
    cells = [labels[2::4, 2::4] for labels in maps]

    def expected(counted: list[np.ndarray]) -> list[int]:
        counts = sum(np.bincount(labels[labels != 255], minlength=len(manifest.classes)) for labels in counted)
        drawn = [
            sample_pixels(labels, 60, class_counts=counts, dataset=TARGET, image_id=record.image_id, seed=3)
            for labels, record in zip(cells, records, strict=True)
        ]
        return np.concatenate(drawn).tolist()

    sample = sample_of(with_sampling(run, grid="feature"))
    assert (sample.rows * 24 + sample.columns).tolist() == expected(maps) != expected(cells)


def test_the_feature_grid_is_that_of_the_resized_image(run):
    """Resized to shorter side 42, 64 x 96 becomes 42 x 63, and a stride of 4 makes 11 x 16 of it."""
    manifest = run.manifests[TARGET].model_copy(update={"crop_size": (50, 42)})
    sample = sample_of(with_sampling(replace(run, manifests={TARGET: manifest}), grid="feature"))
    assert sample.image_sizes.tolist() == [[11, 16]] * 5


# What is refused


def test_a_target_of_one_class(run):
    for number in range(5):
        put_label(run, number, np.where(label_map(run, number) == 255, 255, 2).astype(np.uint8))
    with pytest.raises(DataError) as caught:
        sample_of(run)
    assert str(caught.value) == (
        f"target {TARGET}: its 5 low-shot images show 1 class(es); class separability needs at least two; "
        "choose more images or another label map"
    )
    assert not run.sample_file(TARGET).exists()


def test_a_target_without_a_labeled_pixel(run):
    for number in range(5):
        put_label(run, number, np.full((64, 96), 255, np.uint8))
    with pytest.raises(DataError, match=r"show 0 class\(es\)"):
        sample_of(run)


@pytest.mark.parametrize("grid", ["full", "feature"])
def test_a_label_map_of_another_size_than_its_image(run, grid):
    put_label(run, 3, label_map(run, 3)[:, :-1])
    file = run.low_shot(TARGET)[3].label
    with pytest.raises(DataError) as caught:
        sample_of(with_sampling(run, grid=grid))
    assert str(caught.value) == (
        f"{file}: its size (64, 95) differs from its image's size (64, 96); replace one of them"
    )
    assert not run.sample_file(TARGET).exists()
