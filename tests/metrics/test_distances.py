"""Distances from a matrix product, against differences in twice the precision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_transfer.metrics import _distances
from seg_transfer.metrics._distances import squared_distances


def slow(x, y):
    difference = x[:, None].astype(np.longdouble) - y.astype(np.longdouble)
    return (difference**2).sum(axis=2).astype(float)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(1, 40)),
    offset=st.sampled_from([0.0, 1e3, 1e8]),
    scale=st.sampled_from([1e-100, 1.0, 1e100]),
    apart=st.sampled_from([1.0, 1e-3, 1e-6]),
    seed=st.integers(0, 99),
)
def test_near_and_far_points(shape, offset, scale, apart, seed):
    """Some points have near neighbors or equals on the other side, and all may lie far from the origin."""
    (n, m, width), rng = shape, np.random.default_rng(seed)
    x, y = rng.normal(size=(n, width)), rng.normal(size=(m, width))
    y[: m // 3] = x[rng.integers(n, size=m // 3)] + apart * y[: m // 3]
    y[m // 2 : m // 2 + 3] = x[0]
    x, y = scale * (offset + x), scale * (offset + y)
    both = np.vstack([x, y])
    np.testing.assert_allclose(squared_distances(x, y), slow(x, y), rtol=1e-10)
    np.testing.assert_allclose(squared_distances(both, both), slow(both, both), rtol=1e-10)


@pytest.mark.parametrize("many", [0.0, 1.0])
def test_few_small_distances_and_many(many, monkeypatch):
    """Two distant clusters, where every distance within a cluster is small, in both ways of computing them."""
    monkeypatch.setattr(_distances, "MANY", many)
    monkeypatch.setattr(_distances, "PAIRS", 7)
    x = np.random.default_rng(0).normal(size=(40, 5)) + np.repeat([0.0, 1e6], 20)[:, None]
    np.testing.assert_allclose(squared_distances(x, x[::-1]), slow(x, x[::-1]), rtol=1e-12)


def test_equal_points_are_at_no_distance():
    x = np.random.default_rng(0).normal(size=(30, 7)) + 1e5
    np.testing.assert_array_equal(np.diag(squared_distances(x, x)), 0.0)
    np.testing.assert_array_equal(squared_distances(np.ones((3, 2)), np.ones((4, 2))), np.zeros((3, 4)))
