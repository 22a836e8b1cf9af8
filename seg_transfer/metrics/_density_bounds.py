"""Bounds of the densities of a mixture, and all of them at once as polynomials."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from seg_transfer.arrays import Arrays
from seg_transfer.metrics._mixture import Densities, Mixture

POWER_STEPS = 4
# Parts of a block of rows: a quarter of the products of 64 channels stay in the cache, as does a half of a thousand
# bounds.
SQUARED_PARTS = 4
BOUNDED_PARTS = 2
# The share of a bound that float32 may cost.
SLACK = 0.05
# What rounding a logarithm to float32 may change, with room.
ROUNDING = 1e-6
UNIT = 2.0**-24


@dataclass(frozen=True, eq=False)
class Polynomials:
    """All log densities as polynomials of the rows, in float64.

    Attributes:
        coefficients: (K, d (d + 1) / 2 + d + 3), of the terms that `_values` lists.
    """

    coefficients: Any

    @classmethod
    def of(cls, densities: Densities) -> "Polynomials":
        """Expand the squared distances."""
        inverses, means = densities.inverses, densities.means
        precisions = inverses @ inverses.transpose(0, 2, 1)
        linear = np.einsum("kij,kj->ki", precisions, means)
        constants = densities.constants - np.einsum("ki,ki->k", linear, means) / 2
        upper = np.triu_indices(means.shape[1])
        # Products of two different channels appear once among the terms and twice in the quadratic form.
        quadratic = -precisions[:, upper[0], upper[1]] * np.where(upper[0] == upper[1], 0.5, 1.0)
        return cls(np.concatenate([quadratic, linear, constants[:, None], np.zeros((len(means), 2))], axis=1))

    def on(self, arrays: Arrays) -> "Polynomials":
        """Copy to where the rows are."""
        return Polynomials(arrays.of_host(self.coefficients))

    def at(self, arrays: Arrays, rows: Any) -> Any:
        """Return the log densities (n, K) at rows (n, d)."""
        return _values(arrays, self.coefficients, rows, arrays.float64)


@dataclass(frozen=True, eq=False)
class PolynomialBounds:
    """Upper bounds of all components' log densities: polynomials in float32, and the most that rounding changes.

    Rounding to a unit u makes a sum of m products wrong by at most about (m + 4) u times the sum of their magnitudes.
    That is at most a product of two lengths, of the coefficients and of the terms: |x| for the channels, and at most
    |x|^2 for their products.

    Attributes:
        coefficients: As those of `Polynomials`, float32.
    """

    coefficients: Any

    @classmethod
    def of(cls, polynomials: Polynomials, width: int) -> "PolynomialBounds":
        """Add to the polynomials of rows (n, width) what rounding may cost."""
        upper = polynomials.coefficients.copy()
        # The last thousandth is for what rounding does to the cost itself.
        error = 1.001 * (upper.shape[1] + 16) * UNIT
        upper[:, -1] = error * np.linalg.norm(upper[:, : -3 - width], axis=1)
        upper[:, -2] = error * np.linalg.norm(upper[:, -3 - width : -3], axis=1)
        upper[:, -3] += error * np.abs(upper[:, -3])
        return cls(upper.astype(np.float32))

    def on(self, arrays: Arrays) -> "PolynomialBounds":
        """Copy to where the rows are."""
        return PolynomialBounds(arrays.coarse(arrays.of_host(self.coefficients)))

    def at(self, arrays: Arrays, rows: Any) -> Any:
        """Return upper bounds (n, K), float32, at rows (n, d)."""
        return _values(arrays, self.coefficients, rows, arrays.coarse)


def _values(arrays: Arrays, coefficients: Any, rows: Any, rounded: Callable[[Any], Any]) -> Any:
    """Compute polynomials (n, K): of the products of every two channels, the channels, 1, |x| and |x|^2, in turn."""
    width, (n_polynomials, n_terms) = rows.shape[1], coefficients.shape
    values = rounded(arrays.zeros(len(rows), n_polynomials))
    size = -(-arrays.block_rows // SQUARED_PARTS)
    every = rounded(arrays.zeros(n_terms, min(size, len(rows))))
    for start in range(0, len(rows), size):
        part = rounded(rows[start : start + size])
        terms = every[:, : len(part)]
        channels = terms[-3 - width : -3]
        channels[:] = part.T
        arrays.write_pair_products(channels, terms[: -3 - width])
        terms[-3] = 1.0
        terms[-1] = arrays.squared_lengths(part)
        terms[-2] = terms[-1] ** 0.5
        values[start : start + len(part)] = (coefficients @ terms).T
    return values


@dataclass(frozen=True, eq=False)
class Bounds:
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
    def of(cls, mixture: Mixture, densities: Densities, n_directions: int) -> "Bounds":
        """Choose directions by few steps of the power method: only how tight the bounds are depends on them."""
        mean = mixture.weights @ mixture.means
        total = np.einsum("k,kij->ij", mixture.weights, mixture.covariances)
        total += (mixture.weights[:, None] * (mixture.means - mean)).T @ (mixture.means - mean)
        whiten = densities.inverses.transpose(0, 2, 1)
        spread = whiten @ total @ densities.inverses
        orthonormal = spread[:, :, :n_directions]
        for _ in range(POWER_STEPS):
            orthonormal = np.linalg.qr(spread @ orthonormal)[0]
        directions = orthonormal.transpose(0, 2, 1) @ whiten / np.sqrt(2)
        origins = directions @ mixture.means[:, :, None]
        augmented = np.concatenate([directions, -origins], axis=2).transpose(1, 2, 0)
        lengths = np.linalg.norm(augmented, axis=1).max(axis=0)
        return cls(densities.constants, augmented.astype(np.float32, order="C"), lengths)

    def on(self, arrays: Arrays) -> "Bounds":
        """Copy to where the rows are."""
        constants, directions, lengths = map(arrays.of_host, (self.constants, self.directions, self.lengths))
        return Bounds(constants, arrays.coarse(directions), lengths)

    def at(self, arrays: Arrays, rows: Any) -> Any:
        """Return upper bounds (n, K), float32, at rows (n, d), from products in float32.

        A product that is wrong by at most e has a square of at least (1 - s) times its square, minus e^2 / s, for any s
        in (0, 1); a sum of n products of numbers rounded to a unit u is wrong by at most about (n + 2) u times the sum
        of their magnitudes.
        """
        augmented = arrays.zeros(len(rows), rows.shape[1] + 1) + 1.0
        augmented[:, :-1] = rows
        longest = float(arrays.squared_lengths(augmented).max()) ** 0.5
        error = (augmented.shape[1] + 3) * UNIT * longest * self.lengths
        constants = self.constants + len(self.directions) * error**2 / SLACK + ROUNDING * abs(self.constants)
        augmented, constants = arrays.coarse(augmented), arrays.coarse(constants)
        highest = arrays.coarse(arrays.zeros(len(rows), len(constants)))
        size = -(-arrays.block_rows // BOUNDED_PARTS)
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            squares = highest[part]
            for directions in self.directions:
                along = augmented[part] @ directions
                along *= along
                squares += along
            squares *= -(1 - SLACK)
            squares += constants
        return highest
