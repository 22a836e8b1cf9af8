"""One-to-one couplings of equal masses, against the network simplex of POT."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ot.lp import emd
from scipy.optimize import linear_sum_assignment

from seg_transfer.metrics import _transport


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 40),
    kind=st.sampled_from(["any", "ties", "constant", "one far point", "one far row"]),
    scale=st.sampled_from([1e-200, 1e-30, 1.0, 1e30, 1e200]),
    seed=st.integers(0, 99),
)
def test_equal_masses_are_coupled_one_to_one_at_the_least_cost(n, kind, scale, seed):
    cost = np.random.default_rng(seed).random((n, n))
    if kind == "ties":
        cost = np.round(3 * cost)
    elif kind == "constant":
        cost[:] = cost[0, 0]
    elif kind.startswith("one far"):
        cost[0, : 1 if kind.endswith("point") else None] = 1e9
    plan = _transport.coupling("otce", cost * scale, np.full(n, 3.0), np.full(n, 3.0))
    assert set(plan.ravel()) <= {0.0, 3.0}
    np.testing.assert_array_equal(plan.sum(axis=0), 3.0)
    np.testing.assert_array_equal(plan.sum(axis=1), 3.0)
    other = emd(np.full(n, 3.0), np.full(n, 3.0), cost / max(cost.max(), 1e-300), center_dual=False)
    assert np.vdot(plan, cost) == pytest.approx(np.vdot(other, cost), rel=1e-12)


def test_costs_of_nothing():
    np.testing.assert_array_equal(_transport.coupling("otce", np.zeros((3, 3)), np.ones(3), np.ones(3)).sum(axis=0), 1)


def test_the_potentials_leave_little_to_the_search():
    """Beside the costs, what is left of those of the best coupling is small."""
    rng = np.random.default_rng(0)
    cost = ((rng.normal(size=(200, 1, 30)) - rng.normal(size=(200, 30))) ** 2).sum(axis=2)
    rows, columns = _transport._potentials(cost)
    chosen = linear_sum_assignment(cost)
    left = (cost - rows[:, None] - columns)[chosen]
    assert np.abs(left).mean() < 0.03 * cost[chosen].mean()
