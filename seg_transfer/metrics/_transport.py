"""Optimal transport between the observations of a target and those of the source's own images."""

import importlib.util
import warnings
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_array

from seg_transfer.errors import ConfigError, ObservationsError
from seg_transfer.observations import FloatArray

# Two sides of 2000 observations need 70 000 pivots; sides of 4000 need about three times as many.
MAX_PIVOTS = 100_000_000
# Before an assignment: so many sweeps of Sinkhorn's algorithm, smoothed by this fraction of the mean cost.
SWEEPS = 5
SMOOTHNESS = 0.005


def coupling(metric: str, cost: FloatArray, target_mass: FloatArray, source_mass: FloatArray) -> FloatArray:
    """Compute the masses (n, m) moved between n target and m source points at the least total cost.

    Integer masses of equal sums give integer results.

    Args:
        metric: Name of the metric, for messages.
        cost: (n, m), cost of moving one unit of mass.
        target_mass: (n,).
        source_mass: (m,), with the same sum.

    Raises:
        ConfigError: POT is not installed.
        ObservationsError: No optimum was found.
    """
    if len(target_mass) == len(source_mass) and np.ptp(target_mass) == np.ptp(source_mass) == 0:
        return _assignment(cost, float(target_mass[0]))
    emd = _solver(metric)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # The result code says the same.
        # The solver starts from arcs of cost n (1 + largest cost). Costs far below 1 would lose precision beside them.
        plan, log = emd(
            target_mass, source_mass, cost / (cost.max() or 1.0), numItermax=MAX_PIVOTS, log=True, center_dual=False
        )
    if log["warning"] is not None:
        raise ObservationsError(
            f"metric {metric} found no optimal coupling of {len(target_mass)} target and {len(source_mass)} source "
            f"observations in {MAX_PIVOTS} pivots: leave the metric out"
        )
    result: FloatArray = plan
    return result


def least_cost(metric: str, cost: FloatArray, target_mass: FloatArray, source_mass: FloatArray) -> float:
    """Compute the cost of the best coupling, which needs no POT, by linear programming.

    Args:
        metric: Name of the metric, for messages.
        cost: (n, m), cost of moving one unit of mass.
        target_mass: (n,).
        source_mass: (m,), with the same sum.

    Raises:
        ObservationsError: No optimum was found.
    """
    from scipy.optimize import linprog  # takes a tenth of a second, which other metrics need not wait for

    (n, m), cells = cost.shape, np.arange(cost.size)
    # The mass of a cell counts in the sum of its row and in that of its column.
    sums_of_cell = np.stack([cells // m, n + cells % m], axis=1).ravel()
    sums: Any = csc_array((np.ones(2 * cost.size), sums_of_cell, 2 * np.arange(cost.size + 1)))
    scale: float = cost.max() or 1.0  # the solver's tolerances are absolute
    tight: Any = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    masses = np.concatenate([target_mass, source_mass])
    solution: Any = linprog(cost.ravel() / scale, A_eq=sums, b_eq=masses, method="highs", options=tight)
    if solution.status != 0 or solution.fun is None:
        raise ObservationsError(f"metric {metric} found no least cost ({solution.message}): leave the metric out")
    return float(solution.fun * scale)


def _assignment(cost: FloatArray, mass: float) -> FloatArray:
    """Couple equally many points of equal mass: one to one."""
    from scipy.optimize import linear_sum_assignment  # takes a tenth of a second, which other metrics need not wait for

    plan = np.zeros_like(cost)
    # Subtracting a number from every row and column changes no choice. With about the right ones, paths are short, and
    # the search takes a tenth of the time.
    rows, columns = _potentials(cost)
    plan[linear_sum_assignment(cost - rows[:, None] - columns)] = mass
    return plan


def _potentials(cost: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return numbers of the rows and of the columns whose sums are about the costs of a good coupling (Sinkhorn)."""
    scale = SMOOTHNESS * (float(cost.mean()) or 1.0)
    scaled = (cost / scale).astype(np.float32)
    rows, columns = np.zeros((2, len(cost)), np.float32)
    for _ in range(SWEEPS):
        rows = _soft_minimum(scaled - columns, axis=1)
        columns = _soft_minimum(scaled - rows[:, None], axis=0)
    return rows.astype(np.float64) * scale, columns.astype(np.float64) * scale


def _soft_minimum(values: npt.NDArray[np.float32], axis: int) -> npt.NDArray[np.float32]:
    """Compute -log sum exp(-values) along an axis; the values are overwritten."""
    least = values.min(axis=axis, keepdims=True)
    np.subtract(least, values, out=values)
    np.exp(values, out=values)
    result: npt.NDArray[np.float32] = least.squeeze(axis) - np.log(values.sum(axis=axis))
    return result


@cache
def has_solver() -> bool:
    """Whether POT is installed."""
    return importlib.util.find_spec("ot") is not None


def _solver(metric: str) -> Any:
    # POT is optional and imports every array library that is installed: import it only where a metric needs it.
    try:
        from ot.lp import emd
    except ImportError as error:
        raise ConfigError(
            f"metric {metric} needs POT, which cannot be imported ({error}): "
            "run pip install 'seg_transfer[ot]', or leave the metric out"
        ) from error
    return emd
