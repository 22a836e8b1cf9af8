"""Fitting Gaussian mixtures by expectation maximization that keeps the likeliest components of every observation.

In many dimensions an observation belongs to one component or to a few, and a step of EM that visits all of them
computes mostly zeros. Steps therefore visit only the components that were the likeliest in the last sweep over all of
them (Lücke and Eggert, "Expectation truncation and the benefits of preselection in training generative models", JMLR
2010).
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import scipy.linalg

from seg_transfer.metrics._mixture import Mixture, from_partition, partition
from seg_transfer.observations import FloatArray

KEPT = 4
STEPS_PER_SWEEP = 16
MOST_SWEEPS = 10
# EM ends when a sweep and its steps add less than this to the mean log-likelihood of an observation.
TOLERANCE = 1e-2
# A smaller share of an observation changes no digit of a mean or covariance that matters.
NEGLIGIBLE = 1e-6
BLOCK_ROWS = 8192

_Places = list[npt.NDArray[np.intp]]
_LogDensity = Callable[[int, FloatArray], FloatArray]


def fit(z: FloatArray, n_components: int, floor: float, rng: np.random.Generator) -> Mixture:
    """Fit a mixture by EM, until a sweep adds less than 0.01 to the mean log-likelihood, or for at most 10 sweeps.

    EM starts from a partition by at most 30 steps of k-means with a k-means++ start (Arthur and Vassilvitskii, 2007). A
    sweep finds the 4 likeliest components of every observation, among which 16 steps then divide it.

    Args:
        z: (n, d), centered, with a small d.
        n_components: Number of components.
        floor: Added to all variances of every component.
        rng: Source of randomness for the start.
    """
    mixture, before = from_partition(z, partition(z, n_components, rng), n_components, floor), -np.inf
    for _ in range(MOST_SWEEPS):
        kept, likelihood = likeliest(mixture, z)
        if likelihood - before < TOLERANCE:
            break
        before = likelihood
        places = places_by_component(kept, n_components)
        for _ in range(STEPS_PER_SWEEP):
            mixture = step(mixture, z, places, floor)
    return mixture


def likeliest(mixture: Mixture, z: FloatArray) -> tuple[npt.NDArray[np.intp], float]:
    """Return the likeliest components (n, m) of every observation, in any order, and the mean log-likelihood."""
    log_density, n_components = _log_density(mixture), len(mixture.weights)
    n_kept = min(KEPT, n_components)
    kept, total = np.empty((len(z), n_kept), np.intp), 0.0
    for start in range(0, len(z), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        logs = np.stack([log_density(k, z[rows]) for k in range(n_components)], axis=1)
        kept[rows] = np.argpartition(logs, n_components - n_kept, axis=1)[:, n_components - n_kept :]
        highest = logs.max(axis=1, keepdims=True)
        sums = np.exp(logs - highest).sum(axis=1)
        total += float((highest[:, 0] + np.log(sums)).sum())
    return kept, total / len(z)


def places_by_component(kept: npt.NDArray[np.intp], n_components: int) -> _Places:
    """Return, for every component, its places in the flattened table of kept components."""
    flat = kept.ravel()
    order = np.argsort(flat, kind="stable")
    bounds = np.searchsorted(flat[order], np.arange(n_components + 1))
    return [order[first:last] for first, last in pairwise(bounds)]


def step(mixture: Mixture, z: FloatArray, places: _Places, floor: float) -> Mixture:
    """Take one step of EM in which observations belong to their kept components alone."""
    n_kept = sum(map(len, places)) // len(z)
    log_density, logs = _log_density(mixture), np.empty(len(z) * n_kept)
    for k, own in enumerate(places):
        logs[own] = log_density(k, z[own // n_kept])
    shares = _softmax(logs.reshape(-1, n_kept)).ravel()
    width = z.shape[1]
    # An empty component stays finite, with negligible weight.
    counts = np.full(len(places), 10 * np.finfo(np.float64).eps)
    means, covariances = np.empty((len(places), width)), np.empty((len(places), width, width))
    for k, own in enumerate(places):
        heavy = own[shares[own] > NEGLIGIBLE]
        rows, weights = z[heavy // n_kept], shares[heavy]
        counts[k] += weights.sum()
        means[k] = weights @ rows / counts[k]
        rows -= means[k]
        covariances[k] = (rows * weights[:, None]).T @ rows / counts[k]
    covariances += floor * np.eye(width)
    return Mixture(counts / counts.sum(), means, covariances)


def _softmax(logs: FloatArray) -> FloatArray:
    shares: FloatArray = np.exp(logs - logs.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def _log_density(mixture: Mixture) -> _LogDensity:
    """Return a function of a component and rows (n, d) to the log of the component's weight times its density, (n,)."""
    n_components, width = mixture.means.shape
    whiten = np.empty((n_components, width, width))
    constants = np.log(mixture.weights) - width / 2 * np.log(2 * np.pi)
    for k, covariance in enumerate(mixture.covariances):
        factor = scipy.linalg.cholesky(covariance, lower=True)
        whiten[k] = scipy.linalg.lapack.dtrtri(factor, lower=1)[0].T
        constants[k] -= np.log(np.diag(factor)).sum()
    return partial(_log_density_of, mixture.means, whiten, constants)


def _log_density_of(
    means: FloatArray, whiten: FloatArray, constants: FloatArray, k: int, rows: FloatArray
) -> FloatArray:
    white = (rows - means[k]) @ whiten[k]
    logs: FloatArray = constants[k] - np.einsum("ij,ij->i", white, white) / 2
    return logs
