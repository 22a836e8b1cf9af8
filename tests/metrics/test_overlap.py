"""Overlaps of classes: by hand, as the summands of GBC, and what decides between two sources."""

import numpy as np
import pytest

from seg_transfer.errors import ConfigError, ObservationsError
from seg_transfer.metrics import class_overlaps, deciding_classes, gbc

SETTINGS = [
    {},
    {"covariance": "spherical"},
    {"covariance": "full"},
    {"n_components": None, "ddof": 0},
    {"n_components": 3, "variance_floor": 0.1},
]


def test_two_gaussians_by_hand():
    # Means 1 and 5, variances 2 and 2: D_B = (4^2 / 4) / 4 = 1.
    found = class_overlaps(np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([3, 3, 8, 8]))
    np.testing.assert_allclose(found.overlaps, [[1, np.exp(-1)], [np.exp(-1), 1]], rtol=1e-14)
    assert found.classes.tolist() == [3, 8]
    assert found.counts.tolist() == [2, 2]


def test_unequal_variances_by_hand():
    # Means 1 and 4, variances 2 and 4: D_B = 3^2 / 6 / 4 + log(6 / 2 / sqrt(2 * 4)) / 2.
    found = class_overlaps(np.array([[0.0], [2.0], [2.0], [6.0], [4.0]]), np.array([0, 0, 1, 1, 1]))
    assert found.overlaps[0, 1] == pytest.approx(np.exp(-9 / 24) * np.sqrt(2 * np.sqrt(8) / 6), rel=1e-14)


@pytest.mark.parametrize("settings", SETTINGS)
def test_they_are_the_summands_of_gbc(settings, world):
    observations = world(n=900, d=12, n_classes=7, seed=4)
    features, labels = observations.features, observations.labels
    found = class_overlaps(features, labels, **settings)
    off_diagonal = found.overlaps[~np.eye(7, dtype=bool)]
    assert -off_diagonal.sum() == pytest.approx(gbc(features, labels, **settings), rel=1e-13)
    assert found.gbc == pytest.approx(gbc(features, labels, **settings), rel=1e-13)
    np.testing.assert_array_equal(found.overlaps, found.overlaps.T)
    np.testing.assert_array_equal(np.diag(found.overlaps), 1)
    assert (off_diagonal > 0).all()
    assert (off_diagonal < 1).all()
    assert found.counts.tolist() == [np.count_nonzero(labels == label) for label in range(7)]


def test_each_entry_is_the_gbc_of_two_classes_in_the_same_directions(world):
    observations = world(n_classes=4)
    features, labels = observations.features, observations.labels
    found = class_overlaps(features, labels, n_components=None)
    for i in range(4):
        for j in range(i):
            both = np.isin(labels, [i, j])
            expected = -gbc(features[both], labels[both], n_components=None) / 2
            assert found.overlaps[i, j] == pytest.approx(expected, rel=1e-12)


def test_renamed_classes_keep_their_overlaps(world):
    observations = world(n_classes=5)
    renamed = np.array([40, 7, 23, 11, 2])
    before = class_overlaps(observations.features, observations.labels)
    after = class_overlaps(observations.features, renamed[observations.labels])
    assert after.classes.tolist() == sorted(renamed)
    place = np.searchsorted(after.classes, renamed)
    np.testing.assert_allclose(after.overlaps[np.ix_(place, place)], before.overlaps, rtol=1e-10)
    np.testing.assert_array_equal(after.counts[place], before.counts)


def test_order_of_observations_does_not_matter(world):
    observations = world()
    order = np.random.default_rng(1).permutation(len(observations.labels))
    before = class_overlaps(observations.features, observations.labels)
    after = class_overlaps(observations.features[order], observations.labels[order])
    np.testing.assert_allclose(after.overlaps, before.overlaps, rtol=1e-9)


def test_settings_outside_their_range_are_refused(world):
    with pytest.raises(ConfigError, match="n_components"):
        class_overlaps(world().features, world().labels, n_components=0)


# --- two sources ---


@pytest.fixture
def two_sources(world):
    """The same target; in the second source classes 1 and 3 lie upon each other."""
    observations = world(n=1500, d=8, n_classes=5, seed=2)
    features, labels = observations.features, observations.labels
    apart = features + 9 * np.eye(8)[labels]
    confused = apart.copy()
    confused[labels == 3] += apart[labels == 1].mean(axis=0) - apart[labels == 3].mean(axis=0)
    return apart, confused, labels


def test_a_planted_confusion_decides(two_sources):
    apart, confused, labels = two_sources
    found = deciding_classes(class_overlaps(apart, labels), class_overlaps(confused, labels))
    assert found.total > 0
    assert set(np.argsort(-found.of_classes)[:2]) == {1, 3}
    assert divmod(int(found.of_pairs.argmax()), 5) in {(1, 3), (3, 1)}
    assert 2 * found.of_pairs[1, 3] > 0.9 * found.total


def test_classes_and_pairs_sum_to_the_difference(two_sources, world):
    _, _, labels = two_sources
    rng = np.random.default_rng(7)
    first, second = (rng.normal(size=(len(labels), 6)) + rng.normal(size=(5, 6))[labels] + 4 for _ in range(2))
    found = deciding_classes(class_overlaps(first, labels), class_overlaps(second, labels))
    difference = gbc(first, labels) - gbc(second, labels)
    assert found.of_classes.sum() == pytest.approx(difference, rel=1e-11)
    assert found.of_pairs.sum() == pytest.approx(difference, rel=1e-11)
    assert found.total == pytest.approx(difference, rel=1e-11)
    np.testing.assert_array_equal(found.of_pairs, found.of_pairs.T)
    np.testing.assert_array_equal(np.diag(found.of_pairs), 0)
    back = deciding_classes(class_overlaps(second, labels), class_overlaps(first, labels))
    np.testing.assert_array_equal(back.of_classes, -found.of_classes)


def test_a_source_does_not_differ_from_itself(two_sources):
    apart, _, labels = two_sources
    overlaps = class_overlaps(apart, labels)
    assert deciding_classes(overlaps, overlaps).of_classes.tolist() == [0] * 5


@pytest.mark.parametrize("change", [lambda labels: labels + 1, lambda labels: np.roll(labels[:-1], 1)])
def test_other_targets_are_refused(two_sources, change):
    apart, _, labels = two_sources
    other = change(labels)
    with pytest.raises(ObservationsError, match="different pixel samples"):
        deciding_classes(class_overlaps(apart, labels), class_overlaps(apart[: len(other)], other))
