"""Gaussian mixtures with full covariances, and their densities, which skip what an upper bound rules out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.linalg.lapack import dpotrf, dtrtri

from seg_transfer.arrays import HOST, Arrays, FloatArray, arrays_of
from seg_transfer.observations.passes import softmax

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


@dataclass(frozen=True, eq=False)
class Densities:
    """What the densities of a mixture are computed from.

    Attributes:
        constants: (K,), the log of each component's weight times its density at its mean, in NumPy.
        means: (K, d), where the rows are, as the inverses.
        inverses: (K, d, d), the `inverse_factor` of each component.
    """

    constants: FloatArray
    means: Any
    inverses: Any

    def on(self, arrays: Arrays) -> "Densities":
        """Copy to where the rows are."""
        return Densities(self.constants, arrays.of_host(self.means), arrays.of_host(self.inverses))

    @classmethod
    def of(cls, mixture: Mixture, arrays: Arrays) -> "Densities":
        """Factorize the covariances."""
        width = mixture.means.shape[1]
        constants = np.log(mixture.weights) - width / 2 * np.log(2 * np.pi)
        inverses = np.empty_like(mixture.covariances)
        for k, covariance in enumerate(mixture.covariances):
            factors = inverse_factor(covariance)
            assert factors is not None, "every covariance has a floor"
            inverses[k] = factors[0]
            constants[k] -= factors[1]
        return cls(constants, mixture.means, inverses).on(arrays)

    def of_component(self, arrays: Arrays, k: int, rows: Any) -> Any:
        """Compute the log of a component's weight times its density at rows (n, d), (n,)."""
        return self.constants[k] - arrays.squared_products(rows - self.means[k], self.inverses[k]) / 2


def log_densities(mixture: Mixture, arrays: Arrays) -> Callable[[Any], Any]:
    """Return a function from rows (n, d) to the logs of all components' weighted densities there, (K, n).

    Where components are far apart, a bound rules out most of them, and minus infinity stands for what is negligible.
    Where they overlap, one matrix product gives all.
    """
    on_host = Densities.of(mixture, HOST)
    bounds = _Bounds.of(mixture, on_host)
    # Rows lie about d / 2 nats below the density at their component's mean.
    lowest = on_host.constants - mixture.means.shape[1] / 2 - NEGLIGIBLE
    if (bounds.at(HOST, mixture.means) > lowest[:, None]).mean() > MOST_SURVIVORS:
        return partial(_Polynomials.of(on_host).on(arrays).at, arrays)
    return partial(_where_possible, arrays, on_host.on(arrays), bounds.on(arrays))


def _where_possible(arrays: Arrays, densities: Densities, bounds: "_Bounds", rows: Any) -> Any:
    """Compute the densities that a bound does not rule out."""
    highest, everywhere = bounds.at(arrays, rows), arrays.of_host(np.arange(len(rows)))
    n_components = highest.shape[1]
    logs = arrays.zeros(n_components, len(rows)) - np.inf
    # The component of the highest bound is mostly the likeliest one; its density says what others must reach.
    first = arrays.argmax(highest)
    _fill(arrays, logs, densities, rows, arrays.rows_by_part(first, n_components))
    highest[everywhere, first] = -np.inf
    lowest = arrays.float32(logs[first, everywhere] - NEGLIGIBLE)
    _fill(arrays, logs, densities, rows, arrays.rows_where(highest > lowest[:, None]))
    return logs


def _fill(arrays: Arrays, logs: Any, densities: Densities, rows: Any, by_component: Iterable[Any]) -> None:
    for k, own in enumerate(by_component):
        if len(own):
            logs[k, own] = densities.of_component(arrays, k, arrays.take(rows, own))


@dataclass(frozen=True, eq=False)
class _Polynomials:
    """All log densities as polynomials: of the rows' channels and of the products of every two channels.

    Attributes:
        constants: (K, 1).
        linear: (K, d).
        quadratic: (K, d (d + 1) / 2).
    """

    constants: Any
    linear: Any
    quadratic: Any

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

    def on(self, arrays: Arrays) -> "_Polynomials":
        """Copy to where the rows are."""
        return _Polynomials(*map(arrays.of_host, (self.constants, self.linear, self.quadratic)))

    def at(self, arrays: Arrays, rows: Any) -> Any:
        """Compute log densities (K, n) at rows (n, d)."""
        logs = arrays.zeros(len(self.constants), len(rows))
        for start in range(0, len(rows), SQUARED_ROWS):
            part = slice(start, start + SQUARED_ROWS)
            logs[:, part] = self.quadratic @ _squares(arrays, rows[part])
        logs += self.linear @ rows.T
        logs += self.constants
        return logs


def _squares(arrays: Arrays, rows: Any) -> Any:
    """Return the products of every two channels, (d (d + 1) / 2, n), of rows (n, d)."""
    (n, width), end = rows.shape, 0
    channels, squares = arrays.zeros(width, n), arrays.zeros(width * (width + 1) // 2, n)
    channels[:] = rows.T
    for channel in range(width):
        start, end = end, end + width - channel
        arrays.multiply(channels[channel:], channels[channel], out=squares[start:end])
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

    constants: Any
    directions: Any
    lengths: Any

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

    def on(self, arrays: Arrays) -> "_Bounds":
        """Copy to where the rows are."""
        return _Bounds(*map(arrays.of_host, (self.constants, self.directions, self.lengths)))

    def at(self, arrays: Arrays, rows: Any) -> Any:
        """Return upper bounds (n, K), float32, at rows (n, d), from products in float32.

        A product that is wrong by at most e has a square of at least (1 - s) times its square, minus e^2 / s, for any s
        in (0, 1); a sum of n products of numbers rounded to a unit u is wrong by at most about (n + 2) u times the sum
        of their magnitudes.
        """
        augmented = arrays.zeros(len(rows), rows.shape[1] + 1) + 1.0
        augmented[:, :-1] = rows
        longest = float(arrays.squared_lengths(augmented).max()) ** 0.5
        error = (augmented.shape[1] + 3) * 2.0**-24 * longest * self.lengths
        constants = self.constants + len(self.directions) * error**2 / SLACK + ROUNDING * abs(self.constants)
        augmented = arrays.float32(augmented)
        squares = arrays.float32(arrays.zeros(len(rows), len(constants)))
        for directions in self.directions:
            along = augmented @ directions
            along *= along
            squares += along
        squares *= -(1 - SLACK)
        squares += arrays.float32(constants)
        return squares


def posterior(logs: Any) -> Any:
    """Turn log densities (K, n) into the probabilities of the components, in place."""
    return softmax(logs.T).T


def log_sums(logs: Any) -> Any:
    """Return the log of the sum of the densities, (n,), from their logs (K, n)."""
    arrays = arrays_of(logs)
    highest = arrays.max(logs.T)
    return highest + arrays.log(arrays.exp(logs - highest).sum(axis=0))


def mean_log_likelihood(mixture: Mixture, z: Any) -> float:
    """Compute the mean log-likelihood of rows (n, d)."""
    arrays = arrays_of(z)
    logs = log_densities(mixture, arrays)
    starts = range(0, len(z), BLOCK_ROWS)
    return sum(float(log_sums(logs(z[start : start + BLOCK_ROWS])).sum()) for start in starts) / len(z)
