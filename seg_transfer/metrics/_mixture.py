"""Gaussian mixtures with full covariances, and their densities, which skip what an upper bound rules out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import dtrmm
from scipy.linalg.lapack import dpotrf, dtrtri

from seg_transfer.observations import FloatArray

# A component this many nats below an observation's likeliest one changes no digit of a sum of a thousand densities.
NEGLIGIBLE = 40.0
# Directions of a component that bound its densities. More rule out more components, and cost more.
BOUNDING = 4
POWER_STEPS = 4
# Bounds that leave a larger share of the components cost more than they save.
MOST_SURVIVORS = 0.5
# Few large blocks: every block visits every component.
BLOCK_ROWS = 2048
# 256 rows of the products of 64 channels are 4 MB, which stay in the cache.
SQUARED_ROWS = 256
# The share of a bound that float32 may cost.
SLACK = 0.05
ROUNDING = 1e-6


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


def inverse_factor(covariance: FloatArray) -> tuple[FloatArray, float] | None:
    """Factorize a covariance (d, d), of which the upper triangle is read.

    Returns:
        The inverse R^-1 of its Cholesky factor, R^T R = covariance, upper triangular, and log det R; None where the
        covariance is not positive definite.
    """
    factor, failed = dpotrf(covariance, lower=0, clean=1)
    if failed:
        return None
    return dtrtri(factor, lower=0)[0], float(np.log(np.diag(factor)).sum())


def squared_distances(inverse: FloatArray, centered: FloatArray) -> FloatArray:
    """Compute Mahalanobis distances (n,), squared, of rows minus the mean (n, d), which are overwritten."""
    # The transpose is in Fortran's order. Half of the products would be with zeros, which dtrmm skips.
    white = dtrmm(1.0, inverse, centered.T, trans_a=1, overwrite_b=1)
    distances: FloatArray = np.einsum("ij,ij->j", white, white)
    return distances


@dataclass(frozen=True, eq=False)
class Densities:
    """What the densities of a mixture are computed from.

    Attributes:
        constants: (K,), the log of each component's weight times its density at its mean.
        means: (K, d).
        inverses: (K, d, d), the `inverse_factor` of each component.
    """

    constants: FloatArray
    means: FloatArray
    inverses: FloatArray

    @classmethod
    def of(cls, mixture: Mixture) -> "Densities":
        """Factorize the covariances."""
        width = mixture.means.shape[1]
        constants = np.log(mixture.weights) - width / 2 * np.log(2 * np.pi)
        inverses = np.empty_like(mixture.covariances)
        for k, covariance in enumerate(mixture.covariances):
            factors = inverse_factor(covariance)
            assert factors is not None, "every covariance has a floor"
            inverses[k] = factors[0]
            constants[k] -= factors[1]
        return cls(constants, mixture.means, inverses)

    def of_component(self, k: int, rows: FloatArray) -> FloatArray:
        """Compute the log of a component's weight times its density at rows (n, d), (n,)."""
        logs: FloatArray = self.constants[k] - squared_distances(self.inverses[k], rows - self.means[k]) / 2
        return logs


def log_densities(mixture: Mixture) -> Callable[[FloatArray], FloatArray]:
    """Return a function from rows (n, d) to the logs of all components' weighted densities there, (K, n).

    Where components are far apart, a bound rules out most of them, and minus infinity stands for what is negligible.
    Where they overlap, one matrix product gives all.
    """
    densities = Densities.of(mixture)
    bounds = _Bounds.of(mixture, densities)
    # Rows lie about d / 2 nats below the density at their component's mean.
    lowest = densities.constants - mixture.means.shape[1] / 2 - NEGLIGIBLE
    if (bounds.at(mixture.means) > lowest[:, None]).mean() > MOST_SURVIVORS:
        return _Polynomials.of(densities).at
    return partial(_where_possible, densities, bounds)


def _where_possible(densities: Densities, bounds: "_Bounds", rows: FloatArray) -> FloatArray:
    """Compute the densities that a bound does not rule out."""
    highest, everywhere = bounds.at(rows), np.arange(len(rows))
    n_components = highest.shape[1]
    logs = np.full((n_components, len(rows)), -np.inf)
    # The component of the highest bound is mostly the likeliest one; its density says what others must reach.
    first = highest.argmax(axis=1)
    _fill(logs, densities, rows, rows_by_part(first, n_components))
    highest[everywhere, first] = -np.inf
    lowest = (logs[first, everywhere] - NEGLIGIBLE).astype(np.float32)
    components, possible = np.nonzero(np.ascontiguousarray((highest > lowest[:, None]).T))
    ends = np.searchsorted(components, np.arange(n_components + 1))
    _fill(logs, densities, rows, [possible[start:end] for start, end in pairwise(ends)])
    return logs


def _fill(
    logs: FloatArray, densities: Densities, rows: FloatArray, by_component: Iterable[npt.NDArray[np.intp]]
) -> None:
    for k, own in enumerate(by_component):
        if len(own):
            logs[k, own] = densities.of_component(k, rows[own])


