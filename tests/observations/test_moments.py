"""Moments: those of the rows to the last digits, of groups and unions of groups alike."""

from functools import reduce
from itertools import permutations
from operator import add

import numpy as np
import pytest
from correlated_rows import data

from seg_transfer.arrays import host
from seg_transfer.errors import ObservationsError
from seg_transfer.observations import Moments, MomentStatistics, Observations


def moments_of(features, labels, groups=None):
    return MomentStatistics.of(Observations(features, labels), groups)


def assert_moments(moments, features, labels, rtol=1e-11):
    features = features.astype(np.float64)
    mean = features.mean(axis=0)
    classes = np.unique(labels)
    np.testing.assert_array_equal(moments.classes, classes)
    np.testing.assert_array_equal(moments.counts, [np.sum(labels == label) for label in classes])
    assert moments.n == len(labels)
    np.testing.assert_allclose(moments.mean, mean, rtol=rtol)
    scale = features.std(axis=0).max()
    offsets = [(features[labels == label] - mean).mean(axis=0) for label in classes]
    np.testing.assert_allclose(moments.class_offsets, offsets, rtol=0, atol=rtol * scale)
    covariance = (features - mean).T @ (features - mean) / len(features)
    np.testing.assert_allclose(moments.covariance, covariance, rtol=0, atol=rtol * scale**2)
    np.testing.assert_array_equal(moments.covariance, moments.covariance.T)
    fourth = np.mean(((features - mean) ** 2).sum(axis=1) ** 2)
    np.testing.assert_allclose(moments.central_fourth, fourth, rtol=max(rtol, 1e-9))


class TestMoments:
    @pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("shape", [(300, 8, 4), (50, 120, 3), (9001, 5, 6)])
    def test_are_those_of_the_rows(self, kind, order, shape):
        features, labels = data(*shape)
        features = np.array(features, dtype=kind, order=order)
        assert_moments(moments_of(features, labels).total(), features, labels)

    def test_are_those_of_a_memory_map(self, tmp_path):
        features, labels = data()
        mapped = np.memmap(tmp_path / "features", dtype=np.float64, mode="w+", shape=features.shape)
        mapped[:] = features
        assert_moments(moments_of(mapped, labels).total(), features, labels)

    @pytest.mark.parametrize("offset", [1e4, -1e6])
    def test_keep_precision_with_large_offsets(self, offset):
        features, labels = data(offset=offset)
        exact = features - np.round(features.mean(axis=0))
        moments = moments_of(features, labels).total()
        np.testing.assert_allclose(moments.covariance, np.cov(exact.T, ddof=0), rtol=0, atol=1e-11 * exact.var())

    def test_keep_precision_where_the_first_rows_differ_from_the_rest(self):
        features, labels = data(n=6000)
        features[:500] += 1e6
        exact = features - features.mean(axis=0)
        covariance = moments_of(features, labels).total().covariance
        np.testing.assert_allclose(covariance, exact.T @ exact / 6000, rtol=1e-9)

    def test_of_groups_are_those_of_their_rows(self):
        features, labels = data(n=5000)
        groups = np.random.default_rng(1).integers(0, 4, 5000)
        labels[groups == 2] %= 2
        statistics = moments_of(features, labels, groups)
        assert_moments(statistics.total(), features, labels)
        for group in range(4):
            assert_moments(statistics.groups[group].present(), features[groups == group], labels[groups == group])
            assert_moments(statistics.without(group), features[groups != group], labels[groups != group])

    def test_without_a_group_lack_the_classes_that_only_it_holds(self):
        features, labels = data()
        groups = (labels == 3).astype(np.int64)
        assert moments_of(features, labels, groups).without(1).classes.tolist() == [0, 1, 2]

    def test_do_not_depend_on_the_size_of_blocks(self, monkeypatch):
        features, labels = data()
        groups = np.arange(300) % 7
        whole = moments_of(features, labels, groups)
        monkeypatch.setattr(host, "BLOCK_ROWS", 11)
        for one, other in zip(whole.groups, moments_of(features, labels, groups).groups, strict=True):
            np.testing.assert_allclose(one.second, other.second, rtol=1e-12, atol=1e-10)
            np.testing.assert_allclose(one.sums, other.sums, rtol=1e-12, atol=1e-12)

    def test_about_another_point_are_the_same_rows(self):
        features, labels = data()
        moved, z = moments_of(features, labels).total().about(np.arange(8.0)), features - np.arange(8)
        squares = (z**2).sum(axis=1)
        np.testing.assert_allclose(moved.second, z.T @ z, rtol=1e-10)
        np.testing.assert_allclose(moved.third, squares @ z, rtol=1e-10)
        assert moved.fourth == pytest.approx(squares @ squares, rel=1e-12)
        assert_moments(moved, features, labels)

    def test_of_classes_are_those_of_their_rows_however_far_apart(self):
        features, labels = data(n=3000)
        features += 1e6 * labels[:, None]
        statistics = MomentStatistics.of_classes(Observations(features, labels))
        assert_moments(statistics.total(), features, labels)
        for label, part in enumerate(statistics.groups):
            rows = features[labels == label]
            exact = rows - np.round(rows.mean(axis=0))
            np.testing.assert_allclose(part.covariance, np.cov(exact.T, ddof=0), rtol=0, atol=1e-11 * exact.var())
            assert part.present().classes.tolist() == [label]

    def test_of_parts_with_other_shifts_and_classes_add_up_in_any_order(self):
        features, labels = data(offset=1e3)
        features[200:] += 5
        parts = [slice(0, 120), slice(120, 200), slice(200, 300)]
        labels[parts[0]] %= 2
        labels[parts[1]] = 2 + labels[parts[1]] % 2
        moments = [moments_of(features[part], labels[part]).total() for part in parts]
        assert len({tuple(part.shift) for part in moments}) == 3
        for order in permutations(moments):
            assert_moments(reduce(add, order), features, labels, rtol=1e-10)
        left, middle, right = moments
        assert_moments(left + (middle + right), features, labels, rtol=1e-10)

    def test_merge_group_by_group(self):
        features, labels = data()
        groups = np.arange(300) % 3
        halves = [moments_of(features[half], labels[half], groups[half]) for half in (slice(0, 100), slice(100, 300))]
        for merged in (halves[0].merge(halves[1]), halves[1].merge(halves[0])):
            assert_moments(merged.total(), features, labels)
            assert_moments(merged.without(1), features[groups != 1], labels[groups != 1])

    def test_merge_refuses_other_groups(self):
        features, labels = data()
        one, three = moments_of(features, labels), moments_of(features, labels, np.arange(300) % 3)
        with pytest.raises(ObservationsError, match="1 and of 3 groups"):
            one.merge(three)

    def test_need_features(self):
        probs_only = Observations(None, np.array([0, 1]), np.eye(2))
        with pytest.raises(ObservationsError, match="features are missing"):
            MomentStatistics.of(probs_only)

    def test_are_the_same_bits_every_time(self):
        features, labels = data(n=5000)
        one, other = (moments_of(features, labels, np.arange(5000) % 10).total() for _ in range(2))
        assert isinstance(one, Moments)
        assert one.second.tobytes() == other.second.tobytes()
        assert one.sums.tobytes() == other.sums.tobytes()
