"""Fitting Gaussian mixtures by expectation maximization that keeps the likeliest components of every observation.

In many dimensions an observation belongs to one component or to a few, and a step of EM that visits all of them
computes mostly zeros. Steps therefore visit only the components that were the likeliest in the last sweep over all of
them (Lücke and Eggert, "Expectation truncation and the benefits of preselection in training generative models", JMLR
2010). EM is slow near its end; steps are therefore longer than those of EM, along the same direction (Salakhutdinov and
Roweis, "Adaptive overrelaxed bound optimization methods", ICML 2003).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import dsyrk

from seg_transfer.metrics._kmeans import partition
from seg_transfer.metrics._mixture import (
    BLOCK_ROWS,
    Densities,
    Mixture,
    inverse_factor,
    log_densities,
    log_sums,
    posterior,
    rows_by_part,
)
from seg_transfer.observations import FloatArray

KEPT = 4
# A smaller share of an observation changes no digit of a mean or covariance that matters.
NEGLIGIBLE = 1e-6
STEPS_PER_SWEEP = 12
MOST_SWEEPS = 10
# Length of a step in units of EM's own. Near a maximum, steps below twice that length converge.
STEP_LENGTH = 1.8
# EM ends when a sweep adds less than this to the mean log-likelihood of an observation, per dimension.
TOLERANCE = 1e-3

# For every component, its places in the flattened table (KEPT, n) of the components that observations keep.
Places = list[npt.NDArray[np.intp]]


def fit(z: FloatArray, n_components: int, floor: float, rng: np.random.Generator) -> Mixture:
    """Fit a mixture by EM, until a sweep adds less than 0.001 per dimension to the mean log-likelihood.

    EM starts from a partition by k-means. Each of at most 10 sweeps finds the 4 likeliest components of every
    observation, among which 12 steps then divide it.

    Args:
        z: (n, d), centered, with a small d.
        n_components: Number of components.
        floor: Added to all variances of every component.
        rng: Source of randomness for the start.
    """
    parts = partition(z, n_components, rng)
    places = rows_by_part(parts, n_components)
    mixture, tolerance = maximize(z, places, np.ones((KEPT, len(z))), floor), TOLERANCE * z.shape[1]
    for _ in range(MOST_SWEEPS):
        places, logs = likeliest(mixture, z)
        likelihoods = [log_sums(logs).mean()]
        while len(likelihoods) <= STEPS_PER_SWEEP and not _is_still(likelihoods, tolerance / STEPS_PER_SWEEP):
            mixture = lengthened(mixture, maximize(z, places, posterior(logs), floor))
            logs = log_densities_of_kept(mixture, z, places)
            likelihoods.append(log_sums(logs).mean())
        if likelihoods[-1] - likelihoods[0] < tolerance:
            break
    return mixture


def _is_still(likelihoods: Sequence[float], tolerance: float) -> bool:
    """Whether the last step changed the likelihood by less than the tolerance."""
    return len(likelihoods) > 1 and abs(likelihoods[-1] - likelihoods[-2]) < tolerance


def likeliest(mixture: Mixture, z: FloatArray) -> tuple[Places, FloatArray]:
    """Return the places of the likeliest components of every observation, and their log densities (KEPT, n)."""
    log_densities_at, n_components = log_densities(mixture), len(mixture.weights)
    # Components that are negligible keep no place.
    kept, logs = np.full((KEPT, len(z)), n_components), np.full((KEPT, len(z)), -np.inf)
    for start in range(0, len(z), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        left, everywhere = np.ascontiguousarray(log_densities_at(z[rows]).T), np.arange(len(z[rows]))
        for rank in range(min(KEPT, n_components)):
            best = left.argmax(axis=1)
            logs[rank, rows] = left[everywhere, best]
            kept[rank, rows] = np.where(np.isfinite(logs[rank, rows]), best, n_components)
            left[everywhere, best] = -np.inf
    return rows_by_part(kept.ravel(), n_components), logs


def log_densities_of_kept(mixture: Mixture, z: FloatArray, places: Places) -> FloatArray:
    """Compute the log densities (KEPT, n) of the components that observations keep."""
    densities, logs = Densities.of(mixture), np.full(KEPT * len(z), -np.inf)
    for k, own in enumerate(places):
        if len(own):
            logs[own] = densities.of_component(k, z.take(own % len(z), axis=0))
    return logs.reshape(KEPT, -1)


def maximize(z: FloatArray, places: Places, shares: FloatArray, floor: float) -> Mixture:
    """Return the mixture that fits best, given the shares of every observation in the components that it keeps."""
    width, flat = z.shape[1], shares.ravel()
    # An empty component stays finite, with negligible weight.
    counts = np.full(len(places), 10 * np.finfo(np.float64).eps)
    means, covariances = np.zeros((len(places), width)), np.zeros((len(places), width, width))
    for k, own in enumerate(places):
        own = own[flat[own] > NEGLIGIBLE]
        if len(own):
            rows, weights = z.take(own % len(z), axis=0), flat[own]
            counts[k] += weights.sum()
            means[k] = weights @ rows / counts[k]
            rows -= means[k]
            rows *= np.sqrt(weights)[:, None]
            half = dsyrk(1 / counts[k], rows.T)
            covariances[k] = half + np.triu(half, 1).T
    covariances += floor * np.eye(width)
    return Mixture(counts / counts.sum(), means, covariances)


def lengthened(before: Mixture, after: Mixture) -> Mixture:
    """Return the mixture where a longer step than that of EM ends; EM's own step for what it would make impossible."""
    more = STEP_LENGTH - 1
    weights = np.maximum(after.weights + more * (after.weights - before.weights), after.weights / 2)
    means = after.means + more * (after.means - before.means)
    covariances = after.covariances + more * (after.covariances - before.covariances)
    for k, covariance in enumerate(covariances):
        if inverse_factor(covariance) is None:
            covariances[k] = after.covariances[k]
    return Mixture(weights / weights.sum(), means, covariances)
