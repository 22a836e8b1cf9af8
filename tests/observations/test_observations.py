import tracemalloc
from dataclasses import replace
from functools import reduce
from itertools import permutations
from operator import add

import numpy as np
import pytest

from seg_transfer.errors import ObservationsError
from seg_transfer.observations import Moments, MomentStatistics, Observations, PixelSample, _blocks, image_groups


def sample(**changed):
    fields = {
        "image_ids": ("a", "b"),
        "image_sizes": np.array([[4, 6], [3, 3]]),
        "image_index": np.array([0, 0, 1]),
        "rows": np.array([3, 0, 2]),
        "columns": np.array([5, 0, 2]),
        "labels": np.array([1, 0, 7], dtype=np.uint8),
    }
    return PixelSample(**{**fields, **changed})


def data(n=300, d=8, n_classes=4, offset=0.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice(n_classes, size=n, p=np.arange(1, n_classes + 1) / np.arange(1, n_classes + 1).sum())
    features = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=(n_classes, d))[labels]
    return features + offset * features.std(axis=0), labels


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


class TestPixelSample:
    def test_holds_pixels_as_int32(self):
        pixels = sample()
        assert len(pixels) == 3
        for name in ("image_sizes", "image_index", "rows", "columns"):
            assert getattr(pixels, name).dtype == np.int32
        assert pixels.labels.dtype == np.uint8

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"rows": np.array([0, 1])}, "rows has shape"),
            ({"labels": np.array([0.0, 1.0, 2.0])}, "labels has shape"),
            ({"image_ids": ("a", "a")}, "twice"),
            ({"image_ids": ("a",)}, "image_sizes has shape"),
            ({"image_index": np.array([0, 0, 2])}, r"image_index\[2\] is 2; it must lie in 0 .. 1"),
            ({"rows": np.array([0, 4, 0])}, r"rows\[1\] is 4; it must lie in 0 .. 3"),
            ({"rows": np.array([0, 0, 3])}, r"rows\[2\] is 3; it must lie in 0 .. 2"),
            ({"columns": np.array([-1, 0, 0])}, r"columns\[0\] is -1"),
        ],
    )
    def test_refuses_what_does_not_fit(self, changed, message):
        with pytest.raises(ObservationsError, match=message):
            sample(**changed)


class TestObservations:
    def test_keeps_the_arrays_it_is_given(self):
        features, labels = data()
        features = np.asfortranarray(features.astype(np.float16))
        features.flags.writeable = False
        assert Observations(features, labels).features is features

    def test_takes_lists_and_memory_maps(self, tmp_path):
        assert Observations([[0.0, 1.0], [2.0, 3.0]], [4, 9]).classes.tolist() == [4, 9]
        features, labels = data()
        mapped = np.memmap(tmp_path / "features", dtype=np.float64, mode="w+", shape=features.shape)
        mapped[:] = features
        assert_moments(moments_of(mapped, labels).total(), features, labels)

    def test_numbers_the_labels_present(self):
        observations = Observations(np.eye(4), np.array([9, -2, 9, 255]))
        assert observations.classes.tolist() == [-2, 9, 255]
        assert observations.codes.tolist() == [1, 0, 1, 2]

    @pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_names_the_place_of_a_value_that_is_not_finite(self, kind, value):
        features, labels = data(n=9000, d=3)
        features = features.astype(kind)
        features[8123, 2] = value
        with pytest.raises(ObservationsError, match=rf"features\[8123, 2\] is {value}"):
            Observations(features, labels)

    def test_refuses_values_whose_squares_overflow(self):
        features, labels = data()
        features[7, 0] = -1e200
        with pytest.raises(ObservationsError, match=r"features\[7, 0\] is -1e\+200"):
            Observations(features, labels)

    def test_looks_at_the_features_in_blocks(self):
        features, labels = data(n=40_000, d=40)
        tracemalloc.start()
        Observations(features, labels)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < features.nbytes / 5

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"labels": np.zeros(4, dtype=int)}, r"1 class\(es\) in 4"),
            ({"labels": np.array([0, 1, 2])}, "features has shape"),
            ({"labels": np.array([[0, 1, 2, 3]])}, "labels has shape"),
            ({"labels": np.array(["a", "b", "a", "b"])}, "labels has shape"),
            ({"features": np.zeros((4, 0))}, "features has shape"),
            ({"features": np.zeros((4, 2, 2))}, "features has shape"),
            ({"features": np.full((4, 2), "x")}, "features has dtype"),
            ({"features": None}, "both missing"),
            ({"source_probs": np.full((3, 2), 0.5)}, "source_probs has shape"),
            ({"source_probs": np.full((4, 2), 0.6)}, r"source_probs\[0\] sums to 1.2"),
            ({"source_probs": np.full((4, 2), np.nan)}, r"source_probs\[0, 0\] is nan"),
            ({"image_index": np.array([0, 0, 1])}, "image_index has shape"),
            ({"image_index": np.array([0.0, 0.0, 1.0, 1.0])}, "image_index has shape"),
        ],
    )
    def test_refuses_in_one_line(self, changed, message):
        fields = {"features": np.eye(4), "labels": np.array([0, 1, 0, 1]), **changed}
        with pytest.raises(ObservationsError, match=message) as caught:
            Observations(**fields)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("n_classes", [2, 150, 1000])
    def test_takes_distributions_rounded_to_float16(self, n_classes):
        logits = 3 * np.random.default_rng(0).normal(size=(500, n_classes))
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        labels = np.arange(500) % 3
        assert Observations(None, labels, probs.astype(np.float16)).source_probs.dtype == np.float16


