import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from seg_transfer.metrics import logme


def highest_evidence(features, column):
    """Largest log density of a one-hot column under N(0, I / beta + F F^T / alpha), by a general optimizer.

    The prior exp(-1e-5 (alpha + beta) / 2) of the fixed point has its part in where the maximum lies.
    """

    def evidence(log_precisions):
        alpha, beta = np.exp(log_precisions)
        covariance = np.eye(len(column)) / beta + features @ features.T / alpha
        return multivariate_normal(cov=covariance).logpdf(column)

    def loss(log_precisions):
        return 1e-5 / 2 * np.exp(log_precisions).sum() - evidence(log_precisions)

    best = minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-11})
    return evidence(best.x) / len(column)


def by_svd(features, labels, steps=11, tolerance=1e-3):
    """The fixed point from an SVD of the features themselves, class by class."""
    n, d = features.shape
    left, singular, _ = np.linalg.svd(features.astype(np.float64), full_matrices=False)
    rank = np.count_nonzero(singular > singular[0] * max(n, d) * np.finfo(float).eps)
    left, lambdas = left[:, :rank], singular[:rank] ** 2
    values = []
    for label in np.unique(labels):
        column = (labels == label).astype(float)
        fit = left.T @ column
        residual = np.sum((column - left @ fit) ** 2)
        alpha = beta = 1.0
        for _ in range(steps):
            ratio = alpha / beta
            gamma = np.sum(lambdas / (lambdas + ratio))
            weights = np.sum(lambdas * fit**2 / (lambdas + ratio) ** 2)
            errors = np.sum((ratio * fit / (lambdas + ratio)) ** 2) + residual
            alpha, beta = gamma / (weights + 1e-5), (n - gamma) / (errors + 1e-5)
            if abs(alpha / beta - ratio) <= tolerance * ratio:
                break
        determinant = np.sum(np.log(alpha + beta * lambdas)) + (d - rank) * np.log(alpha)
        value = d * np.log(alpha) + n * np.log(beta) - determinant - beta * errors - alpha * weights
        values.append((value - n * np.log(2 * np.pi)) / (2 * n))
    return np.mean(values)


@pytest.mark.parametrize("shape", [(90, 6, 3), (60, 20, 2), (40, 70, 3)])
def test_is_the_highest_evidence_of_the_textbook_model(shape, world):
    observations = world(*shape, n_images=5)
    columns = [(observations.labels == label).astype(float) for label in np.unique(observations.labels)]
    expected = np.mean([highest_evidence(observations.features, column) for column in columns])
    assert logme(observations.features, observations.labels, converged=True) == pytest.approx(expected, abs=1e-7)
    assert logme(observations.features, observations.labels) == pytest.approx(expected, abs=2e-3)


def test_two_observations_by_hand():
    # F = I, so lambda = 1, y = e_1 or e_2; from alpha = beta = 1: gamma = 1, |m|^2 = error = 1/4, so alpha = beta = 4:
    # the ratio stays 1, and log evidence = log 4 + log 4 - log 8 - 4/8 - 4/8 - log(2 pi) = log 2 - 1 - log(2 pi).
    expected = (np.log(2.0) - 1 - np.log(2 * np.pi)) / 2
    assert logme(np.eye(2), np.array([0, 1])) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("shape", [(400, 10, 5), (60, 150, 3), (50, 50, 4), (90, 2, 9), (90, 1, 9)])
def test_equals_the_fixed_point_from_an_svd(shape, world):
    observations = world(*shape)
    assert logme(observations.features, observations.labels) == pytest.approx(
        by_svd(observations.features, observations.labels), rel=1e-10
    )


@pytest.mark.parametrize("offset", [30.0, 1e3, 1e4, 1e5])
@pytest.mark.parametrize("shape", [(400, 10, 5), (60, 90, 3), (400, 90, 3)])
def test_large_offsets_do_not_cost_precision(offset, shape, world):
    observations = world(*shape)
    features = observations.features + offset * observations.features.std(axis=0)
    # The singular values are off by the rounding of the largest, which the offset raises, and LAPACK's sums over all
    # entries add up. Squares of the features without care would lose the square of the condition, 1e-3 here.
    rounding = np.finfo(float).eps * np.linalg.cond(features) * features.size**0.5
    expected = by_svd(features, observations.labels)
    assert logme(features, observations.labels) == pytest.approx(expected, rel=1e-10 + rounding)


def test_dead_and_repeated_channels_keep_every_direction_in_the_evidence(world):
    observations = world()
    features = np.hstack([observations.features, np.zeros((400, 7)), observations.features[:, :4]])
    expected = by_svd(features, observations.labels)
    assert logme(features, observations.labels) == pytest.approx(expected, rel=1e-10)
    # alpha enters the evidence as often as there are channels only through those that carry features.
    dead = np.hstack([observations.features, np.zeros((400, 7))])
    assert logme(dead, observations.labels) == pytest.approx(
        logme(observations.features, observations.labels), rel=1e-12
    )


def test_every_class_starts_from_the_same_values(world):
    observations = world(n_classes=2)
    features, labels = observations.features, observations.labels
    swapped = logme(features, 1 - labels)
    assert logme(features, labels) == pytest.approx(swapped, rel=1e-13)


def test_classes_without_error_stay_finite_and_score_high():
    labels = np.tile(np.arange(3), 30)
    perfect = np.eye(3)[labels]
    noisy = perfect + 0.1 * np.random.default_rng(0).normal(size=perfect.shape)
    for converged in (False, True):
        assert np.isfinite(logme(perfect, labels, converged=converged))
        assert logme(perfect, labels, converged=converged) > logme(noisy, labels, converged=converged)


@pytest.mark.parametrize("scale", [1e-80, 1e-20, 1e12, 1e40])
@pytest.mark.parametrize("shape", [(400, 10, 5), (30, 200, 2)])
def test_the_scale_of_features_may_be_anything(scale, shape, world):
    observations = world(*shape)
    for converged in (False, True):
        assert np.isfinite(logme(scale * observations.features, observations.labels, converged=converged))


def test_constant_features_are_scored_by_the_noise_alone():
    labels = np.repeat([0, 1], 50)
    # beta = N / n_c = 2 leaves -1/2 (log(2 pi / 2) + 1) per observation.
    assert logme(np.zeros((100, 3)), labels) == pytest.approx(-(np.log(np.pi) + 1) / 2, abs=1e-6)
