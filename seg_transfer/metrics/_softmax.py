"""Softmax regression on all groups of images but some, by L-BFGS, as precisely as its predictions need."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from seg_transfer.arrays import FloatArray
from seg_transfer.metrics._rows import Fit, Float32Array, Rows

Blocks = list[Float32Array]
# A step, the change of the gradient along it, and their product.
Step = tuple[Float32Array, Float32Array, float]

MAX_STEPS = 200
SHORTEST = 0.5**19
# Steps that the curvature is learned from.
MEMORY = 6
# Losses of products in float32 agree to about this fraction; a smaller rise is no rise.
ROUNDING = 1e-6
# A channel whose deviation is below this fraction of its distance from the common mean does not vary: float32 would
# show little else than its own rounding.
LEAST_DEVIATION = 1e-6


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
        covariance = second / n
        covariance -= np.outer(mean, mean)
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

    def evaluate(self, unknowns: FloatArray, penalty: float, logits: Blocks | None = None) -> "Point":
        """Compute the weighted mean cross-entropy + penalty |W|^2 / 2, and its gradient; the logits too, if not given.

        Products are in float32, and are added up in float64 from block to block.
        """
        loss, kept = 0.0, []
        products, sums = np.zeros((len(self.class_weights), len(self.scale))), np.zeros(len(self.class_weights))
        given = self.logits(unknowns) if logits is None else logits
        for block, odds in zip(self.rows.without(self.left_out), given, strict=True):
            kept.append(odds)
            entropy, residuals = self._cross_entropy(block, odds)
            loss += entropy
            products += residuals.T @ self.rows.values[block]  # Faster than its transpose.
            sums += residuals.sum(axis=0, dtype=np.float64)
        gradient = np.vstack([(products.T - np.outer(self.center, sums)) * self.scale[:, None], sums])
        gradient[:-1] += penalty * unknowns[:-1]
        return Point(unknowns, kept, loss + _penalty(unknowns, penalty), gradient)

    def logits(self, unknowns: FloatArray) -> Iterator[Float32Array]:
        """Compute the logits (., C), block by block."""
        fit = self.fit_of(unknowns)
        weights, intercepts = fit.weights.astype(np.float32), fit.intercepts.astype(np.float32)
        return (self.rows.values[block] @ weights + intercepts for block in self.rows.without(self.left_out))

    def loss(self, unknowns: FloatArray, penalty: float, logits: Blocks) -> float:
        """Compute the loss alone, without a product with the features."""
        blocks = zip(self.rows.without(self.left_out), logits, strict=True)
        return sum(self._cross_entropy(block, part)[0] for block, part in blocks) + _penalty(unknowns, penalty)

    def _cross_entropy(self, block: slice, logits: Float32Array) -> tuple[float, Float32Array]:
        """Compute the weighted cross-entropy of a block, and its derivatives by the logits."""
        codes = self.rows.codes[block]
        share, index = self.class_weights[codes], np.arange(len(codes))
        odds = logits - logits.max(axis=1, keepdims=True)
        own = odds[index, codes].astype(np.float64)
        np.exp(odds, out=odds)
        total = odds.sum(axis=1)
        odds *= (share / total).astype(np.float32)[:, None]
        odds[index, codes] -= share.astype(np.float32)
        return float(share @ (np.log(total) - own)), odds


@dataclass(frozen=True, eq=False)
class Point:
    """A point of the search.

    Attributes:
        unknowns: (D + 1, C).
        logits: Those of the rows fitted, by blocks.
        loss: The loss there, in nats.
        gradient: (D + 1, C), its gradient.
        halved: Whether the step to it was.
    """

    unknowns: FloatArray
    logits: Blocks
    loss: float
    gradient: FloatArray
    halved: bool = False


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
    return fits(problem, [penalty], start, tolerance)[0]


def fits(problem: Problem, penalties: Sequence[float], start: FloatArray, tolerance: float) -> list[FloatArray]:
    """Fit with several penalties in turn, each from the unknowns of the one before."""
    if np.count_nonzero(problem.class_weights) < 2:
        return [start] * len(penalties)
    point, found = problem.evaluate(start, penalties[0]), []
    for before, penalty in pairwise([penalties[0], *penalties]):
        point = _minimum(problem, penalty, _with_penalty(point, penalty - before), tolerance)
        found.append(point.unknowns)
    return found


def _with_penalty(point: Point, change: float) -> Point:
    """Change the penalty, without a product with the features."""
    gradient = point.gradient.copy()
    gradient[:-1] += change * point.unknowns[:-1]
    loss = point.loss + _penalty(point.unknowns, change)
    return replace(point, loss=loss, gradient=gradient, halved=False)


def _minimum(problem: Problem, penalty: float, point: Point, tolerance: float) -> Point:
    """Search from a point that has this penalty."""
    precondition, steps = _preconditioner(problem, penalty), list[Step]()
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
    return point


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
    """Halve the step until the loss falls by part of what the gradient predicts; its logits are between both ends'.

    After a step that was halved the next one mostly is, too: the gradient at its end is then not computed at first.
    """
    unknowns, length = point.unknowns + direction, 1.0
    full = None if point.halved else problem.evaluate(unknowns, penalty)
    ends = logits = full.logits if full else list(problem.logits(unknowns))
    loss = full.loss if full else problem.loss(unknowns, penalty, logits)
    while loss > point.loss - 1e-4 * length * slope + ROUNDING * point.loss and length > SHORTEST:
        length /= 2
        far, near = np.float32(length), np.float32(1 - length)
        unknowns = point.unknowns + length * direction
        logits = [far * end + near * start for end, start in zip(ends, point.logits, strict=True)]
        loss = problem.loss(unknowns, penalty, logits)
    if full and length == 1:
        return full
    return replace(problem.evaluate(unknowns, penalty, logits), halved=length < 1)


def _penalty(unknowns: FloatArray, penalty: float) -> float:
    return penalty / 2 * float(np.vdot(unknowns[:-1], unknowns[:-1]))


def _sum(parts: npt.NDArray[Any], kept: list[int]) -> FloatArray:
    total = np.zeros(parts.shape[1:])
    for index in kept:
        total += parts[index]
    return total
