"""PACTran: a PAC-Bayesian bound on the error of a linear classifier on the features."""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from seg_transfer.metrics._base import Metric, Scores, Statistics, single, thinned_features
from seg_transfer.observations import FloatArray, IntArray, Observations

# The release's: prior variance of all weights of one class together, at a weight of the prior of one observation in N.
PRIOR_VARIANCE = 100.0


def pactran(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    *,
    max_observations: int = 4000,
    seed: int = 0,
) -> float:
    """PACTran with a Gaussian prior, Ding et al., "PACTran: PAC-Bayesian Metrics for Estimating the Transferability of
    Pretrained Models to Classification Tasks", ECCV 2022.

    Minus the sum of L, the least value of the mean cross-entropy of a linear classifier of the centred features plus
    |W|^2 / (2 N), and of the price of the posterior's width, C D / (2 N) s^2 log(1 + N tr(H) / (C D)), where s^2 =
    100 / D and H holds the second derivatives of the mean cross-entropy at the minimum, those of the C intercepts
    included. These are the middle ones of the constants that the authors' release tries; it takes 8000 observations.

    The minimum is found to rounding (the release stops early, from a random start). The release takes the sum over the
    observations for H where the bound has their mean: its values are lower by nearly the same amount, 50 C / N log N,
    for all sources of a target.

    Args:
        features: (N, D).
        labels: (N,) integers, C classes.
        max_observations: no more are used: as many from every image as from any other.
        seed: of the choice of observations.

    Returns:
        A number in (-inf, 0]; higher is better. The scale of the features matters.

    Raises:
        ObservationsError: NaN or infinite features, fewer than two classes or observations.
        ConfigError: a setting outside its range.
    """
    statistics = Statistics.ungrouped(Observations(features, labels))
    return single(_scores(statistics, max_observations=max_observations, seed=seed))


def _scores(statistics: Statistics, *, max_observations: int, seed: int) -> Scores:
    features, codes = thinned_features(statistics.observations, max_observations, seed)
    x = features.astype(np.float64)
    x -= x.mean(axis=0)
    loss, probabilities = _fitted(x, codes)
    n, n_weights = len(x), x.shape[1] * probabilities.shape[1]
    # The sum of the diagonal of H: each class's p (1 - p) times the squares of the features, and 1 for the intercept.
    curvature = (np.einsum("ij,ij->i", x, x) + 1) @ (probabilities * (1 - probabilities)).sum(axis=1) / n
    width = PRIOR_VARIANCE * probabilities.shape[1] / (2 * n) * np.log1p(n * curvature / n_weights)
    return [-float(loss + width)]


def _fitted(x: FloatArray, codes: IntArray) -> tuple[float, FloatArray]:
    """The least loss of a linear classifier of centred features, and its probabilities (N, C) there."""
    rows, n = np.arange(len(x)), len(x)
    design, prior, scale = _coordinates(x, np.bincount(codes) / n)

    def scores(flat: FloatArray) -> FloatArray:
        product: FloatArray = design @ (flat.reshape(scale.shape) * scale)
        return product

    def loss(flat: FloatArray) -> tuple[float, FloatArray]:
        logits, weights = scores(flat), flat.reshape(scale.shape) * scale
        entropy = (logsumexp(logits, axis=1) - logits[rows, codes]).mean()
        error = softmax(logits, axis=1)
        error[rows, codes] -= 1
        slope = design.T @ error / n + prior * weights
        return float(entropy + (prior * weights**2).sum() / 2), (slope * scale).ravel()

    def curvature(flat: FloatArray, step: FloatArray) -> FloatArray:
        """The matrix of second derivatives times a step."""
        probabilities = softmax(scores(flat), axis=1)
        change = probabilities * scores(step)
        change -= probabilities * change.sum(axis=1, keepdims=True)
        bend = design.T @ change / n + prior * step.reshape(scale.shape) * scale
        return (bend * scale).ravel()

    start = np.zeros(scale.size)
    found = minimize(loss, start, jac=True, hessp=curvature, method="trust-ncg", options={"gtol": 1e-9})
    return float(found.fun), softmax(scores(found.x), axis=1)


def _coordinates(x: FloatArray, shares: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(N, D + 1) the features along their principal directions and a column of ones; (D + 1, 1) the prior's weight on
    each; and (D + 1, C) the scale of the unknowns at which the loss curves about alike along all of them: the minimum
    is the same, and found in a tenth of the steps."""
    n = len(x)
    variances, directions = scipy.linalg.eigh(x.T @ x / n)
    prior = np.append(np.full(len(variances), 1 / n), 0.0)[:, None]
    spread = np.append(np.maximum(variances, 0), 1.0)[:, None]
    return np.hstack([x @ directions, np.ones((n, 1))]), prior, 1 / np.sqrt(spread * shares * (1 - shares) + prior)


METRIC = Metric(
    name="pactran",
    needs=frozenset({"features"}),
    range="(-inf, 0]",
    cost="100 n C D",
    reference="Ding et al., PACTran, ECCV 2022",
    scores=_scores,
    settings={"max_observations": 4000, "seed": 0},
)
