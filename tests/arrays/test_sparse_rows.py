"""Rows of probabilities that hold only what matters: sparse in NumPy, whole in torch."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from scipy.special import softmax

from seg_transfer.arrays import HOST
from seg_transfer.arrays.device import DeviceArrays


@pytest.fixture
def odds():
    """Log odds (50, 9), of which a row has from one to nine; all else is minus infinity."""
    source = np.random.default_rng(3)
    table = source.normal(size=(50, 9)) * 20
    table[source.random(table.shape) < 0.5] = -np.inf
    table[np.arange(50), source.integers(0, 9, 50)] = 5.0
    table += 800.0
    return table


def test_probabilities_are_those_of_the_whole_table(odds):
    places = np.flatnonzero(odds > -np.inf)
    sparse = HOST.probabilities(places, odds.ravel()[places], odds.shape)
    assert isinstance(sparse, csr_array)
    assert 50 < sparse.nnz < len(places)
    np.testing.assert_allclose(sparse.toarray(), softmax(odds, axis=1), rtol=1e-12, atol=1e-16)
    native = torch.from_numpy(places), torch.from_numpy(odds.ravel()[places])
    whole = DeviceArrays(torch.device("cpu")).probabilities(*native, odds.shape)
    np.testing.assert_allclose(whole.numpy(), sparse.toarray(), rtol=1e-12, atol=1e-16)


def test_sums_by_key_are_those_of_whole_rows():
    source = np.random.default_rng(4)
    rows, keys = source.random((50, 9)) * (source.random((50, 9)) < 0.3), np.sort(source.integers(3, 8, 50))
    found, expected = np.ones((11, 9)), np.ones((11, 9))
    HOST.add_by_key(found, csr_array(rows), keys)
    HOST.add_by_key(expected, rows, keys)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    assert (found[[0, 1, 2, 8, 9, 10]] == 1).all()


def test_many_parts_are_as_complete_as_few():
    """Up to 65,535 parts are sorted by numbers of 16 bits."""
    for n_parts in (9, 65_535, 65_536, 70_000):
        parts = np.array([n_parts, n_parts - 1, 0, n_parts - 1, n_parts])
        by_part = list(HOST.rows_by_part(parts, n_parts))
        assert len(by_part) == n_parts
        assert by_part[0].tolist() == [2]
        assert by_part[-1].tolist() == [1, 3]
