"""A linear ridge classifier of held-out images, against one that is refitted from the rows for every group."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from seg_transfer.errors import ObservationsError
from seg_transfer.metrics import METRICS, _ridge_probe, probe_miou, ridge_probe, score_all
from seg_transfer.metrics._base import MomentStatistics, Statistics
from seg_transfer.observations import Observations, image_groups

Rows = np.ndarray


def slow_fit(x: Rows, y: Rows, penalty: float) -> tuple[Rows, Rows, Rows]:
    """Return classes, intercepts and weights of the regression on one-hot targets over C times the class's share."""
    classes, n, d = np.unique(y), len(x), x.shape[1]
    targets = np.stack([(y == c) / (len(classes) * np.mean(y == c)) for c in classes], axis=1)
    mean = x.mean(axis=0)
    centered = x - mean
    covariance = centered.T @ centered / n
    matrix = covariance + penalty * np.trace(covariance) / d * np.eye(d)
    weights = np.linalg.solve(matrix, centered.T @ (targets - targets.mean(axis=0)) / n)
    return classes, targets.mean(axis=0) - mean @ weights, weights


def slow_error(x: Rows, y: Rows, held_x: Rows, held_y: Rows, penalty: float) -> float:
    classes, intercepts, weights = slow_fit(x, y, penalty)
    targets = np.stack([(held_y == c) / (len(classes) * np.mean(y == c)) for c in classes], axis=1)
    return float(((targets - intercepts - held_x @ weights) ** 2).sum())


def slow_errors(x: Rows, y: Rows, groups: Rows, held: int) -> list[float]:
    n_groups = groups.max() + 1
    others = {(held + 1) % n_groups, (held - 1) % n_groups} - {held}
    folds = [(np.isin(groups, [held, group], invert=True), groups == group) for group in others]
    return [
        sum(slow_error(x[fit], y[fit], x[out], y[out], penalty) for fit, out in folds)
        for penalty in _ridge_probe.LAMBDAS
    ]


def slow_predictions(observations: Observations) -> Rows:
    x, y = observations.features.astype(np.float64), observations.labels
    groups, predicted = image_groups(observations.image_index), np.empty_like(y)
    for held in np.unique(groups):
        penalty = 0.1
        if groups.max() > 1:
            penalty = _ridge_probe.LAMBDAS[int(np.argmin(slow_errors(x, y, groups, held)))]
        classes, intercepts, weights = slow_fit(x[groups != held], y[groups != held], penalty)
        predicted[groups == held] = classes[(intercepts + x[groups == held] @ weights).argmax(axis=1)]
    return predicted


def recall(labels: Rows, predicted: Rows) -> float:
    return float(np.mean([np.mean(predicted[labels == c] == c) for c in np.unique(labels)]))


def plain_miou(labels: Rows, predicted: Rows, weights: Rows) -> float:
    ious = []
    for c in np.unique(labels):
        both, either = (labels == c) & (predicted == c), (labels == c) | (predicted == c)
        ious.append(weights[both].sum() / weights[either].sum())
    return float(np.mean(ious))


def score(observations: Observations) -> float:
    return ridge_probe(observations.features, observations.labels, observations.image_index)


def grouped(observations: Observations) -> Statistics:
    return Statistics(observations, image_groups(observations.image_index))


def with_a_lost_class(observations: Observations) -> Observations:
    """Class 4 occurs in one group of images alone."""
    labels = np.where((observations.labels == 4) & (observations.image_index % 10 != 3), 0, observations.labels)
    return replace(observations, labels=labels)


def with_huge_images(observations: Observations) -> Observations:
    """Features of one group of images are larger than all others by three digits."""
    scale = np.where(observations.image_index % 10 == 3, 1e3, 1.0)
    return replace(observations, features=observations.features * scale[:, None])


