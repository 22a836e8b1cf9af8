import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.linear_model import LogisticRegression

from seg_transfer.errors import ConfigError
from seg_transfer.metrics import METRICS, pactran
from seg_transfer.metrics._base import Statistics
from seg_transfer.metrics._logistic import fit


def slow_loss(x, codes, weights, intercepts):
    logits = x @ weights + intercepts
    logits -= logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(x)), codes] - np.log(np.exp(logits).sum(axis=1))
    return -own.mean() + (weights**2).sum() / (2 * len(x))


def scikit_learn(x, codes):
    """The same minimum: its C weighs the sum of the losses against |W|^2 / 2."""
    found = LogisticRegression(C=1.0, tol=1e-12, max_iter=10_000).fit(x, codes)
    return found.coef_.T, found.intercept_


def slow_pactran(x, y):
    x, codes = x - x.mean(axis=0), np.unique(y, return_inverse=True)[1]
    weights, intercepts = scikit_learn(x, codes)
    n, d, c = len(x), x.shape[1], codes.max() + 1
    logits = x @ weights + intercepts
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    second = sum(x[i, k] ** 2 * p[i, j] * (1 - p[i, j]) for i in range(n) for k in range(d) for j in range(c)) / n
    second += sum(p[i, j] * (1 - p[i, j]) for i in range(n) for j in range(c)) / n
    width = c * d / (2 * n) * (100 / d) * np.log(1 + n * second / (c * d))
    return -(slow_loss(x, codes, weights, intercepts) + width)


@pytest.mark.parametrize("shape", [(400, 10, 5), (90, 40, 3)])
def test_equals_the_definition(shape, world):
    observations = world(*shape)
    expected = slow_pactran(observations.features, observations.labels)
    assert pactran(observations.features, observations.labels) == pytest.approx(expected, rel=1e-6)


def intercepts_of(x, probabilities, weights):
    return (np.log(probabilities) - x @ weights)[0]


def test_second_derivatives_are_those_of_the_loss(world):
    """The sum of the diagonal of H against differences of the loss's slope."""
    observations = world(80, 4, 3)
    x, codes = observations.features - observations.features.mean(axis=0), observations.codes
    found = fit(x, codes)
    least, p = found.loss, found.probabilities
    weights = -x.T @ (p - np.eye(3)[codes])
    start = np.append(weights.ravel(), intercepts_of(x, p, weights))

    def loss(flat):
        return slow_loss(x, codes, flat[:12].reshape(4, 3), flat[12:])

    def slope(flat):
        return approx_fprime(flat, loss, 1e-5)

    h = 1e-4
    trace = sum((slope(start + h * e)[i] - slope(start - h * e)[i]) / (2 * h) for i, e in enumerate(np.eye(15)))
    width = 50 * 3 / 80 * np.log(80 * trace / 12)  # The prior's own curvature, 12 / 80, gives the 1.
    assert pactran(observations.features, observations.labels) == pytest.approx(-(least + width), rel=1e-4)


def test_constant_features_give_the_entropy_of_the_labels():
    labels = np.repeat([0, 1], [30, 10])
    entropy = -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
    width = 50 * 2 / 40 * np.log1p(40 * 2 * 0.75 * 0.25 / (2 * 3))
    assert pactran(np.full((40, 3), 2.0), labels) == pytest.approx(-entropy - width, rel=1e-9)


def test_large_offsets_do_not_cost_precision(world):
    observations = world()
    x, y = observations.features, observations.labels
    there = x + 1e4 * x.std(axis=0)
    assert pactran(there, y) == pytest.approx(pactran(there - 1e4 * x.std(axis=0), y), rel=1e-9)


def test_only_the_subsample_counts(world):
    observations = world()
    found = METRICS["pactran"].scores(Statistics.ungrouped(observations), max_observations=150, seed=4)
    chosen = observations.subsample(150, 4)
    assert found == [pactran(chosen.features, chosen.labels)]


def test_settings_outside_their_range_are_refused(world):
    with pytest.raises(ConfigError, match="max_observations"):
        pactran(world().features, world().labels, max_observations=1)
