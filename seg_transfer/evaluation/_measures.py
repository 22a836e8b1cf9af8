"""The evaluation measures of one group."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MEASURES = ("top1", "tau_w", "rel_at_1", "kendall", "pearson", "regret")
LOWER_IS_BETTER = frozenset({"regret"})


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
    best = performance.max()
    chosen = performance[score == score.max()]
    constant = bool(performance.min() == best or score.min() == score.max())
    return {
        "top1": float(np.mean(chosen == best)),
        "tau_w": np.nan if constant else weighted_tau(performance, score),
        "rel_at_1": float(np.mean(chosen / best)) if best > 0 else np.nan,
        "kendall": np.nan if constant else _kendall(performance, score),
        "pearson": np.nan if constant else _pearson(performance, score),
        "regret": float(np.mean(best - chosen)),
    }


def weighted_tau(performance: Array, score: Array) -> float:
    """Compute the weighted Kendall tau."""
    from scipy.stats import weightedtau  # takes half a second, which `rank` need not wait for

    return float(weightedtau(performance, score).statistic)


def _kendall(x: Array, y: Array) -> float:
    # scipy's kendalltau also computes a significance test, which takes ten times as long as the value.
    first, second = np.triu_indices(len(x), 1)
    x_signs, y_signs = (_order(values[first], values[second]) for values in (x, y))
    tau = (x_signs @ y_signs) / np.sqrt(x_signs @ x_signs) / np.sqrt(y_signs @ y_signs)
    return float(np.clip(tau, -1, 1))


def _order(first: Array, second: Array) -> Array:
    """Return the signs of first - second without computing the difference, which may overflow."""
    return np.greater(first, second).astype(np.float64) - np.less(first, second)


def _pearson(x: Array, y: Array) -> float:
    # scipy's pearsonr warns where scores are nearly constant, but a small spread still ranks items.
    x, y = _direction(x), _direction(y)
    return float(np.clip(x @ y, -1, 1))


def _direction(values: Array) -> Array:
    """Return the deviations of values, not all equal, from their mean, as a vector of length 1.

    A power of two first scales the values below 1. This changes no digit, and squares then neither overflow nor vanish.
    """
    scaled = np.ldexp(values, -np.frexp(np.abs(values).max())[1])
    deviations: Array = scaled - scaled.mean()
    return deviations / np.linalg.norm(deviations)
