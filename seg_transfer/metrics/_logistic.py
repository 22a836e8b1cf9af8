"""A linear classifier fitted to the least cross-entropy under a Gaussian prior on its weights, by Newton's method."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.linalg
from scipy.linalg.lapack import spotrf, spotrs

from seg_transfer.metrics._separation import EPSILON
from seg_transfer.observations import FloatArray, IntArray

Float32Array = npt.NDArray[np.float32]
# A function of (K, C) that multiplies by an approximate inverse of the second derivatives.
Preconditioner = Callable[[Float32Array], Float32Array]

# Newton's method ends with the step that lowers the loss by at most this fraction: scores are then exact to 1e-10.
TOLERANCE = 1e-13
# No step needs to leave less than this fraction of the loss. The probabilities are then as far from the minimum's as
# its square root: about 3e-10.
LEAST_LEFT = 1e-19
# A step is solved until this fraction of the gradient is left: from what float32 can to what is enough far away.
GRADIENT_LEFT, MOST_LEFT = 0.02, 0.5
# Where steps lower the loss by less than this fraction, the second derivatives hardly change any more.
SETTLED = 1e-3
# At most so many terms of the second derivatives are inverted exactly, fewer until these are settled, and only if they
# are this share of all.
ROUGH_TERMS = 1000
MAX_TERMS = 3000
ENOUGH = 0.5
# Whatever their share, the other terms count as this: float32 keeps the digits of what is inverted beside it.
LEAST_REST = 1e-3
TINY = 1e-30
# Maximum number of products with the matrix of second derivatives. Features of trained networks need 100 to 700.
MAX_PRODUCTS = 4000
# Where a step ends, the slope of the loss is at most this fraction of that where it starts; it is at most so long.
SLOPE_LEFT = 0.01
LONGEST = 16.0


@dataclass(frozen=True, eq=False)
class Fit:
    """A point of the search.

    Attributes:
        weights: (K, C), in the coordinates of the search.
        logits: (N, C), relative to that of the true class.
        loss: The mean cross-entropy in nats plus |W|^2 / (2 N).
        probabilities: (N, C).
        variances: (N, C), p (1 - p) for every probability p, exact where p is close to 1.
        gradient: (K, C), gradient of the loss with respect to the weights.
    """

    weights: FloatArray
    logits: FloatArray
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

    @cached_property
    def single(self) -> Float32Array:
        """The design in float32, (N, K)."""
        return self.design.astype(np.float32)

    def logits(self, weights: FloatArray) -> FloatArray:
        """Compute the logits (N, C) relative to that of the true class."""
        logits: FloatArray = self.design @ weights
        logits -= logits[np.arange(len(self.codes)), self.codes][:, None]
        return logits


def fit(x: FloatArray, codes: IntArray, max_products: int = MAX_PRODUCTS) -> Fit:
    """Minimize the mean cross-entropy plus |W|^2 / (2 N), to `TOLERANCE` or until ``max_products`` are used.

    Losses and gradients are exact to rounding. A step only has to leave less of the gradient, and is solved for in
    float32: what its rounding leaves is part of the next gradient.

    Args:
        x: (N, D), centered.
        codes: (N,), classes 0 .. C - 1, all present.
        max_products: Maximum number of products with the matrix of second derivatives; each costs 4 N D C operations.
    """
    problem = _problem(x, codes)
    weights = np.zeros((problem.design.shape[1], int(codes.max()) + 1))
    point, gain, settled = _evaluate(problem, weights, problem.logits(weights)), np.inf, False
    while max_products > 0:
        before, settled = settled, 0 < gain <= SETTLED * point.loss
        if renewed := not (before and settled):
            precondition = _preconditioner(problem, point, MAX_TERMS if settled else ROUGH_TERMS)
        # The last step's gain tells how far the loss is from quadratic: to solve for more than that is in vain.
        left = float(np.clip(gain / point.loss, GRADIENT_LEFT**2, MOST_LEFT**2))
        step, products = _newton_step(problem, point, precondition, left, max_products)
        max_products -= products
        gain = -float(np.vdot(point.gradient, step))
        if gain <= 0:  # Of the precision of float32 nothing is left, if the derivatives are those of this point.
            if renewed or not products:
                break
            continue
        point = _line_search(problem, point, step, gain)
        if gain <= TOLERANCE * point.loss:
            break
    return point


def _problem(x: FloatArray, codes: IntArray) -> _Problem:
    n = len(x)
    variances, directions = scipy.linalg.eigh(x.T @ x / n)
    # Along a direction without variance the prior's optimum is a weight of zero.
    kept = variances > len(variances) * EPSILON * variances[-1]
    scaled = directions[:, kept] / np.sqrt(variances[kept])
    prior = np.append(1 / (n * variances[kept]), 0.0)[:, None]
    return _Problem(np.hstack([x @ scaled, np.ones((n, 1))]), prior, codes)


def _softmax(problem: _Problem, logits: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Compute cross-entropies (N,), probabilities (N, C), 0 for the true class, its own (N,) and all others (N,).

    All are exact where the rest is small.
    """
    highest = logits.max(axis=1)
    odds = np.exp(logits - highest[:, None])
    odds[np.arange(len(odds)), problem.codes] = 0
    true, others = np.exp(-highest), odds.sum(axis=1)
    entropies = np.where(highest > 0, highest + np.log(total := true + others), np.log1p(others))
    return entropies, odds / total[:, None], true / total, others / total


