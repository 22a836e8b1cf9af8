"""Ranks, compared with those of scipy and with counts."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from seg_transfer.observations.ranks import shared_ranks


@given(st.lists(st.integers(-3, 3).map(float), max_size=12))
def test_a_rank_counts_the_lower_values_and_half_of_the_other_equal_ones(values):
    counted = [sum(other < value for other in values) + (values.count(value) + 1) / 2 for value in values]
    assert shared_ranks(values).tolist() == counted


@pytest.mark.parametrize("shape", [(1,), (7,), (5, 1), (40, 6), (2, 3, 4), (3, 0)])
def test_every_row_is_ranked_as_scipy_ranks_it(shape):
    values = np.random.default_rng(0).integers(0, 4, shape) / 3
    expected = scipy.stats.rankdata(values, axis=-1) if values.size else np.empty(shape)
    np.testing.assert_array_equal(shared_ranks(values), expected)
