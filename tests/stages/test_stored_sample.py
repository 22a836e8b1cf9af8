"""A target's pixel sample is drawn once, kept, and drawn again when anything that decides it has changed."""

import base64
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pixel_samples import TARGET, assert_equal, differ, label_map, put_label, sample_of, with_sampling

from seg_transfer.errors import ResultsError
from seg_transfer.stages import sampling as module
from seg_transfer.stages.sample_keys import sample_key
from seg_transfer.study.run import Run


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The targets that were drawn and not read back."""
    drawn: list[str] = []
    original = module._draw

    def noted(run: Run, target: str, records: Any) -> Any:
        drawn.append(target)
        return original(run, target, records)

    monkeypatch.setattr(module, "_draw", noted)
    return drawn


def test_a_stored_sample_is_read_back_equal(run, draws):
    first = sample_of(run)
    assert_equal(sample_of(run), first)
    assert draws == [TARGET]
    assert run.sample_file(TARGET).is_file()


def test_an_image_without_a_labeled_pixel_keeps_its_index(run, draws):
    put_label(run, 1, np.full((64, 96), 255, np.uint8))
    first = sample_of(run)
    assert np.bincount(first.image_index).tolist() == [60, 0, 60, 60, 60]
    assert len(first.image_ids) == 5
    assert_equal(sample_of(run), first)
    assert draws == [TARGET]


@pytest.mark.parametrize("change", [{"pixels_per_image": 61}, {"seed": 4}, {"balance": "image"}, {"grid": "feature"}])
def test_other_settings_draw_again_and_the_former_ones_too(run, draws, change):
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
def test_other_data_draws_again(run, draws, change: Callable[[Run], Run]):
    first = sample_of(run)
    key = sample_key(run, TARGET, run.low_shot(TARGET))
    changed = change(run)
    assert sample_key(changed, TARGET, changed.low_shot(TARGET)) != key
    second = sample_of(changed)
    assert second.image_ids != first.image_ids or differ(second, first)
    assert_equal(sample_of(changed), second)
    assert draws == [TARGET] * 2


def test_descriptive_fields_of_a_manifest_draw_nothing_again(run, draws):
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
    """Bits of the size of the first image, and one in each of 60 places: refused, drawn again, or without effect."""
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
