"""Logistic regression on held-out images, against scikit-learn called directly."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from seg_transfer.metrics import _linear_probe, linear_probe, linear_probe_miou, score_all
from seg_transfer.observations import Observations, image_groups


def fitted(x: np.ndarray, y: np.ndarray, rows: np.ndarray, penalty: float) -> np.ndarray:
    """The predictions for all rows of a regression that is fitted on some."""
    scaler, two = StandardScaler().fit(x[rows]), len(np.unique(y[rows])) == 2
    # scikit-learn's C is the weight of the summed cross-entropy beside |W|^2 / 2. Two classes share one column there:
    # half of it for either.
    weight = (1 + two) / (penalty * rows.sum())
    model = LogisticRegression(C=weight, class_weight="balanced", tol=1e-8, max_iter=10_000)
    return model.fit(scaler.transform(x[rows]), y[rows]).predict(scaler.transform(x))


def recall(y: np.ndarray, predicted: np.ndarray, own: np.ndarray) -> float:
    return np.mean([np.mean(predicted[own & (y == code)] == code) for code in np.unique(y[own])]).round(12)


def predictions(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    predicted, present = np.empty_like(y), np.unique(groups).tolist()
    for position, held in enumerate(present):
        partner = present[(position + 1) % len(present) if position % 2 == 0 else position - 1]
        inside, other = (groups != held) & (groups != partner), groups == partner
        tried = {penalty: fitted(x, y, inside, penalty) for penalty in _linear_probe.PENALTIES}
        penalty = max(tried, key=lambda key: recall(y, tried[key], other))
        predicted[groups == held] = fitted(x, y, groups != held, penalty)[groups == held]
    return predicted


@pytest.fixture
def converged(monkeypatch):
    monkeypatch.setattr(_linear_probe, "TOLERANCE", 1e-9)


def miou(labels: np.ndarray, predicted: np.ndarray, class_pixels: np.ndarray) -> float:
    weights = (class_pixels / np.bincount(labels, minlength=len(class_pixels)).clip(1))[labels]
    hits = [(labels == c) & (predicted == c) for c in np.unique(labels)]
    unions = [(labels == c) | (predicted == c) for c in np.unique(labels)]
    return float(np.mean([weights[hit].sum() / weights[union].sum() for hit, union in zip(hits, unions, strict=True)]))


@pytest.mark.usefixtures("converged")
@pytest.mark.parametrize(("n_classes", "n_images"), [(5, 23), (2, 9), (3, 3)])
def test_equals_scikit_learn(world, n_classes, n_images):
    o = world(n_classes=n_classes, n_images=n_images)
    predicted = predictions(o.features, o.labels, image_groups(o.image_index))
    accuracy = balanced_accuracy_score(o.labels, predicted)
    assert 0.5 < accuracy < 1
    assert linear_probe(o.features, o.labels, o.image_index) == pytest.approx(accuracy, rel=1e-12)
    found = linear_probe_miou(o.features, o.labels, o.image_index, o.class_pixels)
    assert found == pytest.approx(miou(o.labels, predicted, o.class_pixels), rel=1e-12)


def test_the_default_tolerance_changes_few_predictions(world, monkeypatch):
    o = world(3000, 40, 6, n_images=30)
    loose = linear_probe(o.features, o.labels, o.image_index)
    monkeypatch.setattr(_linear_probe, "TOLERANCE", 1e-9)
    assert loose == pytest.approx(linear_probe(o.features, o.labels, o.image_index), abs=0.01)


def test_a_left_out_group_decides_nothing_about_its_own_predictions(world):
    """Other labels in group 0 change what is predicted for others, but not for it."""
    o = world()
    groups = image_groups(o.image_index)
    rows = _linear_probe.Rows.of(o.features, o.codes, groups, 10)
    other = _linear_probe.Rows.of(o.features, np.where(groups == 0, (o.codes + 1) % 5, o.codes), groups, 10)
    (penalty, start), (same, started) = (_linear_probe._chosen(given)[0] for given in (rows, other))
    assert penalty == same
    np.testing.assert_array_equal(start.weights, started.weights)


@pytest.mark.usefixtures("converged")
@pytest.mark.parametrize("name", ["linear_probe", "linear_probe_miou"])
def test_replicates_keep_the_predictions(world, name):
    o = world()
    groups = image_groups(o.image_index)
    predicted = predictions(o.features, o.labels, groups)
    found = score_all(o, [name])[name]
    for group, replicate in enumerate(found.replicates):
        labels, kept = o.labels[groups != group], predicted[groups != group]
        by_hand = {
            "linear_probe": balanced_accuracy_score(labels, kept),
            "linear_probe_miou": miou(labels, kept, o.class_pixels),
        }
        assert replicate == pytest.approx(by_hand[name], rel=1e-12)
    assert len(found.replicates) == 10
    assert score_all(o, [name], standard_errors=False)[name].score == found.score


@pytest.mark.usefixtures("converged")
def test_a_subsample_keeps_the_groups_of_all_images(world):
    """With fewer observations than images, images are lost; the others stay in the groups that they are in."""
    o = world(900, n_images=60)
    settings = {"max_observations": 41, "seed": 5}
    sample = o.subsample(41, seed=5)
    groups = dict(zip(o.image_index.tolist(), image_groups(o.image_index).tolist(), strict=True))
    of_sample = np.array([groups[image] for image in sample.image_index.tolist()])
    assert (of_sample != image_groups(sample.image_index)).any()
    predicted = predictions(sample.features, sample.labels, of_sample)
    expected = balanced_accuracy_score(sample.labels, predicted)
    assert linear_probe(o.features, o.labels, o.image_index, **settings) == pytest.approx(expected, rel=1e-12)
    expected = miou(sample.labels, predicted, o.class_pixels)
    found = linear_probe_miou(o.features, o.labels, o.image_index, o.class_pixels, **settings)
    assert len(sample.classes) == 5
    assert found == pytest.approx(expected, rel=1e-12)


def test_both_metrics_share_the_fits(world, monkeypatch):
    fits, predict = [], _linear_probe._predict
    monkeypatch.setattr(_linear_probe, "_predict", lambda *given: fits.append(1) or predict(*given))
    score_all(world(), ["linear_probe", "linear_probe_miou"])
    assert len(fits) == 1


def test_shuffled_labels_are_at_chance(world):
    o = world(3000, 8, 4)
    labels = np.random.default_rng(3).integers(4, size=3000)
    assert linear_probe(o.features, labels, o.image_index) == pytest.approx(0.25, abs=0.03)


def test_where_one_class_is_left_it_is_predicted():
    features, labels = np.array([[0.0], [5.0], [1.0], [6.0]]), np.array([0, 0, 0, 1])
    # Without image 1 only class 0 is left; without image 0, the boundary is at 3.5 (by symmetry).
    assert linear_probe(features, labels, np.array([0, 0, 1, 1])) == pytest.approx((2 / 3 + 0) / 2, rel=1e-15)


def test_features_of_any_type_give_the_same(world):
    o: Observations = world()
    halves = replace(o, features=o.features.astype(np.float16))
    assert score_all(halves, ["linear_probe"]) == score_all(o, ["linear_probe"])