CASES: dict[str, Callable[..., Observations]] = {
    "plain": lambda world: world(),
    "a lost class": lambda world: with_a_lost_class(world()),
    "more channels than pixels": lambda world: world(60, 90, 3),
    "four images": lambda world: world(n_images=4),
    "three images": lambda world: world(n_images=3),
    "two images": lambda world: world(n_images=2),
    "far": lambda world: replace(world(), features=world().features + 1e4),
    "huge images": lambda world: with_huge_images(world()),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_a_classifier_that_is_refitted_from_the_rows(world, case):
    observations = CASES[case](world)
    assert score(observations) == pytest.approx(recall(observations.labels, slow_predictions(observations)), rel=1e-12)


@pytest.mark.parametrize("case", ["plain", "a lost class", "more channels than pixels", "huge images"])
def test_weights_are_those_of_the_rows_for_every_group_and_every_penalty(world, case):
    observations = CASES[case](world)
    x, y, groups = observations.features, observations.labels, image_groups(observations.image_index)
    fits = _ridge_probe._fits(grouped(observations).moments.groups)
    for held, equations in enumerate(fits):
        own = groups != held
        present = np.isin(observations.classes, y[own])
        for penalty in _ridge_probe.LAMBDAS:
            _, _, expected = slow_fit(x[own], y[own], penalty)
            found = equations.weights(penalty)
            scale = np.abs(expected).max()
            # The regression's targets are one-hot over C.
            np.testing.assert_allclose(found[:, present] / present.sum(), expected, rtol=0, atol=1e-10 * scale)
            assert not found[:, ~present].any()


@pytest.mark.parametrize("case", ["plain", "a lost class", "more channels than pixels"])
def test_errors_from_moments_are_those_of_the_rows(world, case):
    observations = CASES[case](world)
    groups = image_groups(observations.image_index)
    found = _ridge_probe._errors(grouped(observations).moments.groups)
    expected = [slow_errors(observations.features, observations.labels, groups, held) for held in np.unique(groups)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_penalty_is_chosen_without_the_group_that_it_predicts(world):
    """Whatever the features of a group, its own penalty stays; noise in all others asks for a larger one."""
    observations = world()
    groups, rng = image_groups(observations.image_index), np.random.default_rng(0)
    before = _ridge_probe._penalties(grouped(observations).moments.groups)
    for noisy, same in ((groups == 2, True), (groups != 2, False)):
        noise = rng.normal(size=observations.features.shape) * 50
        changed = replace(observations, features=np.where(noisy[:, None], noise, observations.features))
        after = _ridge_probe._penalties(grouped(changed).moments.groups)
        assert (after[2] == before[2]) == same


def test_equal_errors_take_the_larger_penalty(world):
    """One class is left without either of two groups: all weights are zero, and all errors equal."""
    observations = world(n_images=3)
    labels = np.where(observations.image_index == 2, 1, 0)
    groups = grouped(replace(observations, labels=labels, class_pixels=None)).moments.groups
    assert _ridge_probe._penalties(groups)[2] == 10.0


def test_by_hand():
    """Without image 1, class 0 lies at 0 and class 1 at 4; image 1 has 1, 3 and 1. Without image 0, at 1 and 2."""
    features, labels = np.array([[0.0], [4.0], [1.0], [3.0], [1.0]]), np.array([0, 1, 0, 1, 1])
    # Boundary 2 for image 1: 1 -> 0 right, 3 -> 1 right, 1 -> 0 wrong. Boundary 5 / 3 for image 0: both right.
    images = np.array([0, 0, 1, 1, 1])
    assert ridge_probe(features, labels, images) == pytest.approx((1 + 2 / 3) / 2, rel=1e-15)
    # Class 0 has 2 hits, and one of the three pixels of class 1 that is taken for it; they stand for 10 and 30 pixels.
    expected = (10 / (10 + 10) + 20 / 30) / 2
    assert probe_miou(features, labels, images, np.array([10, 30])) == pytest.approx(expected, rel=1e-15)


def test_a_class_of_one_image_is_never_predicted():
    labels, images = np.array([0, 1, 2, 0, 1]), np.array([0, 0, 0, 1, 1])
    assert ridge_probe(np.eye(3)[labels], labels, images) == pytest.approx(2 / 3, rel=1e-15)


def test_shuffled_labels_are_at_chance(world):
    observations = world(4000, 20, 4)
    shuffled = replace(observations, labels=np.random.default_rng(3).integers(4, size=4000))
    assert score(observations) > 0.5
    assert score(shuffled) == pytest.approx(0.25, abs=0.03)


def test_pixels_of_the_same_image_would_leak():
    """Labels are constant within an image, and features are noise plus an offset of the image: there is no class."""
    rng = np.random.default_rng(2)
    images = np.repeat(np.arange(40), 50)
    labels = (np.arange(40) % 2)[images]
    features = rng.normal(size=(40, 60))[images] + 0.05 * rng.normal(size=(len(images), 60))
    each_its_own_image = rng.permutation(len(images))
    assert ridge_probe(features, labels, each_its_own_image) == 1.0
    assert ridge_probe(features, labels, images) == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize("name", ["ridge_probe", "probe_miou"])
def test_replicates_keep_the_predictions(world, name):
    observations = with_a_lost_class(world())
    labels, predicted = observations.labels, slow_predictions(observations)
    groups = image_groups(observations.image_index)

    def expected(kept: Rows) -> float:
        if name == "ridge_probe":
            return recall(labels[kept], predicted[kept])
        counts = np.bincount(labels[kept], minlength=5)
        return plain_miou(
            labels[kept], predicted[kept], (observations.class_pixels / np.maximum(counts, 1))[labels[kept]]
        )

    found = score_all(observations, [name])[name]
    assert found.score == pytest.approx(expected(groups >= 0), rel=1e-12)
    np.testing.assert_allclose(found.replicates, [expected(groups != group) for group in range(10)], rtol=1e-12)
    assert found.standard_error == pytest.approx(np.sqrt(9 * np.var(found.replicates)), rel=1e-12)
    alone = score_all(observations, [name], standard_errors=False)[name]
    assert (alone.score, alone.replicates) == (found.score, ())


def test_the_miou_of_all_pixels_where_all_are_sampled(world):
    observations = world(n_classes=3)
    counts = np.bincount(observations.labels)
    found = probe_miou(observations.features, observations.labels, observations.image_index, counts)
    expected = plain_miou(observations.labels, slow_predictions(observations), np.ones(len(observations.labels)))
    assert found == pytest.approx(expected, rel=1e-12)


def test_only_the_proportions_of_the_classes_matter(world):
    o = world()
    assert probe_miou(o.features, o.labels, o.image_index, 7 * o.class_pixels) == pytest.approx(
        probe_miou(o.features, o.labels, o.image_index, o.class_pixels), rel=1e-12
    )


def test_both_metrics_share_the_fits_and_the_pass_of_the_others(world, monkeypatch):
    fits, passes = [], []
    predict, of = _ridge_probe._predict, MomentStatistics.of
    monkeypatch.setattr(_ridge_probe, "_predict", lambda statistics: fits.append(1) or predict(statistics))
    monkeypatch.setattr(MomentStatistics, "of", lambda *given: passes.append(1) or of(*given))
    score_all(world(), ["gbc", "logme", "ridge_probe", "probe_miou"])
    assert (len(fits), len(passes)) == (1, 1)


@pytest.mark.parametrize("value", [0.0, 3.7, 1e5])
def test_features_that_vary_in_one_group_only(world, value):
    """Without that group nothing varies, up to rounding: the first class is predicted there."""
    observations = world()
    varies = image_groups(observations.image_index) == 0
    features = np.where(varies[:, None], observations.features, value)
    found = score_all(replace(observations, features=features), ["ridge_probe"])["ridge_probe"]
    assert 0 < found.score < 1
    assert np.isfinite(found.replicates).all()


@pytest.mark.parametrize("metric", ["ridge_probe", "probe_miou", "linear_probe", "linear_probe_miou"])
def test_one_image_is_refused(world, metric):
    observations = replace(world(), image_index=np.zeros(400, int), image_embeddings=None)
    assert METRICS[metric].installed
    with pytest.raises(ObservationsError, match=r"^image_index holds one image; .*: sample at least two images$"):
        score_all(observations, [metric])


@pytest.mark.parametrize("wrong", [[1, 2], [1, 2, 3.5], [1, 0, 3]])
def test_counts_that_do_not_fit_are_refused(world, wrong):
    o = world(n_classes=3)
    with pytest.raises(ObservationsError, match=r"^class_pixels"):
        probe_miou(o.features, o.labels, o.image_index, np.array(wrong))
