"""The evaluation measures of one group."""

import numpy as np
import numpy.typing as npt
from scipy.stats import weightedtau

Array = npt.NDArray[np.float64]

MEASURES = ("top1", "tau_w", "rel_at_1", "kendall", "pearson")


def measures(performance: Array, score: Array) -> dict[str, float]:
    """Evaluation measures of one group of n >= 2 items.

    Args:
        performance: (n,) finite actual performance.
        score: (n,) finite scores, higher is better.

    Returns:
        By name:

        * top1: chance in [0, 1] to pick an item of the best performance when a tie for the highest score is broken at
          random: of k tied items each counts 1/k. Any of several equally best items is a hit.
        * tau_w: weighted Kendall tau in [-1, 1] (Vigna, "A weighted correlation index for rankings with ties", WWW
          2015): additive hyperbolic weights, mean of the two rankings
        * rel_at_1: performance of the chosen item over the best, mean over the items tied for the highest score; in [0,
          1], NaN unless the best performance is positive
        * kendall: Kendall tau-b in [-1, 1]
        * pearson: correlation coefficient in [-1, 1]

        The last two and tau_w are NaN where scores or performance are constant: nothing is ordered there.

    Example:
        >>> measures(np.array([0.2, 0.4, 0.5]), np.array([1.0, 3.0, 3.0]))["top1"]
        0.5
    """
    best = performance.max()
    chosen = performance[score == score.max()]
    constant = bool(performance.min() == best or score.min() == score.max())
    return {
        "top1": float(np.mean(chosen == best)),
        "tau_w": np.nan if constant else float(weightedtau(performance, score).statistic),
        "rel_at_1": float(np.mean(chosen / best)) if best > 0 else np.nan,
        "kendall": np.nan if constant else _kendall(performance, score),
        "pearson": np.nan if constant else _pearson(performance, score),
    }


def _kendall(x: Array, y: Array) -> float:
    # Not scipy's kendalltau: its significance test, which is not needed here, takes ten times as long as the value.
    above = np.triu_indices(len(x), 1)
    in_x, in_y = (_order(side[above[0]], side[above[1]]) for side in (x, y))
    tau = (in_x @ in_y) / np.sqrt(in_x @ in_x) / np.sqrt(in_y @ in_y)
    return float(np.clip(tau, -1, 1))


def _order(first: Array, second: Array) -> Array:
    """The signs of first - second, which itself may overflow."""
    return np.greater(first, second).astype(np.float64) - np.less(first, second)


def _pearson(x: Array, y: Array) -> float:
    # Not scipy's pearsonr: it warns where scores are nearly constant, but a small spread is still a ranking.
    x, y = _direction(x), _direction(y)
    return float(np.clip(x @ y, -1, 1))


def _direction(values: Array) -> Array:
    """The deviations of unequal values from their mean, as a vector of length 1, for values of any size.

    A power of two brings them below 1 first: it changes no digit, and squares neither overflow nor vanish.
    """
    scaled = np.ldexp(values, -np.frexp(np.abs(values).max())[1])
    deviations: Array = scaled - scaled.mean()
    return deviations / np.linalg.norm(deviations)
