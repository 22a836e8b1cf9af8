from dataclasses import replace

import numpy as np
import pytest
import torch

from seg_transfer import metrics
from seg_transfer.arrays import arrays_of, neighbors
from seg_transfer.arrays.neighbors import nearest
from seg_transfer.errors import ConfigError, ObservationsError
from seg_transfer.metrics import METRICS, _knn, knn, score_all
from seg_transfer.metrics._base import Statistics
from seg_transfer.observations import Observations, image_groups


def slow_predictions(features, labels, images, k):
    """Predict the label of every row with loops and sorted lists."""
    rows = [np.asarray(row, dtype=np.float64) for row in features]
    rows = [row / np.linalg.norm(row) if row.any() else row for row in rows]
    predicted = []
    for i in range(len(rows)):
        others = [j for j in range(len(rows)) if images[j] != images[i]]
        nearest = sorted(others, key=lambda j: (-np.round(np.sum(rows[i] * rows[j]), 12), j))[:k]
        votes = [labels[j] for j in nearest]
        most = max(votes.count(label) for label in votes)
        predicted.append(next(label for label in votes if votes.count(label) == most))
    return np.array(predicted)


def mean_recall(predicted, labels):
    recalls = [np.mean(predicted[labels == label] == label) for label in np.unique(labels)]
    return sum(recalls) / len(recalls)


def slow_knn(features, labels, images, k=20):
    return mean_recall(slow_predictions(features, labels, images, k), labels)


