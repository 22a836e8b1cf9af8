"""Columns are constant by exact equality over all rows."""

import numpy as np
import pytest

from seg_transfer.arrays import HOST
from seg_transfer.observations import Observations


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int16])
@pytest.mark.parametrize("n", [1, 2, 1024, 1025, 3000])
def test_columns_that_vary_in_any_row_are_not_constant(n, kind):
    values = np.tile(np.array([0, 1, -3, 7, 0]), (n, 1)).astype(kind)
    values[-1, 1] += 1
    values[n // 2, 4] = 2
    expected = [column for column in range(5) if len(np.unique(values[:, column])) == 1]
    assert HOST.constant_columns(values).tolist() == expected


def test_the_last_digit_counts():
    values = np.full((50, 2), 0.1, np.float32)
    values[30, 1] = np.nextafter(np.float32(0.1), np.float32(1))
    assert HOST.constant_columns(values).tolist() == [0]


def test_the_sign_of_zero_does_not():
    assert HOST.constant_columns(np.array([[0.0], [-0.0]])).tolist() == [0]


def test_inputs_are_constant_where_all_of_their_columns_are():
    labels, varying = np.array([0, 1, 1]), np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.5]])
    same = np.full((3, 2), 0.5)
    assert Observations(same, labels, same).constant_inputs == {"features", "source_probs"}
    assert Observations(varying, labels, same).constant_inputs == {"source_probs"}
    assert Observations(varying, labels).constant_features.tolist() == [0]
    assert Observations(None, labels, same).constant_inputs == {"source_probs"}
    assert Observations(None, labels, same).constant_features.tolist() == []
