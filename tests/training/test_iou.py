import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_transfer.training.iou import confusion_counts, segmentation_quality

label_maps = st.integers(1, 6).flatmap(
    lambda n_classes: st.tuples(
        st.just(n_classes),
        st.lists(
            st.tuples(st.sampled_from([*range(n_classes), 255]), st.integers(0, n_classes - 1)), min_size=1, max_size=60
        ),
    )
)


def test_iou_by_hand() -> None:
    labels = np.array([[0, 0, 0, 1], [1, 1, 2, 255]], np.uint8)
    predictions = np.array([[0, 0, 1, 1], [1, 2, 2, 0]])
    found = segmentation_quality(confusion_counts(labels, predictions, 4), n_images=1)
    # Class 0: 2 of 3 found, and nothing else called 0, for the ignored pixel does not count.
    # Class 1: 2 of 3 found, 1 other called 1. Class 2: 1 of 1 found, 1 other called 2.
    assert found.class_iou == (2 / 3, 2 / 4, 1 / 2, None)
    assert found.absent == (3,)
    assert found.miou == pytest.approx((2 / 3 + 2 / 4 + 1 / 2) / 3, rel=1e-15)


def test_a_class_that_is_only_predicted_is_left_out_of_the_mean_but_lowers_the_others() -> None:
    labels, predictions = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    found = segmentation_quality(confusion_counts(labels, predictions, 3), n_images=1)
    assert found.class_iou == (0.5, 1.0, None)
    assert found.miou == 0.75


@given(label_maps)
def test_counts_equal_a_pixel_by_pixel_count(case: tuple[int, list[tuple[int, int]]]) -> None:
    n_classes, pixels = case
    slow = np.zeros((n_classes, n_classes), np.int64)
    for label, prediction in pixels:
        if label != 255:
            slow[label, prediction] += 1
    labels = np.array([label for label, _ in pixels], np.uint8)
    predictions = np.array([prediction for _, prediction in pixels])
    assert np.array_equal(confusion_counts(labels, predictions, n_classes), slow)


def test_many_classes_do_not_wrap_in_eight_bits() -> None:
    labels, predictions = np.full(300, 199, np.uint8), np.full(300, 198, np.uint8)
    counts = confusion_counts(labels, predictions, 200)
    assert counts[199, 198] == counts.sum() == 300


def test_counts_of_parts_add_up() -> None:
    generator = np.random.default_rng(3)
    labels, predictions = generator.integers(0, 5, 1000), generator.integers(0, 5, 1000)
    parts = sum(confusion_counts(labels[i::7], predictions[i::7], 5) for i in range(7))
    assert np.array_equal(parts, confusion_counts(labels, predictions, 5))
