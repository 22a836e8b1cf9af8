"""The mIoU from pixel counts against confusions, and its intervals against a slow loop over the same draws."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from seg_transfer.evaluation import difference_interval, miou_interval, miou_of
from seg_transfer.evaluation._bootstrap import bootstrap_draws
from seg_transfer.evaluation._miou import N_DRAWS
from seg_transfer.training.iou import segmentation_quality

Counts = npt.NDArray[np.int64]


def counts_of(confusions: Counts) -> Counts:
    """Agreed, labeled and predicted pixels, (..., 3, C), of confusions (..., C, C) with labels in rows."""
    agreed = np.diagonal(confusions, axis1=-2, axis2=-1)
    return np.stack([agreed, confusions.sum(axis=-1), confusions.sum(axis=-2)], axis=-2)


def confusions_of(n_images: int, n_classes: int, seed: int, right: float = 0.6, spread: float = 0.2) -> Counts:
    """Images of 1000 pixels with two or three of the classes each, that differ in how much of them is right."""
    rng = np.random.default_rng(seed)
    confusions = np.zeros((n_images, n_classes, n_classes), np.int64)
    for image in confusions:
        share = float(np.clip(rng.normal(right, spread), 0.05, 0.95))
        for label in rng.choice(n_classes, size=rng.integers(2, 4), replace=False):
            wrong = rng.dirichlet(np.ones(n_classes)) * (1 - share)
            image[label] += rng.multinomial(rng.integers(100, 500), wrong + share * (np.arange(n_classes) == label))
    return confusions


@pytest.fixture
def confusions() -> Counts:
    return confusions_of(n_images=15, n_classes=5, seed=1)


def worse(confusions: Counts, seed: int = 5) -> Counts:
    """Another network that finds the same images hard, and misses somewhat more pixels of each."""
    rng = np.random.default_rng(seed)
    lost = np.zeros_like(confusions)
    for image, out in zip(confusions, lost, strict=True):
        for index, agreed in enumerate(np.diagonal(image)):
            missed = rng.binomial(agreed, 0.1)
            out[index, index] -= missed
            out[index, (index + 1) % len(image)] += missed
    return confusions + lost


def width(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


@pytest.mark.parametrize(
    ("agreed", "labeled", "predicted", "expected"),
    [
        ([3, 2], [4, 2], [3, 3], (3 / 4 + 2 / 3) / 2),
        ([4, 2], [4, 2], [4, 2], 1.0),
        ([0, 0], [4, 2], [2, 4], 0.0),
        ([3, 0], [3, 3], [6, 0], (3 / 6 + 0) / 2),  # the second is never predicted
        ([3, 0], [5, 0], [3, 2], 3 / 5),  # and here never labeled
        ([0, 7, 0], [0, 7, 0], [0, 7, 0], 1.0),
        ([0, 0], [0, 0], [0, 0], math.nan),
    ],
)
def test_miou_by_hand(agreed: list[int], labeled: list[int], predicted: list[int], expected: float) -> None:
    found = miou_of(np.array([agreed, labeled, predicted]))
    assert found.shape == ()
    assert float(found) == pytest.approx(expected, abs=1e-15, nan_ok=True)


@pytest.mark.parametrize("seed", range(20))
def test_miou_is_that_of_the_confusion_with_and_without_absent_classes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    confusion = rng.integers(0, 50, size=(6, 6)) * (rng.random((6, 6)) < 0.6)
    confusion[rng.random(6) < 0.4] = 0
    confusion[0, 0] += 1  # some class has a label
    expected = segmentation_quality(confusion, n_images=1)
    assert float(miou_of(counts_of(confusion))) == pytest.approx(expected.miou, abs=1e-15)
    assert seed or expected.absent


def test_any_number_of_axes_may_come_first(confusions) -> None:
    stacked = counts_of(confusions).reshape(3, 5, 3, 5)
    found = miou_of(stacked)
    assert found.shape == (3, 5)
    assert found.tolist() == [[float(miou_of(counts)) for counts in row] for row in stacked]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_counts_of_any_integers_do_not_wrap(dtype) -> None:
    most = int(np.iinfo(dtype).max)
    counts = np.array([[most // 2, 0], [most, 10], [most, 0]], dtype)
    assert float(miou_of(counts)) == pytest.approx((most // 2) / (2 * most - most // 2) / 2)
    assert miou_interval(np.stack([counts] * 3)) == pytest.approx([float(miou_of(counts))] * 2)


def slow_draws(confusions: Counts, seed: int) -> list[float]:
    """The mIoU of every draw, by the confusion of its images; NaN without a label."""
    values = []
    for weights in bootstrap_draws(len(confusions), N_DRAWS, seed).astype(int):
        together = sum(weight * image for weight, image in zip(weights, confusions, strict=True))
        values.append(segmentation_quality(together, len(confusions)).miou if together.any() else math.nan)
    return values


@pytest.mark.parametrize("seed", [0, 7])
def test_an_interval_is_that_of_a_slow_loop_over_the_same_draws(confusions, seed) -> None:
    expected = np.percentile(slow_draws(confusions, seed), [2.5, 97.5])
    assert miou_interval(counts_of(confusions), seed) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", [0, 7])
def test_a_paired_interval_is_that_of_a_slow_loop_over_the_same_draws(confusions, seed) -> None:
    other = worse(confusions)
    both = zip(slow_draws(confusions, seed), slow_draws(other, seed), strict=True)
    expected = np.percentile([one - two for one, two in both], [2.5, 97.5])
    assert difference_interval(counts_of(confusions), counts_of(other), seed) == pytest.approx(expected, abs=1e-12)


def test_draws_depend_on_the_seed_alone(confusions) -> None:
    counts, other = counts_of(confusions), counts_of(worse(confusions))
    assert miou_interval(counts) == miou_interval(counts, seed=0) != miou_interval(counts, seed=1)
    assert difference_interval(counts, other) == difference_interval(counts, other, seed=0)
    assert difference_interval(counts, other) != difference_interval(counts, other, seed=1)


def test_a_single_image_says_nothing_of_others(confusions) -> None:
    counts = counts_of(confusions[:1])
    assert np.isnan(miou_interval(counts)).all()
    assert np.isnan(difference_interval(counts, counts)).all()


def test_draws_without_a_label_do_not_count() -> None:
    labeled, empty = np.array([[3, 2], [4, 2], [3, 3]]), np.zeros((3, 2), np.int64)
    found = miou_interval(np.stack([labeled, empty]))
    assert found == pytest.approx([float(miou_of(labeled))] * 2)
    assert np.isnan(miou_interval(np.stack([empty, empty]))).all()
    assert np.isnan(difference_interval(np.stack([empty, empty]), np.stack([empty, empty]))).all()


def test_equal_images_have_no_spread(confusions) -> None:
    counts = counts_of(np.stack([confusions[0]] * 6))
    assert miou_interval(counts) == pytest.approx([float(miou_of(counts[0]))] * 2)


def test_the_interval_holds_the_value_and_is_half_as_wide_with_four_times_the_images(confusions) -> None:
    counts = counts_of(confusions)
    low, high = miou_interval(counts)
    assert low < float(miou_of(counts.sum(axis=0))) < high
    assert width(miou_interval(np.concatenate([counts] * 4))) == pytest.approx((high - low) / 2, rel=0.15)


def test_a_network_does_not_differ_from_itself(confusions) -> None:
    assert difference_interval(counts_of(confusions), counts_of(confusions)) == (0.0, 0.0)


def test_the_other_way_round_the_difference_has_the_other_sign(confusions) -> None:
    one, other = counts_of(confusions), counts_of(worse(confusions))
    low, high = difference_interval(one, other)
    assert 0 < low < high  # the other network is worse
    assert difference_interval(other, one) == pytest.approx((-high, -low), abs=1e-12)


def test_pairs_of_images_say_more_than_two_networks_apart(confusions) -> None:
    one, other = counts_of(confusions), counts_of(worse(confusions))
    draws, other_draws = np.array(slow_draws(confusions, 0)), np.array(slow_draws(worse(confusions), 1))
    low, high = np.percentile(draws - other_draws, [2.5, 97.5])
    paired = difference_interval(one, other)
    assert width(paired) < (high - low) / 3
    assert low < 0 < paired[0]  # only pairs tell them apart
    assert width(difference_interval(one, np.roll(other, 1, axis=0))) > 2 * width(paired)


def test_the_order_of_images_changes_nothing_but_the_noise_of_draws(confusions) -> None:
    one, other = counts_of(confusions), counts_of(worse(confusions))
    before, difference = miou_interval(one), difference_interval(one, other)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(one))
        assert miou_interval(one[order]) == pytest.approx(before, abs=0.15 * width(before))
        found = difference_interval(one[order], other[order])
        assert found == pytest.approx(difference, abs=0.15 * width(difference))


def test_neither_the_order_of_classes_nor_the_number_of_pixels_matters(confusions) -> None:
    one, other, order = counts_of(confusions), counts_of(worse(confusions)), [3, 0, 4, 1, 2]
    assert miou_interval(one[..., order]) == pytest.approx(miou_interval(one), abs=1e-12)
    assert miou_interval(7 * one) == pytest.approx(miou_interval(one), abs=1e-12)
    found = difference_interval(7 * one[..., order], 7 * other[..., order])
    assert found == pytest.approx(difference_interval(one, other), abs=1e-12)


def test_a_class_that_no_image_has_changes_nothing(confusions) -> None:
    counts, other = (np.pad(counts_of(one), ((0, 0), (0, 0), (0, 1))) for one in (confusions, worse(confusions)))
    assert miou_interval(counts) == miou_interval(counts_of(confusions))
    assert difference_interval(counts, other) == difference_interval(counts[..., :5], other[..., :5])
