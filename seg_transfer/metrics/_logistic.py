"""The linear classifier of least cross-entropy under a Gaussian prior on its weights, by Newton's method."""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy.sparse.linalg import LinearOperator, cg

from seg_transfer.metrics._separation import EPSILON
from seg_transfer.observations import FloatArray, IntArray

# Newton's method ends when the next step would lower the loss by at most this fraction of it: weights, and with them
# the probabilities, then have about half as many digits.
TOLERANCE = 1e-20
# Each step is computed until this fraction of the gradient is left: more precision costs more than the next step.
GRADIENT_LEFT = 0.5
# Limit of products with the matrix of second derivatives. Features of trained networks need 200 to 1500.
MAX_PRODUCTS = 4000


@dataclass(frozen=True, eq=False)
class Fit:
    """A point of the search.

    Attributes:
        loss: The mean cross-entropy in nats plus |W|^2 / (2 N).
        probabilities: (N, C).
        spreads: (N, C), of every probability p the product p (1 - p), exact where p is close to 1.
        gradient: (K, C), of the loss by the weights in the coordinates of the search.
    """

    loss: float
    probabilities: FloatArray
    spreads: FloatArray
    gradient: FloatArray


@dataclass(frozen=True, eq=False)
class _Problem:
    """The data in the coordinates of the search.

    Attributes:
        design: (N, K), the features along their K principal directions, each of unit variance, and a column of ones for
            the intercepts.
        prior: (K, 1), its weight on each direction.
        codes: (N,), class numbers.
    """

    design: FloatArray
    prior: FloatArray
    codes: IntArray


def fit(x: FloatArray, codes: IntArray, max_products: int = MAX_PRODUCTS) -> Fit:
    """The minimum of the mean cross-entropy plus |W|^2 / (2 N) to rounding, or the point that ``max_products`` lead to.

    Args:
        x: (N, D), centered.
        codes: (N,), classes 0 .. C - 1, all present.
        max_products: With the matrix of second derivatives; each costs 4 N D C operations.
    """
    problem = _problem(x, codes)
    weights = np.zeros((problem.design.shape[1], int(codes.max()) + 1))
    found = _evaluate(problem, weights)
    while max_products > 0:
        step, products = _newton_step(problem, found, max_products)
        max_products -= products
        gain = -float(np.vdot(found.gradient, step))
        if gain <= TOLERANCE * found.loss:
            break
        weights, found = _line_search(problem, weights, step, found.loss, gain)
    return found


def _problem(x: FloatArray, codes: IntArray) -> _Problem:
    n = len(x)
    variances, directions = scipy.linalg.eigh(x.T @ x / n)
    # Along a direction without variance the prior's optimum is a weight of zero.
    kept = variances > len(variances) * EPSILON * variances[-1]
    scaled = directions[:, kept] / np.sqrt(variances[kept])
    prior = np.append(1 / (n * variances[kept]), 0.0)[:, None]
    return _Problem(np.hstack([x @ scaled, np.ones((n, 1))]), prior, codes)


def _evaluate(problem: _Problem, weights: FloatArray) -> Fit:
    """The loss and its gradient, from differences to every observation's own class: exact where all are small."""
    design, rows, codes = problem.design, np.arange(len(problem.codes)), problem.codes
    odds = design @ weights
    odds -= odds[rows, codes][:, None]
    odds[rows, codes] = -np.inf
    highest = np.maximum(odds.max(axis=1), 0.0)
    np.exp(odds - highest[:, None], out=odds)
    own, others = np.exp(-highest), odds.sum(axis=1)
    entropy = np.where(highest > 0, highest + np.log(own + others), np.log1p(others))
    probabilities = odds / (own + others)[:, None]
    own, others = own / (own + others), others / (own + others)
    probabilities[rows, codes] = -others
    gradient = design.T @ probabilities / len(rows) + problem.prior * weights
    probabilities[rows, codes] = own
    spreads = probabilities * (1 - probabilities)
    spreads[rows, codes] = own * others
    loss = float(entropy.mean() + (problem.prior * weights**2).sum() / 2)
    return Fit(loss, probabilities, spreads, gradient)


def _newton_step(problem: _Problem, point: Fit, max_products: int) -> tuple[FloatArray, int]:
    """A step towards a gradient of zero, by conjugate gradients, and the number of products that it took."""
    design, prior, n, shape = problem.design, problem.prior, len(problem.design), point.gradient.shape
    # Scaled by the diagonal of the second derivatives, the loss has about the same curvature along all unknowns.
    scale = 1 / np.sqrt(np.square(design).T @ point.spreads / n + prior)
    n_products = [0]

    def hessian_product(flat: FloatArray) -> FloatArray:
        n_products[0] += 1
        direction = flat.reshape(shape) * scale
        change = design @ direction
        change -= np.einsum("ij,ij->i", point.probabilities, change)[:, None]
        change *= point.probabilities
        product: FloatArray = (design.T @ change / n + prior * direction) * scale
        return product.ravel()

    second = LinearOperator((point.gradient.size, point.gradient.size), matvec=hessian_product, dtype=np.float64)
    step = cg(second, -(point.gradient * scale).ravel(), rtol=GRADIENT_LEFT, maxiter=max_products)[0]
    return step.reshape(shape) * scale, n_products[0]


def _line_search(
    problem: _Problem, weights: FloatArray, step: FloatArray, loss: float, gain: float
) -> tuple[FloatArray, Fit]:
    """The step, halved at most 20 times until the loss falls by part of what the gradient promises."""
    for halvings in range(20):
        moved = weights + step / 2**halvings
        found = _evaluate(problem, moved)
        # A gain below the precision of the loss cannot be measured; so close to the minimum the full step is right.
        if found.loss <= loss - 1e-4 * gain / 2**halvings or gain < 1e-9 * loss:
            break
    return moved, found
