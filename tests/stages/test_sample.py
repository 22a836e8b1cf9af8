"""A target's pixel sample is drawn once, kept, and drawn anew when anything that decides it has changed."""

import base64
import contextlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg_transfer.data.images import read_label
from seg_transfer.data.manifest import load_manifest
from seg_transfer.errors import DataError, ResultsError
from seg_transfer.models.entry import SourceEntry
from seg_transfer.observations import PixelSample
from seg_transfer.sampling import sample_pixels
from seg_transfer.stages import sampling as module
from seg_transfer.stages.sample_keys import sample_key
from seg_transfer.stages.sampling import pixel_sample
from seg_transfer.study.definition import Sampling, Study
from seg_transfer.study.run import Run

TARGET = "day_street"
FIELDS = ("image_sizes", "image_index", "rows", "columns", "labels")


@pytest.fixture
def run(small_world: Path, tmp_path: Path) -> Run:
    """A run of one target, whose files may be changed."""
    for name in (TARGET, "manifests"):
        shutil.copytree(small_world / name, tmp_path / "data" / name)
    manifest = load_manifest(tmp_path / "data" / "manifests" / f"{TARGET}.yaml")
    study = Study(
        name="mini",
        manifests=(tmp_path,),
        sources=(SourceEntry(name="other", dataset="other"),),
        targets=(TARGET,),
        sampling=Sampling(pixels_per_image=60, seed=3),
    )
    return Run(study, {TARGET: manifest}, tmp_path / "data", tmp_path / "run")


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The targets that were drawn and not read back."""
    drawn: list[str] = []
    original = module._draw

    def noted(run: Run, target: str, records: Any) -> PixelSample:
        drawn.append(target)
        return original(run, target, records)

    monkeypatch.setattr(module, "_draw", noted)
    return drawn


def sample_of(run: Run) -> PixelSample:
    return pixel_sample(run, TARGET, run.low_shot(TARGET))


def with_sampling(run: Run, **changes: Any) -> Run:
    sampling = Sampling(**{**run.study.sampling.model_dump(), **changes})
    return replace(run, study=run.study.model_copy(update={"sampling": sampling}))


def assert_equal(found: PixelSample, expected: PixelSample) -> None:
    assert found.image_ids == expected.image_ids
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))
        assert getattr(found, field).dtype == getattr(expected, field).dtype


def differ(one: PixelSample, other: PixelSample) -> bool:
    return any(not np.array_equal(getattr(one, field), getattr(other, field)) for field in FIELDS)


def label_map(run: Run, number: int) -> np.ndarray:
    return np.array(Image.open(run.low_shot(TARGET)[number].label))


def put_label(run: Run, number: int, labels: np.ndarray) -> None:
    Image.fromarray(labels).save(run.low_shot(TARGET)[number].label)


# What is drawn


def test_pixels_and_labels_are_those_of_the_label_maps(run):
    sample, records = sample_of(run), run.low_shot(TARGET)
    assert sample.image_ids == tuple(record.image_id for record in records)
    assert np.bincount(sample.image_index).tolist() == [60] * 5
    assert sample.image_sizes.tolist() == [[64, 96]] * 5
    for number, record in enumerate(records):
        labels = read_label(record.label, run.manifests[TARGET])
        own = sample.image_index == number
        np.testing.assert_array_equal(labels[sample.rows[own], sample.columns[own]], sample.labels[own])
    assert len(set(zip(sample.image_index, sample.rows, sample.columns, strict=True))) == 300
    assert 255 not in sample.labels


def test_without_balance_every_pixel_has_the_same_chance(run):
    record, manifest = run.low_shot(TARGET)[1], run.manifests[TARGET]
    sample, labels = sample_of(with_sampling(run, balance="none")), read_label(record.label, manifest)
    same = sample_pixels(np.where(labels == 255, 255, 0), 60, dataset=TARGET, image_id=record.image_id, seed=3)
    own = sample.image_index == 1
    assert (sample.rows[own] * 96 + sample.columns[own]).tolist() == same.tolist()
    assert differ(sample, sample_of(run))


def test_frequencies_are_those_of_all_images_or_of_one(run):
    """By hand: the sample of image 2 with the counts of the whole low-shot split, and with its own."""
    manifest, records = run.manifests[TARGET], run.low_shot(TARGET)
    maps = [read_label(record.label, manifest) for record in records]
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


def test_rare_classes_are_drawn_more_often_than_they_are(run):
    sample, manifest = sample_of(run), run.manifests[TARGET]
    maps = np.stack([read_label(record.label, manifest) for record in run.low_shot(TARGET)])
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
        labels = read_label(record.label, run.manifests[TARGET])
        own = sample.image_index == number
        np.testing.assert_array_equal(labels[4 * sample.rows[own] + 2, 4 * sample.columns[own] + 2], sample.labels[own])


def test_on_the_feature_grid_frequencies_are_those_of_the_label_maps_as_they_are(run):
    manifest, records = run.manifests[TARGET], run.low_shot(TARGET)
    maps = [read_label(record.label, manifest) for record in records]
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


# What is kept


def test_a_stored_sample_is_read_back_equal(run, draws):
    first = sample_of(run)
    assert_equal(sample_of(run), first)
    assert draws == [TARGET]
    assert run.sample_file(TARGET).is_file()


def test_an_image_without_a_labelled_pixel_keeps_its_place(run, draws):
    put_label(run, 1, np.full((64, 96), 255, np.uint8))
    first = sample_of(run)
    assert np.bincount(first.image_index).tolist() == [60, 0, 60, 60, 60]
    assert len(first.image_ids) == 5
    assert_equal(sample_of(run), first)
    assert draws == [TARGET]


@pytest.mark.parametrize("change", [{"pixels_per_image": 61}, {"seed": 4}, {"balance": "image"}, {"grid": "feature"}])
def test_other_settings_draw_anew_and_back_again(run, draws, change):
    first, changed = sample_of(run), with_sampling(run, **change)
    assert differ(sample_of(changed), first)
    assert_equal(sample_of(run), first)
    assert draws == [TARGET] * 3


def swap_two_classes(run: Run) -> Run:
    labels = label_map(run, 2)
    put_label(run, 2, np.array([1, 0, *range(2, 256)], np.uint8)[labels])
    return run


def forget_one_image(run: Run) -> Run:
    low_shot = run.manifests[TARGET].low_shot.model_copy(update={"limit": 4})
    return replace(run, manifests={TARGET: run.manifests[TARGET].model_copy(update={"low_shot": low_shot})})


def ignore_a_class(run: Run) -> Run:
    manifest = run.manifests[TARGET]
    n_classes = len(manifest.classes)
    labels = manifest.labels.model_copy(
        update={"map": {value: value for value in range(1, n_classes)}, "ignore": (0, 255)}
    )
    return replace(run, manifests={TARGET: manifest.model_copy(update={"labels": labels})})


@pytest.mark.parametrize("change", [swap_two_classes, forget_one_image, ignore_a_class])
def test_other_data_draws_anew(run, draws, change: Callable[[Run], Run]):
    first = sample_of(run)
    key = sample_key(run, TARGET, run.low_shot(TARGET))
    changed = change(run)
    assert sample_key(changed, TARGET, changed.low_shot(TARGET)) != key
    second = sample_of(changed)
    assert second.image_ids != first.image_ids or differ(second, first)
    assert_equal(sample_of(changed), second)
    assert draws == [TARGET] * 2


def test_what_people_write_about_a_dataset_draws_nothing_anew(run, draws):
    first = sample_of(run)
    manifest = run.manifests[TARGET].model_copy(update={"title": "Streets", "citation": "Somebody", "notes": "new"})
    assert_equal(sample_of(replace(run, manifests={TARGET: manifest})), first)
    assert draws == [TARGET]


def test_a_damaged_file_is_named(run):
    sample_of(run)
    file = run.sample_file(TARGET)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ResultsError) as caught:
        sample_of(run)
    assert str(caught.value).startswith(f"{file}: damaged result file")
    assert "\n" not in str(caught.value)


def test_no_flipped_bit_is_read_as_another_sample(run):
    """Bits of the size of the first image, and one in each of 60 places: refused, drawn anew, or without effect."""
    expected, file = sample_of(run), run.sample_file(TARGET)
    whole = file.read_bytes()
    scattered = [(place, place % 8) for place in np.linspace(0, len(whole) - 1, 60).astype(int)]
    for place, bit in [(place, bit) for place in size_in_metadata(whole) for bit in (0, 1, 2)] + scattered:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        file.write_bytes(damaged)
        with contextlib.suppress(ResultsError):
            assert_equal(sample_of(run), expected)


def size_in_metadata(whole: bytes) -> range:
    """Where the file says that the first image is 64 x 96: Arrow reads it from a copy of the schema in base64."""
    copies = [base64.b64encode(b" " * shift + b'000", 64, 96], [')[4:16] for shift in range(3)]
    start = next(whole.index(copy) for copy in copies if copy in whole)
    return range(start, start + 12)


# What is refused


def test_a_target_of_one_class(run):
    for number in range(5):
        put_label(run, number, np.where(label_map(run, number) == 255, 255, 2).astype(np.uint8))
    with pytest.raises(DataError) as caught:
        sample_of(run)
    assert str(caught.value) == (
        f"target {TARGET}: its 5 low-shot images show 1 class(es); class separability needs at least two, "
        "choose more images or another label map"
    )
    assert not run.sample_file(TARGET).exists()


def test_a_target_without_a_labelled_pixel(run):
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
    assert str(caught.value) == (f"{file}: size (64, 95) differs from its image's (64, 96); replace one of them")
    assert not run.sample_file(TARGET).exists()
