"""What is computed by parts of the rows: in NumPy part by part, in torch many at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from seg_transfer.arrays import HOST, device
from seg_transfer.arrays.device import DeviceArrays

N_PARTS, WIDTH = 7, 3


@pytest.fixture(params=["NumPy", "torch", "torch, few rows at a time"])
def arrays(request, monkeypatch):
    if "few" in request.param:
        monkeypatch.setattr(device, "BATCH_NUMBERS", 5 * WIDTH)
    return HOST if request.param == "NumPy" else DeviceArrays(torch.device("cpu"))


@pytest.fixture
def world():
    """Rows (60, 3), and 90 of them in parts: of unequal sizes, none in part 2, and some in no part."""
    source = np.random.default_rng(0)
    z, rows = source.normal(size=(60, WIDTH)), source.integers(0, 60, 90)
    part = source.choice([0, 1, 3, 4, 5, 6, N_PARTS], 90, p=[0.5, 0.2, 0.1, 0.1, 0.02, 0.03, 0.05])
    assert set(part) == {0, 1, 3, 4, 5, 6, N_PARTS}
    return z, rows, part


def parts_of(arrays, rows, part):
    order = arrays.rows_by_part(arrays.of_host(part), N_PARTS)
    return replace(order, rows=arrays.take(arrays.of_host(rows), order.rows)), arrays.to_host(order.rows)


def test_rows_are_in_the_order_of_their_parts_and_their_own(arrays, world):
    _, _, part = world
    found = arrays.rows_by_part(arrays.of_host(part), N_PARTS)
    assert len(found) == N_PARTS
    for k, own in enumerate(found):
        assert arrays.to_host(own).tolist() == np.flatnonzero(part == k).tolist()
    assert found.sizes.tolist() == np.bincount(part, minlength=N_PARTS)[:N_PARTS].tolist()


def test_sums(arrays, world):
    z, rows, part = world
    found = arrays.sums_by_part(arrays.of_host(z), parts_of(arrays, rows, part)[0])
    expected = [z[rows[part == k]].sum(axis=0) for k in range(N_PARTS)]
    np.testing.assert_allclose(arrays.to_host(found), expected, atol=1e-13)


def test_products_are_written_and_added_in_place(arrays, world):
    z, totals = arrays.of_host(world[0]), arrays.zeros(3, WIDTH, WIDTH)
    totals[0] += 9
    arrays.products(z, out=totals[0])
    arrays.add_products(totals[1], z)
    arrays.add_products(totals[1], z)
    expected = world[0].T @ world[0]
    np.testing.assert_allclose(np.triu(arrays.to_host(totals)), np.triu([expected, 2 * expected, 0 * expected]))


def test_squared_lengths_of_whitened_rows(arrays, world):
    z, rows, part = world
    source = np.random.default_rng(1)
    origins, triangles = source.normal(size=(N_PARTS, WIDTH)), np.triu(source.normal(size=(N_PARTS, WIDTH, WIDTH)))
    parts, kept = parts_of(arrays, rows, part)
    found = arrays.whitened_squares(*map(arrays.of_host, (z,)), parts, *map(arrays.of_host, (origins, triangles)))
    expected = [np.sum(((z[rows[i]] - origins[part[i]]) @ triangles[part[i]]) ** 2) for i in kept]
    np.testing.assert_allclose(arrays.to_host(found), expected, rtol=1e-12)


def test_weighted_moments(arrays, world):
    z, rows, part = world
    weights = np.random.default_rng(2).random(90) * (np.arange(90) % 3 > 0)
    weights[part == 5] = 0.0
    parts, kept = parts_of(arrays, rows, part)
    totals, means, products = arrays.weighted_moments(arrays.of_host(z), parts, arrays.of_host(weights[kept]))
    for k in range(N_PARTS):
        own, x = weights[part == k], z[rows[part == k]]
        mean = np.average(x, axis=0, weights=own) if own.any() else np.zeros(WIDTH)
        expected = sum((w * np.outer(row - mean, row - mean) for w, row in zip(own, x, strict=True)), 0 * products[k])
        assert totals[k] == pytest.approx(own.sum(), rel=1e-13)
        np.testing.assert_allclose(means[k], mean, atol=1e-13)
        np.testing.assert_allclose(products[k], expected, atol=1e-13)


def test_by_key(arrays):
    """Keys ascend and leave some out; some occur once."""
    source = np.random.default_rng(3)
    keys = np.sort(source.choice([0, 1, 4, 5, 5, 5, 7], 40))
    rows, origins = source.normal(size=(40, 2)), source.normal(size=(8, 2))
    # A logarithm of zero stays in its sum.
    rows[np.searchsorted(keys, 4, side="right") - 1, 0] = -np.inf
    totals = arrays.of_host(np.ones((8, 2)))
    arrays.add_by_key(totals, arrays.of_host(rows), keys)
    expected = [1 + rows[keys == key].sum(axis=0) for key in range(8)]
    np.testing.assert_allclose(arrays.to_host(totals), expected, atol=1e-13)
    native = arrays.of_host(rows.copy())
    arrays.subtract_by_key(native, arrays.of_host(origins), keys)
    np.testing.assert_array_equal(arrays.to_host(native), rows - origins[keys])


def test_products_of_every_two_channels(arrays):
    channels = np.arange(8.0).reshape(4, 2) + 1
    out = arrays.of_host(np.zeros((10, 2)))
    arrays.write_pair_products(arrays.of_host(channels), out)
    expected = [channels[i] * channels[j] for i in range(4) for j in range(i, 4)]
    np.testing.assert_array_equal(arrays.to_host(out), expected)


def test_what_rules_out_is_no_coarser_than_float32_even_where_products_are_in_tf32():
    """The precision of float32 products on CUDA is a setting of the process, which a network may change meanwhile."""
    assert HOST.coarse(np.ones(2)).dtype == np.float32
    assert DeviceArrays(torch.device("cpu")).coarse(torch.ones(2)).dtype == torch.float64