def _evaluate(problem: _Problem, weights: FloatArray, logits: FloatArray) -> Fit:
    """Compute the loss and its gradient."""
    entropies, probabilities, true, others = _softmax(problem, logits)
    own = np.arange(len(logits)), problem.codes
    probabilities[own] = -others
    gradient = (probabilities.T @ problem.design).T / len(logits) + problem.prior * weights  # Faster in this order.
    probabilities[own] = true
    variances = probabilities * (1 - probabilities)
    variances[own] = true * others
    loss = float(entropies.mean() + (problem.prior * weights**2).sum() / 2)
    return Fit(weights, logits, loss, probabilities, variances, gradient)


def _newton_step(
    problem: _Problem, point: Fit, precondition: Preconditioner, fraction: float, max_products: int
) -> tuple[FloatArray, int]:
    """Compute a step that leaves a fraction of the gain, by conjugate gradients. Also returns its products."""
    size = float(np.abs(point.gradient).max()) or 1.0
    rest = (-point.gradient / size).astype(np.float32)
    probabilities, step = point.probabilities.astype(np.float32), np.zeros_like(rest)
    scaled = precondition(rest)
    direction, left = scaled, float(np.vdot(rest, scaled))
    goal, products = max(fraction * left, LEAST_LEFT * point.loss / size**2), 0
    while left > goal and products < max_products:
        products += 1
        product = _hessian_product(problem, probabilities, direction)
        curvature = float(np.vdot(direction, product))
        if curvature <= 0:  # Rounding: nothing is left to gain along this direction.
            break
        step += np.float32(left / curvature) * direction
        rest -= np.float32(left / curvature) * product
        scaled = precondition(rest)
        left, before = float(np.vdot(rest, scaled)), left
        direction = scaled + np.float32(left / before) * direction
    return step.astype(np.float64) * size, products


def _hessian_product(problem: _Problem, probabilities: Float32Array, direction: Float32Array) -> Float32Array:
    """Multiply (K, C) by the second derivatives of the loss."""
    design, rows = problem.single, np.arange(len(problem.codes))
    change = design @ direction
    # Relative to the true class no digit is lost where its probability is close to 1.
    change -= change[rows, problem.codes][:, None]
    change -= np.einsum("ij,ij->i", probabilities, change)[:, None]
    change *= probabilities
    product: Float32Array = np.ascontiguousarray((change.T @ design).T)  # Faster than design.T @ change.
    product /= np.float32(len(rows))
    product += problem.prior.astype(np.float32) * direction
    return product


def _preconditioner(problem: _Problem, point: Fit, max_terms: int) -> Preconditioner:
    """Return an approximate inverse of the second derivatives.

    An observation adds the sum over c of p_c (e_c - p)(e_c - p)^T to those of the logits. Where few of these terms hold
    most of the sum, because most observations are classified with certainty, they are inverted exactly.
    """
    share, chosen = _largest_terms(point, max_terms)
    solve = _few_terms(problem, point, share, chosen) if share > ENOUGH else None
    gradient = (point.gradient / (np.abs(point.gradient).max() or 1.0)).astype(np.float32)
    if solve is not None and np.vdot(gradient, solve(gradient)) > 0:
        return solve
    return _mean_weights(problem, point)


def _mean_weights(problem: _Problem, point: Fit) -> Preconditioner:
    """Invert the prior and, for all directions alike, the mean of diag(p) - p p^T: directions have unit variance."""
    p = point.probabilities
    values, vectors = scipy.linalg.eigh(np.diag(p.mean(axis=0)) - p.T @ p / len(p))
    values = np.maximum(values, LEAST_REST * values.mean())  # A shift of all classes changes nothing: its value is 0.
    inverse, classes = (1 / (values + problem.prior + TINY)).astype(np.float32), vectors.astype(np.float32)

    def solve(gradient: Float32Array) -> Float32Array:
        result: Float32Array = ((gradient @ classes) * inverse) @ classes.T
        return result

    return solve


