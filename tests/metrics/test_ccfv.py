from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from seg_transfer.errors import ConfigError, ObservationsError
from seg_transfer.metrics import _ccfv, ccfv
from seg_transfer.metrics._ccfv import LARGEST_ASSIGNMENT, _subsample, _transport_cost, _wasserstein


def linear_program(one, other):
    """The first Wasserstein distance from its definition."""
    n, m = len(one), len(other)
    sums = np.vstack([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    weights = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    return linprog(cdist(one, other).ravel(), A_eq=sums, b_eq=weights, method="highs").fun


def slow_ccfv(x, y, images):
    distances = [
        linear_program(x[(y == label) & (images == one)], x[(y == label) & (images == other)])
        for label in np.unique(y)
        for one, other in combinations(np.unique(images[y == label]), 2)
    ]
    variety = []
    for image in np.unique(images):
        u = [row / np.linalg.norm(row) for row in x[images == image]]
        variety.append(1 / np.mean([1 / np.linalg.norm(one - other) for one, other in combinations(u, 2)]))
    return np.log(np.mean(variety) / np.mean(distances))


def test_equals_the_definition(world):
    observations = world(120, 6, 4, n_images=6)
    expected = slow_ccfv(observations.features, observations.labels, observations.image_index)
    found = ccfv(observations.features, observations.labels, observations.image_index)
    assert found == pytest.approx(expected, rel=1e-8)


def test_a_value_by_hand():
    features = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 3.0]])
    # One pair of images for each class, 1 and 2 apart; every image's two directions are sqrt(2) apart.
    expected = np.log(np.sqrt(2) / 1.5)
    assert ccfv(features, np.array([0, 1, 0, 1]), np.array([4, 4, 9, 9])) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("use_pot", [True, False])
@pytest.mark.parametrize("sizes", [(3, 3), (4, 6), (7, 5), (1, 8), (20, 19), (41, 1), (2, 41), (30, 29)])
def test_the_wasserstein_distance_is_exact_for_unequal_sides(sizes, use_pot):
    """With POT and without it."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(sizes[0], 3)), rng.normal(size=(sizes[1], 3)) + 0.5
    assert _wasserstein(cdist(one, other), use_pot) == pytest.approx(linear_program(one, other), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("sizes", [(1, 1), (1, 8), (5, 5), (7, 5), (4, 6), (20, 19)])
def test_transport_is_an_assignment_of_repeated_points(sizes, scale):
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(sizes[0], 3)), rng.normal(size=(sizes[1], 3)) + 0.5
    one[0] += 50  # beside far points the costs of near ones are small
    cost = cdist(one, other) * scale
    repeated = cost.repeat(sizes[1], axis=0).repeat(sizes[0], axis=1)
    assert _transport_cost(cost) == pytest.approx(repeated[linear_sum_assignment(repeated)].mean(), rel=1e-9)


@pytest.mark.parametrize("use_pot", [True, False])
def test_sides_whose_common_multiple_is_large_are_no_larger_problem(use_pot):
    """On a line the distance has a closed form; repeated points would be 9900 on either side, 784 MB of costs."""
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=99), rng.normal(size=100) + 0.1
    assert np.lcm(99, 100) > LARGEST_ASSIGNMENT
    found = _wasserstein(cdist(np.outer(one, [3.0, 4.0]), np.outer(other, [3.0, 4.0])), use_pot)
    assert found == pytest.approx(5 * wasserstein_distance(one, other), rel=1e-9)


def test_equal_points_have_no_distance():
    assert _transport_cost(np.zeros((3, 2))) == 0


def test_classes_that_move_from_image_to_image_score_lower(world):
    observations = world()
    steps = np.random.default_rng(0).normal(size=(23, 10))
    moved = observations.features + 2 * steps[observations.image_index]
    first, second = (ccfv(x, observations.labels, observations.image_index) for x in (observations.features, moved))
    assert second < first


def test_no_more_than_the_chosen_number_of_every_class_and_image(world):
    observations = world(2000, 4, 3, n_images=12)
    x, codes, images = _subsample(observations, 5, 20, 0)
    np.testing.assert_array_equal(np.unique(images), [0, 3, 6, 8, 11])
    counts = np.zeros((12, 3), int)
    np.add.at(counts, (images, codes), 1)
    available = np.zeros((12, 3), int)
    np.add.at(available, (observations.image_index, observations.codes), 1)
    np.testing.assert_array_equal(counts[[0, 3, 6, 8, 11]], np.minimum(available, 20)[[0, 3, 6, 8, 11]])
    assert (available > 20).any()
    assert len(x) == counts.sum()


def test_all_sources_keep_the_same_observations(world):
    observations = world(2000, 4, 3, n_images=12)
    rows = [_subsample(o, 5, 20, 0)[2] for o in (observations, world(2000, 9, 3, n_images=12))]
    np.testing.assert_array_equal(*rows)
    numbered = np.arange(2000.0)[:, None]
    kept = [
        _subsample(type(observations)(numbered, observations.labels, image_index=observations.image_index), 5, 20, s)
        for s in (0, 0, 1)
    ]
    np.testing.assert_array_equal(kept[0][0], kept[1][0])
    assert not np.array_equal(kept[0][0], kept[2][0])


def test_observations_with_the_same_features_are_no_pair(world):
    observations = world(60, 6, 3, n_images=4)
    twice = np.repeat(np.arange(60), 2)
    x, y, images = observations.features[twice], observations.labels[twice], observations.image_index[twice]
    once = ccfv(observations.features, observations.labels, observations.image_index)
    assert ccfv(x, y, images, pixels_per_class=100) == pytest.approx(once, rel=1e-10)


def test_constant_features_score_zero():
    labels, images = np.tile([0, 1], 6), np.repeat([0, 1, 2], 4)
    assert ccfv(np.ones((12, 3)), labels, images) == 0.0
    assert ccfv(np.zeros((12, 3)), labels, images) == 0.0


def test_a_class_in_two_images_is_needed():
    features = np.random.default_rng(0).normal(size=(6, 3))
    with pytest.raises(ObservationsError, match="no class occurs in two images"):
        ccfv(features, np.array([0, 0, 0, 1, 1, 1]), np.array([5, 5, 5, 8, 8, 8]))


@pytest.mark.parametrize("setting", [{"max_images": 1}, {"pixels_per_class": 0}])
def test_settings_outside_their_range_are_refused(setting, world):
    observations = world()
    with pytest.raises(ConfigError, match=next(iter(setting))):
        ccfv(observations.features, observations.labels, observations.image_index, **setting)


def test_the_score_is_the_same_without_pot(world, monkeypatch):
    observations = world(2000, 6, 4, n_images=12)
    arguments = observations.features, observations.labels, observations.image_index
    without, solved, coupling = ccfv(*arguments), [], _ccfv.coupling
    monkeypatch.setattr(_ccfv, "MANY", 1)
    monkeypatch.setattr(_ccfv, "coupling", lambda *given: solved.append(1) or coupling(*given))
    assert ccfv(*arguments) == pytest.approx(without, rel=1e-13)
    assert len(solved) > 10
    monkeypatch.setattr(_ccfv, "has_solver", lambda: False)
    assert ccfv(*arguments) == without
