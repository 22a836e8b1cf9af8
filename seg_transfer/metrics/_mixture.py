"""Gaussian mixtures with full covariances, and exact expectation maximization (Dempster, Laird and Rubin, 1977)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import scipy.linalg

from seg_transfer.observations import FloatArray

LLOYD_STEPS = 30
BLOCK_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Mixture:
    """A Gaussian mixture with K components in d dimensions.

    Attributes:
        weights: (K,), with sum 1.
        means: (K, d).
        covariances: (K, d, d).
    """

    weights: FloatArray
    means: FloatArray
    covariances: FloatArray


def step(mixture: Mixture, z: FloatArray, floor: float) -> tuple[Mixture, float]:
    """Take one step of EM; returns the new mixture, and the mean log-likelihood of z under the old one."""
    expect = _expectation(mixture)
    likelihoods = []

    def responsibilities(rows: slice, squares: FloatArray) -> FloatArray:
        posterior, logs = expect(z[rows], squares)
        likelihoods.append(logs.sum())
        return posterior

    return _maximize(z, responsibilities, floor), float(sum(likelihoods) / len(z))


def from_partition(z: FloatArray, parts: npt.NDArray[np.int64], n_components: int, floor: float) -> Mixture:
    """Return the mixture with one component per part; ``parts`` is (n,) in 0 .. n_components - 1."""
    one_hot = np.eye(n_components)
    return _maximize(z, lambda rows, _: one_hot[parts[rows]], floor)


def posterior(mixture: Mixture) -> Callable[[FloatArray], FloatArray]:
    """Return a function from z, (n, d), to the probabilities of the components, (n, K)."""
    expect = _expectation(mixture)
    return lambda z: expect(z, _squares(z))[0]


def _expectation(mixture: Mixture) -> Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
    """Return a function from z and its `_squares` to posterior (n, K) and log-likelihood (n,).

    The log density of a component is a polynomial in z, so that one matrix product gives those of all components.
    """
    width = mixture.means.shape[1]
    upper = np.triu_indices(width)
    precisions = np.empty_like(mixture.covariances)
    constants = np.log(mixture.weights) - width / 2 * np.log(2 * np.pi)
    for k, covariance in enumerate(mixture.covariances):
        factor = scipy.linalg.cho_factor(covariance, lower=True)
        precisions[k] = scipy.linalg.cho_solve(factor, np.eye(width))
        constants[k] -= np.log(np.diag(factor[0])).sum()
    linear = np.einsum("kij,kj->ki", precisions, mixture.means)
    constants -= np.einsum("ki,ki->k", linear, mixture.means) / 2
    # Products of two different channels appear once among the squares and twice in the quadratic form.
    quadratic = -precisions[:, upper[0], upper[1]] * np.where(upper[0] == upper[1], 0.5, 1.0)
    return partial(_posterior, constants, linear, quadratic)


def _posterior(
    constants: FloatArray, linear: FloatArray, quadratic: FloatArray, z: FloatArray, squares: FloatArray
) -> tuple[FloatArray, FloatArray]:
    logs = squares @ quadratic.T
    logs += z @ linear.T
    logs += constants
    highest = logs.max(axis=1, keepdims=True)
    densities = np.exp(np.subtract(logs, highest, out=logs), out=logs)
    sums = densities.sum(axis=1, keepdims=True)
    densities /= sums
    return densities, (highest + np.log(sums))[:, 0]


def _maximize(z: FloatArray, responsibilities: Callable[[slice, FloatArray], FloatArray], floor: float) -> Mixture:
    """Return the mixture that fits best, given responsibilities (rows, K) for any rows and their `_squares`."""
    width = z.shape[1]
    counts, sums, products = np.zeros(1), np.zeros((1, 1)), np.zeros((1, 1))
    for start in range(0, len(z), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        squares = _squares(z[rows])
        posteriors = responsibilities(rows, squares)
        counts = counts + posteriors.sum(axis=0)
        sums = sums + posteriors.T @ z[rows]
        products = products + posteriors.T @ squares
    # An empty component stays finite, with negligible weight.
    counts = counts + 10 * np.finfo(np.float64).eps
    means = sums / counts[:, None]
    upper = np.triu_indices(width)
    covariances = np.empty((len(means), width, width))
    covariances[:, upper[0], upper[1]] = covariances[:, upper[1], upper[0]] = products / counts[:, None]
    covariances -= means[:, :, None] * means[:, None, :]
    covariances += floor * np.eye(width)
    return Mixture(counts / counts.sum(), means, covariances)


def _squares(z: FloatArray) -> FloatArray:
    """Return the products of every two channels, (n, d (d + 1) / 2)."""
    upper = np.triu_indices(z.shape[1])
    return z[:, upper[0]] * z[:, upper[1]]


def partition(z: FloatArray, n_parts: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Divide rows (n, d) into parts by k-means: (n,) in 0 .. n_parts - 1, from a k-means++ start."""
    centers = _kmeans_plus_plus(z, n_parts, rng)
    nearest = _nearest(z, centers)
    for _ in range(LLOYD_STEPS):
        before, counts = nearest, np.bincount(nearest, minlength=n_parts)[:, None]
        sums = np.stack([np.bincount(nearest, channel, minlength=n_parts) for channel in z.T], axis=1)
        centers = np.divide(sums, counts, out=centers, where=counts > 0)
        nearest = _nearest(z, centers)
        if np.array_equal(nearest, before):
            break
    return nearest


def _kmeans_plus_plus(z: FloatArray, n_centers: int, rng: np.random.Generator) -> FloatArray:
    """Choose centers by k-means++: each is a row drawn with probability proportional to its squared distance to the
    nearest earlier center.
    """
    centers = np.empty((n_centers, z.shape[1]))
    distances = np.ones(len(z))
    for k in range(n_centers):
        cumulative = np.cumsum(distances)
        chosen = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
        centers[k] = z[min(int(chosen), len(z) - 1)]
        to_center = ((z - centers[k]) ** 2).sum(axis=1)
        distances = to_center if k == 0 else np.minimum(distances, to_center)
    return centers


def _nearest(z: FloatArray, centers: FloatArray) -> npt.NDArray[np.int64]:
    halves = (centers**2).sum(axis=1) / 2
    blocks = [z[start : start + BLOCK_ROWS] for start in range(0, len(z), BLOCK_ROWS)]
    return np.concatenate([np.argmin(halves - block @ centers.T, axis=1) for block in blocks])