def coarse_world(width, kind=float, n=120, seed=0):
    """Features in {-1, 0, 1}: equal rows, parallel rows, zero rows and equal similarities everywhere."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=n)
    features = np.clip(rng.integers(-2, 3, size=(n, width)) * (rng.random((n, width)) < 0.6), -1, 1)
    features[:, 0] = (labels > 1) * rng.integers(1, 4, size=n)
    return features.astype(kind), labels, rng.integers(9, size=n)


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("shape", [(150, 10, 5, 23), (60, 150, 3, 5), (37, 3, 2, 2), (100, 700, 12, 40)])
def test_equals_the_brute_force(world, shape, k):
    observations = world(*shape)
    data = observations.features, observations.labels, observations.image_index
    assert knn(*data, k=k) == pytest.approx(slow_knn(*data, k=k), rel=1e-14)


@pytest.mark.parametrize("k", [1, 4, 20])
@pytest.mark.parametrize("width", [1, 3, 8])
def test_equals_the_brute_force_where_most_similarities_are_ties(width, k):
    data = coarse_world(width)
    assert knn(*data, k=k) == pytest.approx(slow_knn(*data, k=k), rel=1e-14)


@pytest.mark.parametrize("share", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("block", [7, 256])
@pytest.mark.parametrize("most", [0, 16])
def test_blocks_tiles_and_many_candidates_change_nothing(world, monkeypatch, share, block, most):
    observations = world()
    worlds = [(observations.features, observations.labels, observations.image_index), coarse_world(5)]
    expected = [knn(*data) for data in worlds]
    monkeypatch.setattr(neighbors, "LARGE_SHARE", share)
    monkeypatch.setattr(neighbors, "BLOCK_ROWS", block)
    monkeypatch.setattr(neighbors, "TILE_ROWS", block + 6)
    monkeypatch.setattr(neighbors, "MOST_PER_NEIGHBOR", most)
    monkeypatch.setattr(neighbors, "PAIRS", block + 4)
    assert [knn(*data) for data in worlds] == expected


def kept_by(screen, images, k):
    """Return the candidates of all rows (2, N, N), found by tiles and in one block."""
    kept = np.zeros((2, len(images), len(images)), bool)
    kept[0].ravel()[screen.pairs(images, k)[0]] = True
    kept[1][screen.pairs_of(slice(0, len(images)), images, k)[:2]] = True
    return kept


@pytest.mark.parametrize("offset", [0.0, 30.0, 1e4])
def test_the_screen_keeps_every_neighbor_and_little_else(world, monkeypatch, offset):
    monkeypatch.setattr(neighbors, "TILE_ROWS", 90)
    observations = world(400, 60)
    rows, images = _knn._unit_rows(observations.features + offset), observations.image_index
    kept = kept_by(neighbors._Screen.of(rows), images, 20)
    similarities = np.where(images[:, None] == images, -np.inf, np.round(rows @ rows.T, 12))
    nearest = similarities >= np.sort(similarities, axis=1)[:, [-20]]
    assert not (nearest & ~kept).any()
    assert (kept.sum(axis=(1, 2)) < 1.5 * 20 * 400).all()


def test_two_rows_that_float32_does_not_tell_apart_are_in_exact_order():
    rng = np.random.default_rng(5)
    angles = np.repeat(rng.uniform(0.1, 1.5, size=20), 2) + 1e-8 * rng.normal(size=40)
    rows = np.column_stack([np.cos(angles), np.sin(angles)])
    exact = np.round(rows @ rows.T, 12)
    np.fill_diagonal(exact, -np.inf)
    expected = np.argsort(-exact, axis=1, kind="stable")[:, :39]
    np.testing.assert_array_equal(nearest(rows, np.arange(40), 39), expected)


def test_many_equal_rows_are_not_kept_as_pairs():
    screen = neighbors._Screen.of(np.tile(np.eye(4), (250, 1)))
    assert screen.pairs(np.arange(1000), 5) is None


def test_a_screen_without_a_margin_would_lose_neighbors():
    """The similarities differ by less than float32 holds: the exact ones decide."""
    rng = np.random.default_rng(3)
    rows = _knn._unit_rows(np.repeat(rng.normal(size=(6, 20)), 20, axis=0) + 1e-5 * rng.normal(size=(120, 20)))
    labels, images = rng.integers(3, size=120), np.arange(120) % 20
    assert knn(rows, labels, images, k=5) == pytest.approx(slow_knn(rows, labels, images, k=5), rel=1e-14)
    blind = replace(neighbors._Screen.of(rows), margins=np.zeros(120))
    kept = kept_by(blind, images, 5)
    exact = np.where(images[:, None] == images, -np.inf, np.round(rows @ rows.T, 12))
    assert ((exact >= np.sort(exact, axis=1)[:, [-5]]) & ~kept).any(axis=(1, 2)).all()


def test_values_by_hand():
    features, images = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [1.0, 0.9]]), np.array([0, 0, 1, 1])
    # Row 3 lies at 42 degrees, so that its neighbor is row 0 of class 0: recalls 1 and 1/2.
    assert knn(features, np.array([0, 1, 0, 1]), images, k=1) == 0.75
    # Of unequal classes, each counts the same: 3 of 3 and 0 of 1, not 3 of 4.
    assert knn(features, np.array([0, 7, 0, 0]), images, k=1) == 0.5


def test_the_majority_wins_and_the_nearest_decides_between_equal_classes():
    at = np.radians([0, 1, 2, 3, 4])
    features, images = np.column_stack([np.cos(at), np.sin(at)]), np.array([0, 1, 1, 1, 1])
    codes = np.array([0, 1, 2, 2, 1])
    rows = _knn._unit_rows(features)

    def prediction(k):
        return _knn._majorities(codes, nearest(rows, images, k))[0]

    # Neighbors of row 0, nearest first: classes 1, 2, 2, 1.
    assert [prediction(k) for k in (1, 2, 3, 4)] == [1, 1, 2, 1]


def test_of_equally_similar_rows_the_first_is_nearer():
    features, labels = np.array([[2.0, 1.0], [6.0, 3.0], [0.3, 0.15], [4.0, 2.0]]), np.array([0, 1, 0, 1])
    # All four are parallel. Rows 0 and 1 see row 2, of class 0; rows 2 and 3 see row 0, of class 0.
    assert knn(features, labels, np.array([0, 0, 1, 1]), k=1) == 0.5
    assert knn(features, 1 - labels, np.array([0, 0, 1, 1]), k=1) == 0.5
    assert knn(features, np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1]), k=1) == 0.5
    assert knn(features, np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1]), k=1) == 0.0


def test_zero_rows_are_as_far_as_orthogonal_ones():
    features = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [-1.0, 0.0], [0.0, 5.0]])
    labels, images = np.array([0, 1, 0, 1, 1]), np.array([0, 0, 1, 1, 1])
    rows = _knn._unit_rows(features)
    assert rows.tolist() == [[0, 0], [1, 0], [0, 0], [-1, 0], [0, 1]]
    # Row 0 is 0 from all, and sees row 2; row 1 is 0 from rows 2 and 4; rows 2, 3 and 4 see row 0.
    assert _knn._majorities(labels, nearest(rows, images, 1)).tolist() == [0, 0, 0, 0, 0]
    assert knn(features, labels, images, k=1) == 0.5


def test_all_vote_where_other_images_hold_fewer_than_k():
    features = np.array([[1.0, 0.0], [1.0, 0.2], [0.0, 1.0], [1.0, 0.1]])
    labels, images = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    # The first three see row 3 alone, of class 1; row 3 sees two of class 0 and one of class 1.
    assert knn(features, labels, images) == knn(features, labels, images, k=3) == (0 / 2 + 1 / 2) / 2
    assert knn(features, labels, images, k=1000) == knn(features, labels, images)


def test_shuffled_labels_score_as_guesses(world):
    observations = world(3000, 10, 4, 60)
    data = observations.features, observations.image_index
    shuffled = np.random.default_rng(1).permutation(observations.labels)
    assert knn(data[0], observations.labels, data[1]) > 0.5
    assert knn(data[0], shuffled, data[1]) == pytest.approx(1 / 4, abs=0.03)


def test_pixels_of_the_same_image_would_leak():
    """Images differ by a random offset and have one class each, so that only pixels of the same image know it."""
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(80), 8)
    features = 5 * rng.normal(size=(80, 30))[images] + rng.normal(size=(640, 30))
    labels = images % 2
    assert knn(features, labels, np.arange(640), k=5) == 1.0
    assert knn(features, labels, images, k=5) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.float16, np.float32])
def test_the_type_of_the_features_does_not_matter(kind):
    data = coarse_world(6, kind)
    assert knn(*data) == knn(*coarse_world(6)) == pytest.approx(slow_knn(*data), rel=1e-14)


def test_large_means_do_not_cost_precision(world):
    observations = world(150)
    data = observations.features + 1e4, observations.labels, observations.image_index
    score = knn(*data)
    assert score == pytest.approx(slow_knn(*data), rel=1e-14)
    # Powers of two change no digit, though their fourth powers overflow.
    assert knn(data[0] * 2.0**200, *data[1:]) == knn(data[0] * 2.0**-400, *data[1:]) == score


def test_replicates_are_those_of_the_same_predictions(world):
    observations = world(150, n_images=23)
    labels, groups = observations.labels, image_groups(observations.image_index)
    score = score_all(observations, ["knn"])["knn"]
    predicted = slow_predictions(observations.features, labels, observations.image_index, 20)
    by_hand = [mean_recall(predicted[groups != group], labels[groups != group]) for group in range(10)]
    np.testing.assert_allclose(score.replicates, by_hand, rtol=1e-14)
    assert score.standard_error == pytest.approx(np.sqrt(9 * np.var(by_hand)), rel=1e-12)
    assert score.score == score_all(observations, ["knn"], standard_errors=False)["knn"].score
    assert score_all(observations, ["knn"], "all")["knn"] == score


def test_only_the_subsample_counts_and_images_keep_their_groups(world):
    observations = world(n_images=23)
    groups, few = image_groups(observations.image_index), {"k": 3, "max_observations": 12, "seed": 4}
    found = METRICS["knn"].scores(Statistics(observations, groups), **few)
    chosen = observations.subsample(12, 4)
    predicted = slow_predictions(chosen.features, chosen.labels, chosen.image_index, 3)
    # Some images are not in the subsample: their ranks in it would give other groups.
    assert len(np.unique(chosen.image_index)) < 23
    group = np.unique(observations.image_index).searchsorted(chosen.image_index) % 10
    by_hand = [mean_recall(predicted[kept], chosen.labels[kept]) for kept in (group != g for g in range(10))]
    np.testing.assert_allclose(found, [mean_recall(predicted, chosen.labels), *by_hand], rtol=1e-14)


def test_the_subsample_is_noted(world, monkeypatch):
    few = replace(METRICS["knn"], settings={"k": 3, "max_observations": 100, "seed": 4})
    monkeypatch.setattr(metrics, "METRICS", {"knn": few})
    assert score_all(world(), ["knn"])["knn"].note == "fitted on 100 of 400 observations"


@pytest.mark.parametrize(("setting", "value"), [("k", 0), ("max_observations", 1)])
def test_settings_outside_their_range_are_refused(world, setting, value):
    observations = world()
    with pytest.raises(ConfigError, match=f"metric setting {setting} is {value}; it must be . or more"):
        knn(observations.features, observations.labels, observations.image_index, **{setting: value})


def test_one_image_is_refused_in_one_line(world):
    observations = world()
    index = np.full_like(observations.labels, 9)
    with pytest.raises(ObservationsError, match=r"^image_index holds one image; .*: sample at least two images$"):
        knn(observations.features, observations.labels, index)
    with pytest.raises(ObservationsError, match="sample at least two images"):
        score_all(replace(observations, image_index=index, image_embeddings=None), ["knn"])


def test_a_class_of_a_single_image_is_never_found():
    rng = np.random.default_rng(2)
    images = np.repeat([0, 1, 2], 20)
    features, labels = rng.normal(size=(60, 4)) + np.where(images < 2, 100, -100)[:, None], np.where(images < 2, 3, 5)
    statistics = Statistics(Observations(features, labels, image_index=images), images)
    # Recalls 1 and 0; a single class is left without the last image.
    assert METRICS["knn"].scores(statistics, **METRICS["knn"].settings) == [0.5, 0.5, 0.5, None]


def test_no_product_of_a_tile_is_taken_twice(monkeypatch):
    """The products of all pairs of rows are symmetric: half of them, and the tiles on the diagonal, are enough."""
    taken, products = [], neighbors._Screen._products
    monkeypatch.setattr(neighbors, "TILE_ROWS", 10)
    monkeypatch.setattr(
        neighbors._Screen, "_products", lambda self, *tiles: taken.append(tiles[:2]) or products(self, *tiles)
    )
    rows = _knn._unit_rows(np.random.default_rng(0).normal(size=(45, 6)))
    nearest(rows, np.arange(45), 3)
    assert len(taken) == 5 * 6 / 2
    assert all(one.start <= other.start for one, other in taken)


@pytest.mark.parametrize(("n", "k"), [(1000, 3), (1000, 40), (47, 3), (20, 20)])
def test_the_bound_of_the_kth_largest_is_never_above_it(n, k):
    values = np.random.default_rng(n + k).normal(size=(50, n)).astype(np.float32)
    values[0] = 1.0
    values[1, k // 2 :] = -np.inf
    ordered = -np.sort(-values, axis=1)
    at_once = neighbors._largest(values, k)
    in_two = neighbors._largest(values[:, n // 2 :], k, neighbors._largest(values[:, : n // 2], k))
    for found in (at_once.min(axis=1), in_two.min(axis=1)):
        assert (found <= ordered[:, k - 1]).all()
        # Half of 2 k parts hold one of k log 4 = 1.4 k numbers.
        assert np.count_nonzero(values[2:] >= found[2:, None], axis=1).mean() < 1.5 * k


@pytest.mark.parametrize("k", [1, 5, 30])
def test_neighbors_by_hand_and_on_a_device_are_the_same(k):
    """Most similarities are ties, images hold one row to many, and k may be all rows."""
    features, _, images = coarse_world(4, n=30)
    images[images > 4] = 4
    rows = _knn._unit_rows(features)
    similar = np.round(rows @ rows.T, 12)
    for i, found in enumerate(nearest(rows, images, k).tolist()):
        others = sorted(np.flatnonzero(images != images[i]), key=lambda j: (-similar[i, j], j))[:k]
        assert found == [*others, *[-1] * (k - len(others))]
    native = torch.from_numpy(rows)
    np.testing.assert_array_equal(arrays_of(native).nearest(native, images, k), nearest(rows, images, k))
