"""The evaluation measures of one group."""

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MEASURES = ("top1", "tau_w", "rel_at_1", "kendall", "pearson", "regret")
LOWER_IS_BETTER = frozenset({"regret"})
_MAX_SIGNS = 4_000_000


def measures(performance: Array, score: Array) -> dict[str, float]:
    """Compute the evaluation measures of one group of n >= 2 items.

    Args:
        performance: (n,) finite actual performance.
        score: (n,) finite scores, higher is better.

    Returns:
        Name -> value:

        * top1: probability in [0, 1] of choosing an item of the best performance when a tie for the highest score is
          broken at random: each of k tied items counts 1/k. Any of several equally good best items is a hit.
        * tau_w: weighted Kendall tau in [-1, 1] (Vigna, "A weighted correlation index for rankings with ties", WWW
          2015): additive hyperbolic weights, mean of the two rankings
        * rel_at_1: performance of the chosen item divided by the best, averaged over the items tied for the highest
          score; in [0, 1], NaN unless the best performance is positive
        * kendall: Kendall tau-b in [-1, 1]
        * pearson: correlation coefficient in [-1, 1]
        * regret: best performance minus that of the chosen item, averaged over the items tied for the highest score, in
          the unit of performance; at least 0, and the only measure for which lower is better

        tau_w, kendall and pearson are NaN where scores or performance are constant and nothing can be ordered.

    Example:
        >>> measures(np.array([0.2, 0.4, 0.5]), np.array([1.0, 3.0, 3.0]))["top1"]
        0.5
    """
    return dict(zip(MEASURES, measures_of_all(performance, score[None])[0].tolist(), strict=True))


def measures_of_all(performance: Array, scores: Array) -> Array:
    """Compute the `MEASURES` of several scores of the same items, which takes hardly longer than those of one.

    Args:
        performance: (n,) as in `measures`.
        scores: (m, n), one score of every item per row.

    Returns:
        (m, len(MEASURES)).
    """
    best, first = performance.max(), (scores == scores.max(axis=1, keepdims=True)).astype(np.float64)
    n_first = first.sum(axis=1)
    values = np.full((len(scores), len(MEASURES)), np.nan)
    column = {measure: values[:, index] for index, measure in enumerate(MEASURES)}
    column["top1"][:] = (first @ (performance == best)) / n_first
    column["regret"][:] = (first @ (best - performance)) / n_first
    if best > 0:
        column["rel_at_1"][:] = (first @ (performance / best)) / n_first
    varies = (scores.min(axis=1) < scores.max(axis=1)) & (performance.min() < best)
    if varies.any():
        column["pearson"][varies] = pearson(performance, scores[varies])
        taus = [_taus(performance, part) for part in _parts(scores[varies])]
        column["kendall"][varies], column["tau_w"][varies] = np.concatenate(taus, axis=1)
    return values


def weighted_tau(performance: Array, score: Array) -> float:
    """Compute the weighted Kendall tau of items that neither performance nor score ties all together."""
    return float(_taus(performance, score[None])[1, 0])


def _parts(scores: Array) -> list[Array]:
    """Split scores (m, n) so that the signs of all their differences fit in memory."""
    n_parts = math.ceil(scores.size * scores.shape[1] / _MAX_SIGNS)
    return np.array_split(scores, min(max(n_parts, 1), len(scores)))


def _taus(x: Array, scores: Array) -> Array:
    """Compute Kendall's tau-b and the weighted tau, (2, m), of x (n,) and every row of scores (m, n).

    scipy's kendalltau also computes a significance test, and its weightedtau checks types: both take ten times as long
    as the numbers.
    """
    x_signs, signs = _order(x[:, None], x), _order(scores[:, :, None], scores[:, None, :])
    # Of every item: how often x and score agree less how often they do not, and how often each orders it, (m, n).
    agree, by_x, by_score = ((x_signs * signs).sum(axis=2), (x_signs**2).sum(axis=1), (signs**2).sum(axis=2))
    kendall = agree.sum(axis=1) / np.sqrt(by_x.sum() * by_score.sum(axis=1))
    weighted = np.zeros(len(scores))
    every_x = np.broadcast_to(x, scores.shape)
    for keys in ((scores, every_x), (every_x, scores)):
        weights = np.empty(scores.shape)
        order = np.lexsort(keys, axis=1)[:, ::-1]
        np.put_along_axis(weights, order, np.broadcast_to(1 / np.arange(1, len(x) + 1), scores.shape), axis=1)
        # A pair of items weighs the sum of their weights, so that every item has a share of its own.
        total, of_x, of_score = ((weights * part).sum(axis=1) for part in (agree, by_x, by_score))
        weighted += total / np.sqrt(of_x * of_score) / 2
    taus: Array = np.clip([kendall, weighted], -1, 1)
    return taus


def _order(first: Array, second: Array) -> Array:
    """Return the signs of first - second without computing the difference, which may overflow."""
    signs: Array = np.greater(first, second).astype(np.float64) - np.less(first, second)
    return signs


def pearson(x: Array, scores: Array) -> Array:
    """Compute the correlation coefficients (m,) of x (n,) and every row of scores (m, n), all of which vary."""
    # scipy's pearsonr warns where scores are nearly constant, but a small spread still ranks items.
    correlations: Array = np.clip(_directions(scores) @ _directions(x[None])[0], -1, 1)
    return correlations


def _directions(values: Array) -> Array:
    """Return the deviations of the values of every row from their mean, as vectors of length 1.

    A power of two first scales the values below 1. This changes no digit, and squares then neither overflow nor vanish.
    """
    scaled = np.ldexp(values, -np.frexp(np.abs(values).max(axis=1, keepdims=True))[1])
    deviations: Array = scaled - scaled.mean(axis=1, keepdims=True)
    length: Array = np.linalg.norm(deviations, axis=1, keepdims=True)
    return deviations / length
