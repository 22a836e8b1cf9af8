"""Softmax regression on all groups of images but some, by L-BFGS, as precisely as its predictions need."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dsyrk

from seg_transfer.arrays import HOST, FloatArray, IntArray
from seg_transfer.arrays.host import BLOCK_ROWS

Float32Array = npt.NDArray[np.float32]
# A step, the change of the gradient along it, and their product.
Step = tuple[Float32Array, Float32Array, float]

MAX_STEPS = 200
# Steps that the curvature is learned from.
MEMORY = 6
# Losses of products in float32 agree to about this fraction; a smaller rise is no rise.
ROUNDING = 1e-6
# A channel whose deviation is below this fraction of its distance from the common mean does not vary: float32 would
# show little else than its own rounding.
LEAST_DEVIATION = 1e-6


@dataclass(frozen=True, eq=False)
class Rows:
    """Observations in float32, sorted by group, with every channel in the common units of all of them.

    Attributes:
        values: (n, D), features minus their mean, divided by their standard deviation; 0 where a channel is constant.
        codes: (n,), class numbers.
        bounds: (m + 1,), the rows of group g are bounds[g] to bounds[g + 1].
        n_classes: C.
    """

    values: Float32Array
    codes: IntArray
    bounds: IntArray
    n_classes: int

    @classmethod
    def of(cls, features: npt.NDArray[Any], codes: IntArray, groups: IntArray, n_groups: int) -> "Rows":
        """Sort and standardize; the mean and the deviation are exact, and only their result is rounded."""
        order = np.lexsort((codes, groups))
        x = features[order].astype(np.float64)
        center = x.mean(axis=0)
        x -= center
        deviation = np.sqrt(np.einsum("ij,ij->j", x, x) / len(x))
        x *= np.divide(1, deviation, out=np.zeros_like(center), where=deviation > 1e-12 * np.abs(center))
        bounds = np.searchsorted(groups[order], np.arange(n_groups + 1))
        return cls(x.astype(np.float32), codes[order], bounds, int(codes.max()) + 1)

    @cached_property
    def group_sums(self) -> tuple[IntArray, FloatArray, FloatArray]:
        """Counts (m, C), sums (m, C, D) and second moments (m, D, D) of every group."""
        n_groups, n_classes, width = len(self.bounds) - 1, self.n_classes, self.values.shape[1]
        counts, sums = np.zeros((n_groups, n_classes), np.int64), np.zeros((n_groups, n_classes, width))
        seconds = np.zeros((n_groups, width, width))
        for group in range(n_groups):
            for block in self._blocks(self.bounds[group], self.bounds[group + 1]):
                x, codes = self.values[block].astype(np.float64), self.codes[block]
                counts[group] += np.bincount(codes, minlength=n_classes)
                HOST.add_by_key(sums[group], x, codes)
                # The lower triangle, which alone is read: SciPy's Cholesky takes it from there.
                seconds[group] = dsyrk(1.0, x.T, beta=1.0, c=seconds[group].T, overwrite_c=True).T
        return counts, sums, seconds

    def without(self, left_out: Collection[int]) -> Iterator[slice]:
        """Yield the rows of all other groups, in blocks."""
        for group in range(len(self.bounds) - 1):
            if group not in left_out:
                yield from self._blocks(self.bounds[group], self.bounds[group + 1])

    def predictions(self, group: int, fit: "Fit") -> IntArray:
        """Return the classes (n_g,) that a fit predicts for the rows of a group."""
        rows = self.values[self.bounds[group] : self.bounds[group + 1]]
        predicted: IntArray = (rows @ fit.weights.astype(np.float32) + fit.intercepts.astype(np.float32)).argmax(axis=1)
        return predicted

    def codes_of(self, group: int) -> IntArray:
        """Return the classes (n_g,) of the rows of a group."""
        return self.codes[self.bounds[group] : self.bounds[group + 1]]

    @staticmethod
    def _blocks(start: int, end: int) -> Iterator[slice]:
        return (slice(first, min(first + BLOCK_ROWS, end)) for first in range(start, end, BLOCK_ROWS))


@dataclass(frozen=True, eq=False)
class Fit:
    """A linear classifier in the common units of `Rows`.

    Attributes:
        weights: (D, C).
        intercepts: (C,), -inf for a class that was not fitted.
    """

    weights: FloatArray
    intercepts: FloatArray


@dataclass(frozen=True, eq=False)
class Problem:
    """A regression on all groups but some, in units in which each channel has unit variance among the rows fitted.

    Unknowns are (D + 1, C): the weights in these units, about the mean of the class means, and the intercepts.

    Attributes:
        rows: All observations; those left out are never read.
        left_out: The groups left out.
        class_weights: (C,), weight of an observation of each class, such that every class weighs the same and all
            observations together weigh 1; 0 for a class that is absent.
        center: (D,), the mean of the class means.
        scale: (D,), 1 / standard deviation; 0 where a channel does not vary.
        covariance: (D, D), the lower triangle of the correlations of the channels.
    """

    rows: Rows
    left_out: Collection[int]
    class_weights: FloatArray
    center: FloatArray
    scale: FloatArray
    covariance: FloatArray

    @classmethod
    def of(cls, rows: Rows, left_out: Collection[int]) -> "Problem":
        """Set up the regression from the sums of the groups that are fitted."""
        kept = [group for group in range(len(rows.bounds) - 1) if group not in left_out]
        counts, sums, second = (_sum(parts, kept) for parts in rows.group_sums)
        n, present = max(int(counts.sum()), 1), counts > 0
        class_weights = present / (max(np.count_nonzero(present), 1) * np.maximum(counts, 1))
        mean = sums.sum(axis=0) / n
        covariance = second / n - np.outer(mean, mean)
        deviation = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        scale = np.divide(1, deviation, out=np.zeros_like(mean), where=deviation > LEAST_DEVIATION * (1 + np.abs(mean)))
        covariance *= scale
        covariance *= scale[:, None]
        return cls(rows, left_out, class_weights, class_weights @ sums, scale, covariance)

    def start(self, fit: Fit | None = None) -> FloatArray:
        """Return the unknowns of another fit, by default those that give all classes the same probability."""
        unknowns = np.zeros((len(self.scale) + 1, len(self.class_weights)))
        if fit is not None:
            varies = self.scale > 0
            unknowns[:-1][varies] = fit.weights[varies] / self.scale[varies, None]
            unknowns[-1] = np.where(np.isfinite(fit.intercepts), fit.intercepts + self.center @ fit.weights, 0.0)
        return unknowns

    def fit_of(self, unknowns: FloatArray) -> Fit:
        """Return the classifier of these unknowns in the common units."""
        weights = unknowns[:-1] * self.scale[:, None]
        return Fit(weights, np.where(self.class_weights > 0, unknowns[-1] - self.center @ weights, -np.inf))

    def evaluate(self, unknowns: FloatArray, penalty: float) -> "Point":
        """Compute the weighted mean cross-entropy + penalty |W|^2 / 2, and its gradient."""
        loss, products, sums = _cross_entropy(self.rows, self.left_out, self.fit_of(unknowns), self.class_weights)
        gradient = np.vstack([(products - np.outer(self.center, sums)) * self.scale[:, None], sums])
        gradient[:-1] += penalty * unknowns[:-1]
        loss += penalty / 2 * float(np.vdot(unknowns[:-1], unknowns[:-1]))
        return Point(unknowns, loss, gradient)


@dataclass(frozen=True, eq=False)
class Point:
    """A point of the search.

    Attributes:
        unknowns: (D + 1, C).
        loss: The loss there, in nats.
        gradient: (D + 1, C), its gradient.
    """

    unknowns: FloatArray
    loss: float
    gradient: FloatArray


def fit(problem: Problem, penalty: float, start: FloatArray, tolerance: float) -> FloatArray:
    """Minimize the weighted mean cross-entropy + penalty |W|^2 / 2.

    Args:
        problem: The regression.
        penalty: Above 0.
        start: (D + 1, C), unknowns to start from.
        tolerance: The search ends where the next step would lower the loss by about half this fraction of it.

    Returns:
        (D + 1, C), the unknowns.
    """
    if np.count_nonzero(problem.class_weights) < 2:
        return start
    point, precondition = problem.evaluate(start, penalty), _preconditioner(problem, penalty)
    steps: list[Step] = []
    for _ in range(MAX_STEPS):
        direction = _direction(point.gradient, steps, precondition)
        slope = -float(np.vdot(point.gradient, direction))
        if slope <= tolerance * point.loss:
            break
        following = _line_search(problem, penalty, point, direction, slope)
        step = (following.unknowns - point.unknowns).astype(np.float32)
        change = (following.gradient - point.gradient).astype(np.float32)
        if (curvature := float(np.vdot(step, change))) > 0:
            steps = [*steps[1 - MEMORY :], (step, change, curvature)]
        point = following
    return point.unknowns


def _preconditioner(problem: Problem, penalty: float) -> Callable[[Float32Array], Float32Array]:
    """Return a function that divides a gradient by about the second derivatives of the loss.

    Those of the weights of one class are the mean of p (1 - p) z z^T plus the penalty. Here all observations have the
    p (1 - p) of equal probabilities: near the minimum most have less, but the few that move the weights have not.
    """
    n_classes = np.count_nonzero(problem.class_weights)
    curvature = (n_classes - 1) / n_classes**2
    matrix = curvature * problem.covariance
    np.einsum("ii->i", matrix)[...] += penalty
    factor = cho_factor(matrix.astype(np.float32), lower=True, overwrite_a=True, check_finite=False)

    def precondition(gradient: Float32Array) -> Float32Array:
        weights = cho_solve(factor, gradient[:-1], check_finite=False)
        return np.vstack([weights, gradient[-1:] / np.float32(curvature)])

    return precondition


def _direction(
    gradient: FloatArray, steps: list[Step], precondition: Callable[[Float32Array], Float32Array]
) -> Float32Array:
    """Return the direction of L-BFGS, by its two loops; whatever the rounding, it is judged by the gradient itself."""
    rest, parts = gradient.astype(np.float32), []
    for step, change, curvature in reversed(steps):
        parts.append(float(np.vdot(step, rest)) / curvature)
        rest -= np.float32(parts[-1]) * change
    direction = precondition(rest)
    for (step, change, curvature), part in zip(steps, reversed(parts), strict=True):
        direction += np.float32(part - float(np.vdot(change, direction)) / curvature) * step
    return -direction


def _line_search(problem: Problem, penalty: float, point: Point, direction: Float32Array, slope: float) -> Point:
    """Halve the step until the loss falls by part of what the gradient predicts."""
    for halvings in range(20):
        length = 0.5**halvings
        found = problem.evaluate(point.unknowns + length * direction, penalty)
        if found.loss <= point.loss - 1e-4 * length * slope + ROUNDING * point.loss:
            break
    return found


def _sum(parts: npt.NDArray[Any], kept: list[int]) -> FloatArray:
    total = np.zeros(parts.shape[1:])
    for index in kept:
        total += parts[index]
    return total


def _cross_entropy(
    rows: Rows, left_out: Collection[int], fit: Fit, class_weights: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """Compute sums over the rows fitted, of weight w and class probabilities p.

    They are the cross-entropy, (D, C) x r^T and (C,) r, where r = w (p - the one-hot class). Products are in float32,
    and are added up in float64 from block to block.
    """
    weights, intercepts = fit.weights.astype(np.float32), fit.intercepts.astype(np.float32)
    loss, products, sums = 0.0, np.zeros(weights.shape), np.zeros(len(intercepts))
    for block in rows.without(left_out):
        x, codes = rows.values[block], rows.codes[block]
        odds, index = x @ weights, np.arange(len(codes))
        odds += intercepts
        odds -= odds.max(axis=1, keepdims=True)
        own, share = odds[index, codes].astype(np.float64), class_weights[codes]
        np.exp(odds, out=odds)
        total = odds.sum(axis=1)
        loss += float(share @ (np.log(total) - own))
        odds *= (share / total).astype(np.float32)[:, None]
        odds[index, codes] -= share.astype(np.float32)
        products += x.T @ odds
        sums += odds.sum(axis=0, dtype=np.float64)
    return loss, products, sums
