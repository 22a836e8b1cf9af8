"""Logistic regression on held-out images, against scikit-learn called directly."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from seg_transfer.errors import ConfigError
from seg_transfer.metrics import METRICS, _linear_probe, linear_probe, linear_probe_miou, score_all
from seg_transfer.observations import Observations, image_groups


def fitted(x: np.ndarray, y: np.ndarray, rows: np.ndarray, penalty: float) -> np.ndarray:
    """The predictions for all rows of a regression that is fitted on some."""
    scaler = StandardScaler().fit(x[rows])
    model = LogisticRegression(
        C=1 / (penalty * rows.sum()), class_weight="balanced", max_iter=_linear_probe.MAX_STEPS
    ).fit(scaler.transform(x[rows]), y[rows])
    return model.predict(scaler.transform(x))


def predictions(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    predicted, present = np.empty_like(y), np.unique(groups).tolist()
    for position, held in enumerate(present):
        following = present[(position + 1) % len(present)]
        inside = np.zeros(len(y), bool)
        rest = np.flatnonzero((groups != held) & (groups != following))
        inside[rest[:: int(np.ceil(len(rest) / _linear_probe.MOST_TO_CHOOSE_BY))]] = True
        tried = {penalty: fitted(x, y, inside, penalty) for penalty in (1.0, 0.1, 0.01)}
        own = groups == following
        accuracies = {
            penalty: np.mean([np.mean(found[own & (y == code)] == code) for code in np.unique(y[own])]).round(12)
            for penalty, found in tried.items()
        }
        penalty = max(tried, key=accuracies.__getitem__)
        predicted[groups == held] = fitted(x, y, groups != held, penalty)[groups == held]
    return predicted


def miou(labels: np.ndarray, predicted: np.ndarray, class_pixels: np.ndarray) -> float:
    weights = (class_pixels / np.bincount(labels, minlength=len(class_pixels)).clip(1))[labels]
    hits = [(labels == c) & (predicted == c) for c in np.unique(labels)]
    unions = [(labels == c) | (predicted == c) for c in np.unique(labels)]
    return float(np.mean([weights[hit].sum() / weights[union].sum() for hit, union in zip(hits, unions, strict=True)]))


@pytest.mark.parametrize("most", [5_000, 100])
def test_equals_scikit_learn(world, monkeypatch, most):
    monkeypatch.setattr(_linear_probe, "MOST_TO_CHOOSE_BY", most)
    o = world()
    predicted = predictions(o.features, o.labels, image_groups(o.image_index))
    accuracy = balanced_accuracy_score(o.labels, predicted)
    assert 0.5 < accuracy < 1
    assert linear_probe(o.features, o.labels, o.image_index) == pytest.approx(accuracy, rel=1e-12)
    found = linear_probe_miou(o.features, o.labels, o.image_index, o.class_pixels)
    assert found == pytest.approx(miou(o.labels, predicted, o.class_pixels), rel=1e-12)


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
    # Without image 1 only class 0 is left; without image 0, the boundary is at 3.5.
    assert linear_probe(features, labels, np.array([0, 0, 1, 1])) == pytest.approx((2 / 3 + 0) / 2, rel=1e-15)


def test_a_fit_that_stops_early_does_not_warn(world, monkeypatch):
    monkeypatch.setattr(_linear_probe, "MAX_STEPS", 1)
    o = world()
    assert 0 < linear_probe(o.features, o.labels, o.image_index) < 1


def test_without_scikit_learn_it_is_skipped_or_refused_in_one_line(world, monkeypatch):
    assert METRICS["linear_probe"].extra == METRICS["linear_probe_miou"].extra == "sklearn"
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(
        ConfigError, match=r"needs scikit-learn, .*: run pip install 'seg_transfer\[sklearn\]', or leave"
    ):
        score_all(world(), ["linear_probe"])


def test_features_of_any_type_give_the_same(world):
    o: Observations = world()
    halves = replace(o, features=o.features.astype(np.float16))
    assert score_all(halves, ["linear_probe"]) == score_all(o, ["linear_probe"])