class TestTaken:
    def observations(self, n=60):
        rng = np.random.default_rng(3)
        index = rng.permutation(np.repeat([4, 9, 2], [n // 2, n // 3, n - n // 2 - n // 3]))
        labels = np.arange(n) % 2
        return Observations(rng.normal(size=(n, 3)), labels, np.eye(2)[labels], index, np.eye(3))

    def test_rows_keep_their_fields_and_images_their_embeddings(self):
        observations = self.observations()
        rows = observations.image_index != 4
        kept = observations.taken(rows)
        for field in ("features", "labels", "source_probs", "image_index"):
            np.testing.assert_array_equal(getattr(kept, field), getattr(observations, field)[rows])
        np.testing.assert_array_equal(kept.image_embeddings, np.eye(3)[[0, 2]])

    @pytest.mark.parametrize(("n", "counts"), [(15, [5, 5, 5]), (34, [10, 12, 12]), (50, [10, 20, 20])])
    def test_thinned_takes_as_many_of_every_image(self, n, counts):
        thin = self.observations().thinned(n, seed=0)
        assert np.bincount(thin.image_index, minlength=10)[[2, 4, 9]].tolist() == counts

    def test_thinned_keeps_the_same_places_whatever_the_features(self):
        observations = self.observations()
        other = replace(observations, features=np.arange(60.0)[:, None])
        one, two = other.thinned(20, 0), other.thinned(20, 1)
        places = one.features[:, 0].astype(int)
        np.testing.assert_array_equal(observations.thinned(20, 0).features, observations.features[places])
        assert places.tolist() == sorted(set(places))
        assert places.tolist() != two.features[:, 0].astype(int).tolist()

    def test_thinned_to_more_than_there_are_is_the_same(self):
        observations = self.observations()
        assert observations.thinned(60, 0) is observations

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"image_index": None}, "image_embeddings without image_index"),
            ({"image_embeddings": np.eye(2)}, r"image_embeddings has shape \(2, 2\); 3 images need"),
            ({"image_embeddings": np.full((3, 2), np.nan)}, r"image_embeddings\[0, 0\] is nan"),
        ],
    )
    def test_embeddings_belong_to_images(self, changed, message):
        with pytest.raises(ObservationsError, match=message):
            replace(self.observations(), **changed)


class TestImageGroups:
    def test_are_the_ranks_of_the_images_modulo_ten(self):
        index = np.repeat(np.arange(12) * 5 + 3, 2)[::-1]
        assert image_groups(index).tolist() == np.repeat(np.arange(12) % 10, 2)[::-1].tolist()

    def test_leave_no_group_empty(self):
        assert np.unique(image_groups(np.array([7, 7, 19, 800]))).tolist() == [0, 1, 2]


class TestMoments:
    @pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("shape", [(300, 8, 4), (50, 120, 3), (9001, 5, 6)])
    def test_are_those_of_the_rows(self, kind, order, shape):
        features, labels = data(*shape)
        features = np.array(features, dtype=kind, order=order)
        assert_moments(moments_of(features, labels).total(), features, labels)

    @pytest.mark.parametrize("offset", [1e4, -1e6])
    def test_lose_nothing_to_large_offsets(self, offset):
        features, labels = data(offset=offset)
        exact = features - np.round(features.mean(axis=0))
        moments = moments_of(features, labels).total()
        np.testing.assert_allclose(moments.covariance, np.cov(exact.T, ddof=0), rtol=0, atol=1e-11 * exact.var())

    def test_lose_nothing_where_the_first_rows_are_unlike_the_rest(self):
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
        monkeypatch.setattr(_blocks, "BLOCK_ROWS", 11)
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
