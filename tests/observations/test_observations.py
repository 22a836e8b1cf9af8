"""Pixel samples and observations: what they take, what they refuse, and parts of them."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from correlated_rows import data

from seg_transfer.errors import ObservationsError
from seg_transfer.observations import Observations, PixelSample, image_groups
from seg_transfer.observations import _observations as module


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

    def test_accepts_lists_and_memory_maps(self, tmp_path):
        assert Observations([[0.0, 1.0], [2.0, 3.0]], [4, 9]).classes.tolist() == [4, 9]
        features, labels = data()
        mapped = np.memmap(tmp_path / "features", dtype=np.float64, mode="w+", shape=features.shape)
        mapped[:] = features
        assert np.shares_memory(Observations(mapped, labels).features, mapped)

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
            (
                {"class_pixels": np.array([5, 6, 7])},
                r"class_pixels has shape \(3,\) .* 2 classes need integers of shape",
            ),
            ({"class_pixels": np.array([5.0, 6.0])}, "class_pixels has shape .* dtype float64"),
            ({"class_pixels": np.array([5, 0])}, r"class_pixels\[1\] is 0, but label 1 occurs"),
            ({"image_index": np.array([0.0, 0.0, 1.0, 1.0])}, "image_index has shape"),
        ],
    )
    def test_refuses_in_one_line(self, changed, message):
        fields = {"features": np.eye(4), "labels": np.array([0, 1, 0, 1]), **changed}
        with pytest.raises(ObservationsError, match=message) as caught:
            Observations(**fields)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("n_classes", [2, 150, 1000])
    def test_accepts_distributions_rounded_to_float16(self, n_classes):
        logits = 3 * np.random.default_rng(0).normal(size=(500, n_classes))
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        labels = np.arange(500) % 3
        assert Observations(None, labels, probs.astype(np.float16)).source_probs.dtype == np.float16


class TestSubset:
    def observations(self, n=60):
        rng = np.random.default_rng(3)
        index = rng.permutation(np.repeat([4, 9, 2], [n // 2, n // 3, n - n // 2 - n // 3]))
        labels = np.arange(n) % 2
        return Observations(rng.normal(size=(n, 3)), labels, np.eye(2)[labels], index, np.eye(3))

    def test_rows_keep_their_fields_and_images_their_embeddings(self):
        observations = self.observations()
        rows = observations.image_index != 4
        kept = observations.subset(rows)
        for field in ("features", "labels", "source_probs", "image_index"):
            np.testing.assert_array_equal(getattr(kept, field), getattr(observations, field)[rows])
        np.testing.assert_array_equal(kept.image_embeddings, np.eye(3)[[0, 2]])

    def test_classes_keep_their_pixels(self):
        observations = Observations(np.eye(4), np.array([9, -2, 9, 255]), class_pixels=[20, 90, 70])
        assert observations.class_pixels.tolist() == [20, 90, 70]
        assert observations.subset(np.array([1, 3])).class_pixels.tolist() == [20, 70]
        assert observations.subset(np.array([True, False, True, True])).class_pixels.tolist() == [90, 70]
        assert observations.subset(np.array([0, 1, 3])).class_pixels.tolist() == [20, 90, 70]

    @pytest.mark.parametrize(("n", "counts"), [(15, [5, 5, 5]), (34, [10, 12, 12]), (50, [10, 20, 20])])
    def test_a_subsample_has_as_many_of_every_image(self, n, counts):
        chosen = self.observations().subsample(n, seed=0)
        assert np.bincount(chosen.image_index, minlength=10)[[2, 4, 9]].tolist() == counts

    def test_a_subsample_keeps_the_same_rows_whatever_the_features(self):
        observations = self.observations()
        other = replace(observations, features=np.arange(60.0)[:, None])
        one, two = other.subsample(20, 0), other.subsample(20, 1)
        places = one.features[:, 0].astype(int)
        np.testing.assert_array_equal(observations.subsample(20, 0).features, observations.features[places])
        assert places.tolist() == sorted(set(places))
        assert places.tolist() != two.features[:, 0].astype(int).tolist()

    def test_several_subsamples_share_one_order(self, monkeypatch):
        observations, seeds = self.observations(), []
        draw = module.random_order
        monkeypatch.setattr(module, "random_order", lambda keys, seed: seeds.append(seed) or draw(keys, seed))
        for n, seed in [(34, 0), (20, 0), (20, 1), (15, 0)]:
            fresh = self.observations().subsample(n, seed)
            seeds.pop()
            np.testing.assert_array_equal(observations.subsample(n, seed).features, fresh.features)
        assert seeds == [0, 1]

    def test_a_subsample_of_all_or_more_is_the_same(self):
        observations = self.observations()
        assert observations.subsample(60, 0) is observations

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"image_index": None}, "image_embeddings are given without image_index"),
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
