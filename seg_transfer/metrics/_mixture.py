"""Gaussian mixtures with full covariances, and their densities."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg.lapack import dpotrf, dtrtri

from seg_transfer.arrays import Arrays, FloatArray, Parts, arrays_of
from seg_transfer.observations.passes import softmax


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
    def of(cls, mixture: Mixture, instead: FloatArray | None = None) -> "Densities":
        """Factorize the covariances, in NumPy; those that are not positive definite are first replaced by others."""
        width = mixture.means.shape[1]
        constants = np.log(mixture.weights) - width / 2 * np.log(2 * np.pi)
        inverses = np.empty_like(mixture.covariances)
        for k, covariance in enumerate(mixture.covariances):
            factors = inverse_factor(covariance)
            if factors is None and instead is not None:
                covariance[:] = instead[k]
                factors = inverse_factor(covariance)
            assert factors is not None, "every covariance has a floor"
            inverses[k] = factors[0]
            constants[k] -= factors[1]
        return cls(constants, mixture.means, inverses)

    def of_parts(self, arrays: Arrays, rows: Any, parts: Parts) -> Any:
        """Compute the logs (m,) of the weighted density of component k at the rows (n, d) of part k."""
        squares = arrays.whitened_squares(rows, parts, self.means, self.inverses)
        return arrays.of_host(self.constants.repeat(parts.sizes)) - squares / 2

    def at(self, arrays: Arrays, rows: Any, own: Any, components: Any) -> Any:
        """Compute the logs (m,) of weighted densities at rows[own], each of one component; both are (m,)."""
        parts, logs = arrays.rows_by_part(components, len(self.constants)), arrays.zeros(len(own))
        logs[parts.rows] = self.of_parts(arrays, rows, replace(parts, rows=arrays.take(own, parts.rows)))
        return logs


def posterior(logs: Any) -> Any:
    """Turn log densities (K, n) into the probabilities of the components, in place."""
    return softmax(logs.T).T


def log_sums(logs: Any) -> Any:
    """Return the log of the sum of the densities, (n,), from their logs (K, n)."""
    arrays = arrays_of(logs)
    highest = arrays.max(logs.T)
    return highest + arrays.log(arrays.exp(logs - highest).sum(axis=0))
