"""LogME: the evidence for a linear Gaussian model of every class given the features."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
from scipy.linalg.lapack import dormqr, dsytrd

from seg_transfer.metrics._base import Metric, Scores, Statistics, overall_score, scores_from_moments
from seg_transfer.observations import FloatArray, Moments, Observations

# The reference implementation's constant in both denominators: a Gamma prior exp(-1e-5 x / 2) on either precision. It
# bounds the evidence of a class that the features fit without error.
PRIOR_RATE = 1e-5
# If the mean outweighs the scatter by this factor, a single matrix of their squares would lose the scatter's precision.
LARGE_OFFSET = 1e3


def logme(features: npt.NDArray[Any], labels: npt.NDArray[np.integer[Any]], *, converged: bool = False) -> float:
    """Compute the maximum log evidence per observation of a Bayesian linear model of each class, averaged over classes.

    The model of the one-hot column of class c is y_c = F w + noise, w ~ N(0, I / alpha), noise ~ N(0, I / beta), with
    the raw features F. Alpha and beta maximize the evidence: You et al., "LogME: Practical Assessment of Pre-trained
    Models for Transfer Learning", ICML 2021. They are computed by the fixed point of t = alpha / beta of the extended
    version, "Ranking and Tuning Pre-trained Models", JMLR 2022.

    Args:
        features: (N, D).
        labels: (N,) integers.
        converged: If False, iterate for at most 11 steps or until alpha / beta changes by less than 1e-3, and take the
            evidence from the last step's residual, as the reference implementation does. If True, iterate until it
            changes by less than 1e-10.

    Returns:
        Any real number; higher is better.

    Raises:
        ObservationsError: The features hold NaN or infinite values, or there are fewer than two classes or
            observations.

    Example:
        >>> features, labels = np.array([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0], [0.1, 1.0]]), np.array([0, 0, 1, 1])
        >>> logme(features, labels) > logme(features[[0, 2, 1, 3]], labels)
        True
    """
    return overall_score(_scores(Statistics.ungrouped(Observations(features, labels)), converged=converged))


@dataclass(frozen=True, eq=False)
class _Problem:
    """What the evidence depends on.

    Attributes:
        n: Number of observations.
        eigenvalues: (K,), positive eigenvalues of F^T F.
        fits: (C, K), squared length of each one-hot column along each left singular vector of F.
        residuals: (C,), squared length that no direction of the features explains.
    """

    n: int
    eigenvalues: FloatArray
    fits: FloatArray
    residuals: FloatArray


def _scores(statistics: Statistics, *, converged: bool) -> Scores:
    return scores_from_moments(statistics, partial(_score, converged=converged))


def _score(moments: Moments, converged: bool) -> float:
    problem = _problem(moments)
    steps, tolerance = (1000, 1e-10) if converged else (11, 1e-3)
    return float(_evidence(problem, steps, tolerance).mean())


def _problem(moments: Moments) -> _Problem:
    raw = moments.about(np.zeros_like(moments.shift))
    eigenvalues, projections, noise = _raw_spectrum(raw, moments)
    # F^T F has at most N directions; any more above the noise come from rounding.
    kept = (eigenvalues > noise) & (np.arange(len(eigenvalues)) >= len(eigenvalues) - moments.n)
    eigenvalues = eigenvalues[kept]
    fits = projections[:, kept] ** 2 / eigenvalues
    residuals = np.maximum(moments.counts - fits.sum(axis=1), 0.0)
    return _Problem(moments.n, eigenvalues, fits, residuals)


def _raw_spectrum(raw: Moments, moments: Moments) -> tuple[FloatArray, FloatArray, float]:
    """Return eigenvalues of F^T F (D,), raw sums along its eigenvectors (C, D), and the size of a spurious eigenvalue.

    The eigenvalues ascend.
    """
    n, mean, epsilon = moments.n, moments.mean, np.finfo(np.float64).eps
    scatter = n * moments.covariance
    if n * (mean @ mean) <= LARGE_OFFSET * np.trace(scatter):
        eigenvalues, projections = _along_eigenvectors(raw.second, raw.sums)
        return eigenvalues, projections, epsilon * eigenvalues[-1]
    # F^T F = A^T A with A = [scatter^(1/2); sqrt(n) mean^T], whose singular values keep the precision that A^T A loses.
    inner, basis = scipy.linalg.eigh(scatter)
    root = np.sqrt(np.maximum(inner, 0.0))[:, None] * basis.T
    _, singular, right = scipy.linalg.svd(np.vstack([root, np.sqrt(n) * mean]), full_matrices=False)
    noise = max(len(mean) * epsilon * inner[-1], (len(mean) * epsilon * singular[0]) ** 2)
    return singular[::-1] ** 2, raw.sums @ right[::-1].T, noise


def _along_eigenvectors(matrix: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the eigenvalues (D,) of a symmetric matrix, ascending, and rows (C, D) along its eigenvectors.

    The rows move to the basis in which the matrix is tridiagonal, since they are fewer than the eigenvectors, which
    would have to move out of it.
    """
    if len(matrix) == 1:
        return matrix[0], rows
    workspace = 64 * (len(matrix) + len(rows))  # for blocks of 64 columns
    reflectors, diagonal, beside, scales, _ = dsytrd(matrix, lower=1, lwork=workspace)
    # The first direction stays, and the reflectors of the others lie as those of a QR decomposition.
    others = dormqr("R", "N", reflectors[1:, :-1], scales, rows[:, 1:], lwork=workspace)[0]
    eigenvalues, vectors = scipy.linalg.eigh_tridiagonal(diagonal, beside)
    return np.asarray(eigenvalues, np.float64), rows[:, :1] @ vectors[:1] + others @ vectors[1:]


def _evidence(problem: _Problem, steps: int, tolerance: float) -> FloatArray:
    """Return the log evidence per observation (C,); every class starts at alpha = beta = 1 and stops separately."""
    ratios = np.ones(len(problem.residuals))
    evidence = np.empty_like(ratios)
    active = np.arange(len(ratios))
    for _ in range(steps):
        ratio, evidence[active] = _step(problem, active, ratios[active])
        changes = np.abs(ratio - ratios[active]) > tolerance * ratios[active]
        ratios[active] = ratio
        active = active[changes]
        if not len(active):
            break
    return evidence


def _step(problem: _Problem, classes: npt.NDArray[np.int64], ratio: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Take one step for some classes; returns the new alpha / beta and the log evidence per observation there."""
    n, eigenvalues, fits = problem.n, problem.eigenvalues, problem.fits[classes]
    sums = eigenvalues + ratio[:, None]
    kept, shrunk = eigenvalues / sums, ratio[:, None] / sums
    weights = (fits * kept / sums).sum(axis=1)
    errors = (fits * shrunk**2).sum(axis=1) + problem.residuals[classes]
    alpha = kept.sum(axis=1) / (weights + PRIOR_RATE)
    beta = (n - len(eigenvalues) + shrunk.sum(axis=1)) / (errors + PRIOR_RATE)
    # Directions without features cancel: D/2 log alpha against as many -1/2 log alpha.
    determinant = np.log1p(beta[:, None] * eigenvalues / alpha[:, None]).sum(axis=1)
    evidence = n * np.log(beta / (2 * np.pi)) - determinant - beta * errors - alpha * weights
    return alpha / beta, evidence / (2 * n)


METRIC = Metric(
    name="logme",
    version=1,
    needs=frozenset({"features"}),
    range="(-inf, inf)",
    cost="N D^2",
    reference="You et al., LogME, ICML 2021",
    scores=_scores,
    settings={"converged": False},
    additive=True,
)
