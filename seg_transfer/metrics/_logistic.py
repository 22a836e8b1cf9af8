"""The linear classifier of least cross-entropy under a Gaussian prior on its weights, found by Newton's method."""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy.sparse.linalg import LinearOperator, cg

from seg_transfer.metrics._separation import EPSILON
from seg_transfer.observations import FloatArray, IntArray

# Newton's method ends when the next step would lower the loss by no more of it than this: weights, and with them the
# probabilities, then have about half as many digits.
TOLERANCE = 1e-20
# Each step is solved for until this part of the slope is left: what more costs, the step after it repays.
SLOPE_LEFT = 0.5
# Products with the matrix of second derivatives. Features of trained networks take 200 to 1500.
MOST_PRODUCTS = 4000


@dataclass(frozen=True, eq=False)
class Fit:
    """``loss``: the mean cross-entropy in nats plus |W|^2 / (2 N). ``probabilities``: (N, C). ``spreads``: (N, C), of
    every probability p the product p (1 - p), with all its digits where p is all but 1. ``slope``: (K, C), of the loss,
    by the weights in the coordinates of the search."""

    loss: float
    probabilities: FloatArray
    spreads: FloatArray
    slope: FloatArray


@dataclass(frozen=True, eq=False)
class _Problem:
    """``design``: (N, K), the features along their K principal directions, each of unit variance, and a column of ones
    for the intercepts. ``prior``: (K, 1), its weight on each. ``codes``: (N,)."""

    design: FloatArray
    prior: FloatArray
    codes: IntArray


def fit(x: FloatArray, codes: IntArray, most_products: int = MOST_PRODUCTS) -> Fit:
    """The least of the mean cross-entropy plus |W|^2 / (2 N), to rounding, or what ``most_products`` lead to.

    Args:
        x: (N, D), centred.
        codes: (N,), classes 0 .. C - 1, all present.
        most_products: with the matrix of second derivatives; each costs 4 N D C operations.
    """
    problem = _problem(x, codes)
    weights = np.zeros((problem.design.shape[1], int(codes.max()) + 1))
    found = _at(problem, weights)
    while most_products > 0:
        step, products = _newton_step(problem, found, most_products)
        most_products -= products
        gain = -float(np.vdot(found.slope, step))
        if gain <= TOLERANCE * found.loss:
            break
        weights, found = _along(problem, weights, step, found.loss, gain)
    return found


def _problem(x: FloatArray, codes: IntArray) -> _Problem:
    n = len(x)
    variances, directions = scipy.linalg.eigh(x.T @ x / n)
    # Along a direction without variance the prior's optimum is a weight of zero.
    kept = variances > len(variances) * EPSILON * variances[-1]
    scaled = directions[:, kept] / np.sqrt(variances[kept])
    prior = np.append(1 / (n * variances[kept]), 0.0)[:, None]
    return _Problem(np.hstack([x @ scaled, np.ones((n, 1))]), prior, codes)


def _at(problem: _Problem, weights: FloatArray) -> Fit:
    """The loss and its slope, in differences to every observation's own class: where all are small, they are exact."""
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
    slope = design.T @ probabilities / len(rows) + problem.prior * weights
    probabilities[rows, codes] = own
    spreads = probabilities * (1 - probabilities)
    spreads[rows, codes] = own * others
    loss = float(entropy.mean() + (problem.prior * weights**2).sum() / 2)
    return Fit(loss, probabilities, spreads, slope)


def _newton_step(problem: _Problem, at: Fit, most_products: int) -> tuple[FloatArray, int]:
    """A step towards where the slope vanishes, by conjugate gradients, and the number of products that it took."""
    design, prior, n, shape = problem.design, problem.prior, len(problem.design), at.slope.shape
    # The diagonal of the second derivatives, as it is here, makes the loss curve about alike along all unknowns.
    scale = 1 / np.sqrt(np.square(design).T @ at.spreads / n + prior)
    taken = [0]

    def curvature(flat: FloatArray) -> FloatArray:
        taken[0] += 1
        direction = flat.reshape(shape) * scale
        change = design @ direction
        change -= np.einsum("ij,ij->i", at.probabilities, change)[:, None]
        change *= at.probabilities
        bend: FloatArray = (design.T @ change / n + prior * direction) * scale
        return bend.ravel()

    second = LinearOperator((at.slope.size, at.slope.size), matvec=curvature, dtype=np.float64)
    step = cg(second, -(at.slope * scale).ravel(), rtol=SLOPE_LEFT, maxiter=most_products)[0]
    return step.reshape(shape) * scale, taken[0]


def _along(
    problem: _Problem, weights: FloatArray, step: FloatArray, loss: float, gain: float
) -> tuple[FloatArray, Fit]:
    """The step, halved until the loss falls by part of what the slope promises: 20 times at the most."""
    for halvings in range(20):
        moved = weights + step / 2**halvings
        found = _at(problem, moved)
        # A gain below the digits of the loss cannot be measured, and the whole step is right so near the minimum.
        if found.loss <= loss - 1e-4 * gain / 2**halvings or gain < 1e-9 * loss:
            break
    return moved, found
