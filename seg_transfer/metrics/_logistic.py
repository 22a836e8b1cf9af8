"""A linear classifier fitted to the least cross-entropy under a Gaussian prior on its weights, by Newton's method."""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy.sparse.linalg import LinearOperator, cg

from seg_transfer.metrics._separation import EPSILON
from seg_transfer.observations import FloatArray, IntArray

# Newton's method ends when the next step would lower the loss by at most this fraction of it. The weights, and thus the
# probabilities, then have about half as many digits.
TOLERANCE = 1e-20
# Each step is solved until this fraction of the gradient is left: more precision would cost more than the next step.
GRADIENT_LEFT = 0.5
# Maximum number of products with the matrix of second derivatives. Features of trained networks need 200 to 1500.
MAX_PRODUCTS = 4000


@dataclass(frozen=True, eq=False)
class Fit:
    """A point of the search.

    Attributes:
        loss: The mean cross-entropy in nats plus |W|^2 / (2 N).
        probabilities: (N, C).
        variances: (N, C), p (1 - p) for every probability p, exact where p is close to 1.
        gradient: (K, C), gradient of the loss with respect to the weights in the coordinates of the search.
    """

    loss: float
    probabilities: FloatArray
    variances: FloatArray
    gradient: FloatArray


@dataclass(frozen=True, eq=False)
class _Problem:
    """The data in the coordinates of the search.

    Attributes:
        design: (N, K), the features along their principal directions, each of unit variance, and a column of ones for
            the intercepts.
        prior: (K, 1), the weight of the prior on each direction.
        codes: (N,), class numbers.
    """

    design: FloatArray
    prior: FloatArray
    codes: IntArray


def fit(x: FloatArray, codes: IntArray, max_products: int = MAX_PRODUCTS) -> Fit:
    """Minimize the mean cross-entropy plus |W|^2 / (2 N), to rounding or until ``max_products`` are used.

    Args:
        x: (N, D), centered.
        codes: (N,), classes 0 .. C - 1, all present.
        max_products: Maximum number of products with the matrix of second derivatives; each costs 4 N D C operations.
    """
    problem = _problem(x, codes)
    weights = np.zeros((problem.design.shape[1], int(codes.max()) + 1))
    point = _evaluate(problem, weights)
    while max_products > 0:
        step, products = _newton_step(problem, point, max_products)
        max_products -= products
        gain = -float(np.vdot(point.gradient, step))
        if gain <= TOLERANCE * point.loss:
            break
        weights, point = _line_search(problem, weights, step, point.loss, gain)
    return point


def _problem(x: FloatArray, codes: IntArray) -> _Problem:
    n = len(x)
    variances, directions = scipy.linalg.eigh(x.T @ x / n)
    # Along a direction without variance the prior's optimum is a weight of zero.
    kept = variances > len(variances) * EPSILON * variances[-1]
    scaled = directions[:, kept] / np.sqrt(variances[kept])
    prior = np.append(1 / (n * variances[kept]), 0.0)[:, None]
    return _Problem(np.hstack([x @ scaled, np.ones((n, 1))]), prior, codes)


def _evaluate(problem: _Problem, weights: FloatArray) -> Fit:
    """Compute the loss and its gradient, from logits relative to the true class: exact where the others are small."""
    design, rows, codes = problem.design, np.arange(len(problem.codes)), problem.codes
    odds = design @ weights
    odds -= odds[rows, codes][:, None]
    odds[rows, codes] = -np.inf
    highest = np.maximum(odds.max(axis=1), 0.0)
    np.exp(odds - highest[:, None], out=odds)
    true, others = np.exp(-highest), odds.sum(axis=1)
    entropy = np.where(highest > 0, highest + np.log(true + others), np.log1p(others))
    probabilities = odds / (true + others)[:, None]
    true, others = true / (true + others), others / (true + others)
    probabilities[rows, codes] = -others
    gradient = design.T @ probabilities / len(rows) + problem.prior * weights
    probabilities[rows, codes] = true
    variances = probabilities * (1 - probabilities)
    variances[rows, codes] = true * others
    loss = float(entropy.mean() + (problem.prior * weights**2).sum() / 2)
    return Fit(loss, probabilities, variances, gradient)


def _newton_step(problem: _Problem, point: Fit, max_products: int) -> tuple[FloatArray, int]:
    """Compute a step toward a gradient of zero by conjugate gradients; also returns the number of products it took."""
    design, prior, n, shape = problem.design, problem.prior, len(problem.design), point.gradient.shape
    # Scaled by the diagonal of the second derivatives, the loss has about the same curvature along all unknowns.
    scale = 1 / np.sqrt(np.square(design).T @ point.variances / n + prior)
    n_products = [0]

    def hessian_product(flat: FloatArray) -> FloatArray:
        n_products[0] += 1
        direction = flat.reshape(shape) * scale
        change = design @ direction
        change -= np.einsum("ij,ij->i", point.probabilities, change)[:, None]
        change *= point.probabilities
        product: FloatArray = (design.T @ change / n + prior * direction) * scale
        return product.ravel()

    hessian = LinearOperator((point.gradient.size, point.gradient.size), matvec=hessian_product, dtype=np.float64)
    step = cg(hessian, -(point.gradient * scale).ravel(), rtol=GRADIENT_LEFT, maxiter=max_products)[0]
    return step.reshape(shape) * scale, n_products[0]


def _line_search(
    problem: _Problem, weights: FloatArray, step: FloatArray, loss: float, gain: float
) -> tuple[FloatArray, Fit]:
    """Take the step, halved at most 20 times until the loss falls by part of what the gradient predicts."""
    for halvings in range(20):
        candidate = weights + step / 2**halvings
        point = _evaluate(problem, candidate)
        # A gain below the precision of the loss cannot be measured; this close to the minimum, the full step is right.
        if point.loss <= loss - 1e-4 * gain / 2**halvings or gain < 1e-9 * loss:
            break
    return candidate, point
