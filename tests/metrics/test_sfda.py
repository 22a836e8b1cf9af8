import numpy as np
import pytest
import scipy.linalg
from scipy.special import softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from seg_transfer.arrays import host
from seg_transfer.metrics import sfda
from seg_transfer.metrics._base import Statistics
from seg_transfer.metrics._separation import between_class_rows
from seg_transfer.metrics._sfda import _discriminant, _shrinkage
from seg_transfer.observations import Observations
from seg_transfer.observations.passes import softmax as softmax_in_place


def slow_discriminant(x, y, shrinkage):
    """(N, C) by generalized eigenvectors of the scatter between the classes."""
    classes = np.unique(y)
    means = np.stack([x[y == label].mean(axis=0) for label in classes])
    shares = np.array([np.mean(y == label) for label in classes])
    within = sum(np.cov(x[y == label].T, ddof=0) * share for label, share in zip(classes, shares, strict=True))
    shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / x.shape[1] * np.eye(x.shape[1])
    _, vectors = scipy.linalg.eigh(np.cov(x.T, ddof=0) - within, shrunk)
    directions = (means @ vectors) @ vectors.T
    logits = x @ directions.T - np.einsum("cd,cd->c", means, directions) / 2 + np.log(shares)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True), within


def slow_sfda(x, y):
    codes = np.unique(y, return_inverse=True)[1]
    _, within = slow_discriminant(x, y, 0.5)
    shrinkage = max(np.exp(-5 * np.linalg.eigvalsh(within)[-1]), 1e-10)
    p = np.exp(slow_discriminant(x, y, shrinkage)[0])
    mixed = x.copy()
    for i in range(len(x)):
        certainty = p[i, codes[i]] / p[i].sum()
        mixed[i] = certainty * x[i] + (1 - certainty) * x[codes != codes[i]].mean(axis=0)
    return slow_discriminant(mixed, y, shrinkage)[0][np.arange(len(x)), codes].mean()


@pytest.mark.parametrize("scale", [0.05, 0.3, 1.0])
def test_equals_the_definition(scale, world):
    observations = world(300, 8, 4)
    x = scale * observations.features
    expected = slow_sfda(x, observations.labels)
    assert 0.3 < expected < 0.999
    assert sfda(x, observations.labels) == pytest.approx(expected, rel=1e-9)


def test_the_discriminant_is_that_of_scikit_learn(world):
    observations = world()
    total = Statistics.ungrouped(observations).total
    rows = between_class_rows(total)
    within = total.covariance - rows.T @ rows
    directions, intercepts = _discriminant(total.class_offsets, within, total.counts / 400, 0.2, 0.0)
    x, y = observations.features, observations.labels
    other = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=_Shrunk(0.2)).fit(x, y)
    found = softmax((x - total.mean) @ directions + intercepts, axis=1)
    np.testing.assert_allclose(found, other.predict_proba(x), atol=1e-10)


class _Shrunk:
    """Covariance shrunk without the standardisation that scikit-learn's own shrinkage has."""

    def __init__(self, shrinkage):
        self.shrinkage = shrinkage

    def fit(self, x):
        # LDA averages the classes' own covariances by share, and shrinking is linear in them.
        covariance = np.cov(x.T, ddof=0)
        identity = np.trace(covariance) / x.shape[1] * np.eye(x.shape[1])
        self.covariance_ = (1 - self.shrinkage) * covariance + self.shrinkage * identity
        return self


def test_shrinkage_by_hand():
    within = np.diag([0.1, 0.02, 0.05])
    assert _shrinkage(within) == pytest.approx(np.exp(-0.5), rel=1e-12)
    assert _shrinkage(1000 * within) == 1e-10


def test_more_channels_than_observations(world):
    observations = world(60, 150, 3)
    assert sfda(observations.features, observations.labels) == pytest.approx(1.0, abs=1e-6)


def test_constant_features_give_the_shares():
    labels = np.repeat([0, 1], [30, 10])
    # Every observation has its class's share, before and after.
    assert sfda(np.full((40, 3), 2.0), labels) == pytest.approx((0.75**2 + 0.25**2), rel=1e-12)


def test_classes_without_spread_are_separated():
    features = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 2.0], [1.0, 2.0]])
    assert sfda(features, np.array([0, 0, 1, 1])) == pytest.approx(1.0, rel=1e-12)
    assert sfda(features[[0, 2]], np.array([0, 1])) == pytest.approx(1.0, rel=1e-12)


def test_large_offsets_do_not_cost_precision(world):
    observations = world()
    x, y = 0.2 * observations.features, observations.labels
    there = x + 1e4 * x.std(axis=0)
    assert sfda(there, y) == pytest.approx(sfda(there - 1e4 * x.std(axis=0), y), rel=1e-9)


def test_the_size_of_blocks_does_not_matter(world, monkeypatch):
    observations = Observations(0.2 * world().features, world().labels)
    whole = sfda(observations.features, observations.labels)
    monkeypatch.setattr(host, "BLOCK_ROWS", 7)
    assert sfda(observations.features, observations.labels) == pytest.approx(whole, rel=1e-12)


def test_probabilities_of_log_odds_without_bound():
    odds = np.array([[0.0, 900.0, -900.0], [1e4, 0.0, 0.0], [3.0, 3.0, -np.inf]])
    np.testing.assert_allclose(softmax_in_place(odds), [[0, 1, 0], [1, 0, 0], [0.5, 0.5, 0]], atol=1e-300)