@dataclass(frozen=True, eq=False)
class _Polynomials:
    """All log densities as polynomials: of the rows' channels and of the products of every two channels.

    Attributes:
        constants: (K, 1).
        linear: (K, d).
        quadratic: (K, d (d + 1) / 2).
    """

    constants: FloatArray
    linear: FloatArray
    quadratic: FloatArray

    @classmethod
    def of(cls, densities: Densities) -> "_Polynomials":
        """Expand the squared distances."""
        inverses, means = densities.inverses, densities.means
        precisions = inverses @ inverses.transpose(0, 2, 1)
        linear = np.einsum("kij,kj->ki", precisions, means)
        constants = densities.constants - np.einsum("ki,ki->k", linear, means) / 2
        upper = np.triu_indices(means.shape[1])
        # Products of two different channels appear once among the squares and twice in the quadratic form.
        quadratic = -precisions[:, upper[0], upper[1]] * np.where(upper[0] == upper[1], 0.5, 1.0)
        return cls(constants[:, None], linear, quadratic)

    def at(self, rows: FloatArray) -> FloatArray:
        """Compute log densities (K, n) at rows (n, d)."""
        logs = np.empty((len(self.constants), len(rows)))
        for start in range(0, len(rows), SQUARED_ROWS):
            part = slice(start, start + SQUARED_ROWS)
            np.matmul(self.quadratic, _squares(np.ascontiguousarray(rows[part].T)), out=logs[:, part])
        logs += self.linear @ rows.T
        logs += self.constants
        return logs


def _squares(channels: FloatArray) -> FloatArray:
    """Return the products of every two channels, (d (d + 1) / 2, n), of channels (d, n)."""
    width, end = len(channels), 0
    squares = np.empty((width * (width + 1) // 2, channels.shape[1]))
    for channel in range(width):
        start, end = end, end + width - channel
        np.multiply(channels[channel:], channels[channel], out=squares[start:end])
    return squares


@dataclass(frozen=True, eq=False)
class _Bounds:
    """Upper bounds of all components' log densities.

    The squared length of a whitened difference from a mean is at least that of its part in a few directions. These are
    the ones along which the mixture is widest in units of the component, so that most components are ruled out.

    Attributes:
        constants: (K,), as in `Densities`.
        directions: (r, d + 1, K), orthonormal after whitening, and divided by sqrt(2), with minus the component's mean
            along them, float32.
        lengths: (K,), a bound of the sums of magnitudes in the products with rows of length 1, and with 1.
    """

    constants: FloatArray
    directions: npt.NDArray[np.float32]
    lengths: FloatArray

    @classmethod
    def of(cls, mixture: Mixture, densities: Densities) -> "_Bounds":
        """Choose directions by few steps of the power method: only how tight the bounds are depends on them."""
        mean = mixture.weights @ mixture.means
        total = np.einsum("k,kij->ij", mixture.weights, mixture.covariances)
        total += (mixture.weights[:, None] * (mixture.means - mean)).T @ (mixture.means - mean)
        whiten = densities.inverses.transpose(0, 2, 1)
        spread = whiten @ total @ densities.inverses
        orthonormal = spread[:, :, :BOUNDING]
        for _ in range(POWER_STEPS):
            orthonormal = np.linalg.qr(spread @ orthonormal)[0]
        directions = orthonormal.transpose(0, 2, 1) @ whiten / np.sqrt(2)
        origins = directions @ mixture.means[:, :, None]
        augmented = np.concatenate([directions, -origins], axis=2).transpose(1, 2, 0)
        lengths = np.linalg.norm(augmented, axis=1).max(axis=0)
        return cls(densities.constants, augmented.astype(np.float32, order="C"), lengths)

    def at(self, rows: FloatArray) -> npt.NDArray[np.float32]:
        """Return upper bounds (n, K) at rows (n, d), from products in float32.

        A product that is wrong by at most e has a square of at least (1 - s) times its square, minus e^2 / s, for any s
        in (0, 1); a sum of n products of numbers rounded to a unit u is wrong by at most about (n + 2) u times the sum
        of their magnitudes.
        """
        augmented = np.hstack([rows, np.ones((len(rows), 1))]).astype(np.float32)
        error = (augmented.shape[1] + 3) * 2.0**-24 * self.lengths * np.linalg.norm(augmented, axis=1).max()
        constants = self.constants + len(self.directions) * error**2 / SLACK + ROUNDING * np.abs(self.constants)
        squares = np.zeros((len(rows), len(constants)), np.float32)
        for directions in self.directions:
            along = augmented @ directions
            along *= along
            squares += along
        squares *= -(1 - SLACK)
        squares += constants.astype(np.float32)
        return squares


def rows_by_part(parts: npt.NDArray[np.intp], n_parts: int) -> list[npt.NDArray[np.intp]]:
    """Return the rows of every part; ``parts`` is (n,) in 0 .. n_parts, and those in n_parts belong to none."""
    order = np.argsort(parts, kind="stable")
    bounds = np.searchsorted(parts[order], np.arange(n_parts + 1))
    return [order[first:last] for first, last in pairwise(bounds)]


def posterior(logs: FloatArray) -> FloatArray:
    """Turn log densities (K, n) into the probabilities of the components, in place."""
    logs -= logs.max(axis=0)
    np.exp(logs, out=logs)
    logs /= logs.sum(axis=0)
    return logs


def log_sums(logs: FloatArray) -> FloatArray:
    """Return the log of the sum of the densities, (n,), from their logs (K, n)."""
    highest = logs.max(axis=0)
    sums: FloatArray = highest + np.log(np.exp(logs - highest).sum(axis=0))
    return sums


def mean_log_likelihood(mixture: Mixture, z: FloatArray) -> float:
    """Compute the mean log-likelihood of rows (n, d)."""
    logs = log_densities(mixture)
    parts = [log_sums(logs(z[start : start + BLOCK_ROWS])) for start in range(0, len(z), BLOCK_ROWS)]
    return float(np.concatenate(parts).mean())