def _largest_terms(point: Fit, max_terms: int) -> tuple[float, IntArray]:
    """Return what share of all terms the largest ones hold, and their positions in (N, C), in ascending order."""
    p = point.probabilities
    others = np.divide(point.variances, p, out=np.ones_like(p), where=p > 0)
    squares = np.einsum("ij,ij->i", p, p)[:, None] - p**2
    sizes: FloatArray = (p * (others**2 + np.maximum(squares, 0.0))).ravel()
    first = max(sizes.size - max_terms, 0)
    chosen = np.sort(np.argpartition(sizes, first)[first:])
    return float(sizes[chosen].sum() / (sizes.sum() or 1.0)), chosen


def _few_terms(problem: _Problem, point: Fit, share: float, chosen: IntArray) -> Preconditioner | None:
    """Invert the prior, the chosen terms U U^T and a multiple of the identity (Woodbury); None where rounding fails."""
    n, n_classes = point.probabilities.shape
    total = float(point.variances.sum()) / (n * n_classes)
    inverse = (1 / (problem.prior[:, 0] + max(1 - share, LEAST_REST) * total + TINY)).astype(np.float32)
    rows, classes = np.divmod(chosen, n_classes)
    factors = _term_factors(problem, point, rows, classes)
    observations, starts, index = np.unique(rows, return_index=True, return_inverse=True)
    design = problem.single[observations]
    matrix, roots = factors @ factors.T, design * np.sqrt(inverse)
    matrix *= (roots @ roots.T)[np.ix_(index, index)]
    np.einsum("ii->i", matrix)[...] += 1
    cholesky, failed = spotrf(matrix, lower=1, overwrite_a=1)
    if failed:
        return None

    def solve(gradient: Float32Array) -> Float32Array:
        scaled = gradient * inverse[:, None]
        along = np.einsum("ij,ij->i", (design @ scaled)[index], factors)
        along = spotrs(cholesky, along, lower=1)[0]
        sums = np.add.reduceat(factors * along[:, None], starts, axis=0)
        result: Float32Array = scaled - (design.T @ sums) * inverse[:, None]
        return result

    return solve


def _term_factors(problem: _Problem, point: Fit, rows: IntArray, classes: IntArray) -> Float32Array:
    """Return (p_c / N)^1/2 (e_c - p) for terms (observation, class c), (., C)."""
    p, index = point.probabilities[rows], np.arange(len(rows))
    own, variances = p[index, classes], point.variances[rows, classes]
    factors = -p
    factors[index, classes] = np.divide(variances, own, out=np.ones_like(own), where=own > 0)
    factors *= np.sqrt(own / len(problem.codes))[:, None]
    return factors.astype(np.float32)


def _line_search(problem: _Problem, point: Fit, step: FloatArray, gain: float) -> Fit:
    """Take the step as far as the loss falls; all lengths share one product with the features."""
    change, length = problem.logits(step), 1.0
    # A gain below the precision of the loss cannot be measured; this close to the minimum, the full step is right.
    if gain > 1e-9 * point.loss:
        length = _best_length(problem, point, step, change, gain)
    return _evaluate(problem, point.weights + length * step, point.logits + length * change)


def _best_length(problem: _Problem, point: Fit, step: FloatArray, change: FloatArray, gain: float) -> float:
    """Find where the slope of the loss along a step is about zero, by Newton's method between bounds."""
    slope_of_prior = float(np.vdot(problem.prior * point.weights, step))
    curvature_of_prior = float(np.vdot(problem.prior * step, step))
    low, high, length = 0.0, LONGEST, 1.0
    for _ in range(20):
        probabilities = _softmax(problem, point.logits + length * change)[1]
        means = np.einsum("ij,ij->i", probabilities, change)
        slope = float(means.mean()) + slope_of_prior + length * curvature_of_prior
        if abs(slope) <= SLOPE_LEFT * gain:
            break
        squares = np.einsum("ij,ij,ij->i", probabilities, change, change)
        curvature = float((squares - means**2).mean()) + curvature_of_prior
        low, high = (low, length) if slope > 0 else (length, high)
        length -= slope / max(curvature, TINY)
        if not low < length < high:
            length = (low + high) / 2
    return length
