import numpy as np
import pytest
import scipy.linalg
from scipy.optimize import linear_sum_assignment

from seg_transfer.metrics import _otdd
from seg_transfer.metrics._otdd import otdd


def slow_wasserstein(rows, other_rows):
    """W^2 of the two Gaussians, with matrix roots."""
    cov, other = np.cov(rows.T, ddof=0), np.cov(other_rows.T, ddof=0)
    root = scipy.linalg.sqrtm(cov)
    common = scipy.linalg.sqrtm(root @ other @ root)
    shift = rows.mean(axis=0) - other_rows.mean(axis=0)
    return shift @ shift + np.trace(cov + other - 2 * common.real)


def slow_otdd(features, labels, source_features, source_labels):
    """Every observation taken as often as makes both sides equally long, and each assigned to one of the other side."""
    length = np.lcm(len(labels), len(source_labels))
    cost = np.empty((len(labels), len(source_labels)))
    for y in np.unique(labels):
        for z in np.unique(source_labels):
            rows, others = features[labels == y], source_features[source_labels == z]
            squares = ((rows[:, None] - others[None]) ** 2).sum(axis=2)
            cost[np.ix_(labels == y, source_labels == z)] = squares + slow_wasserstein(rows, others)
    cost = cost.repeat(length // len(labels), axis=0).repeat(length // len(source_labels), axis=1)
    return -np.sqrt(cost[linear_sum_assignment(cost)].mean())


def pair(world, n=200, m=200, d=10):
    target, source = world(n=n, d=d), world(n=m, d=d, n_classes=4, seed=1)
    return target.features, target.labels, source.features, source.labels


@pytest.mark.parametrize("sizes", [(200, 200), (60, 40), (30, 90)])
def test_equals_the_definition_with_matrix_roots(sizes, world):
    # 20 to 100 observations of 6 channels: covariances of full rank, of which matrix roots are exact enough.
    features, labels, source_features, source_labels = pair(world, *sizes, d=6)
    labels, source_labels = np.minimum(labels, 1), np.minimum(source_labels, 1)
    arguments = (features, labels, source_features, source_labels)
    assert otdd(*arguments) == pytest.approx(slow_otdd(*arguments), rel=1e-9)


@pytest.mark.filterwarnings("ignore:Matrix is singular")
def test_equals_the_definition_where_covariances_are_singular(world):
    features, labels, source_features, source_labels = pair(world, 40, 40, d=20)
    labels[-1], source_labels[-1] = 77, 99
    arguments = (features, labels, source_features, source_labels)
    assert otdd(*arguments) == pytest.approx(slow_otdd(*arguments), rel=1e-6)


def test_one_observation_of_each_class_by_hand():
    # 0 goes to 1 and 4 to 6; a class of one observation has no spread: (1 + 1 + 4 + 4) / 2.
    features, source_features = np.array([[0.0], [4.0]]), np.array([[1.0], [6.0]])
    assert otdd(features, np.array([0, 1]), source_features, np.array([8, 3])) == pytest.approx(-np.sqrt(5), rel=1e-14)


def test_spreads_by_hand():
    # Class means agree, standard deviations are 1 and 3 (ddof 0): every observation moves by 2, and W^2 = (3 - 1)^2.
    features, source_features = np.array([[-1.0], [1.0], [99.0], [101.0]]), np.array([[-3.0], [3.0], [97.0], [103.0]])
    labels = np.array([0, 0, 1, 1])
    assert otdd(features, labels, source_features, labels) == pytest.approx(-np.sqrt(8), rel=1e-12)


def test_labels_decide_where_features_do_not():
    # The same points; the source splits them by the other channel. Each class of one side has W^2 to each of the other.
    features = np.array([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]])
    columns, rows = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert otdd(features, columns, features, columns) == pytest.approx(0, abs=1e-6)
    # Means differ by (1, 1); variances (0, 1) against (1, 0) have nothing in common: W^2 = 2 + 1 + 1.
    assert otdd(features, columns, features, rows) == pytest.approx(-2, rel=1e-12)


def test_a_shift_between_the_sides_counts_for_features_and_for_labels(world):
    target = world()
    shift = np.random.default_rng(1).normal(size=10)
    for size in (1.0, 1e6):
        moved = otdd(target.features, target.labels, target.features + size * shift, target.labels)
        assert moved == pytest.approx(-np.sqrt(2) * size * np.linalg.norm(shift), rel=1e-9)


def test_equal_sides_have_no_distance(world):
    target = world()
    assert -1e-5 < otdd(target.features, target.labels, target.features, target.labels) <= 0


def test_both_sides_count_alike(world):
    features, labels, source_features, source_labels = pair(world, 60, 50)
    assert otdd(source_features, source_labels, features, labels) == pytest.approx(
        otdd(*pair(world, 60, 50)), rel=1e-12
    )


def test_a_shift_of_both_sides_a_rotation_duplicates_and_order_change_nothing(world):
    features, labels, source_features, source_labels = pair(world)
    expected, rng = otdd(*pair(world)), np.random.default_rng(3)
    rotation, order = np.linalg.qr(rng.normal(size=(10, 10)))[0], rng.permutation(200)
    for changed in (
        otdd(features + 7, labels, source_features + 7, source_labels),
        otdd(features @ rotation, labels, source_features @ rotation, source_labels),
        otdd(np.repeat(features, 2, axis=0), np.repeat(labels, 2), source_features, source_labels),
        otdd(features[order], labels[order], source_features, source_labels),
    ):
        assert changed == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("scale", [1e-9, 300, 1e60])
def test_the_distance_has_the_unit_of_the_features(scale, world):
    features, labels, source_features, source_labels = pair(world)
    scaled = otdd(features * scale, labels, source_features * scale, source_labels)
    assert scaled == pytest.approx(scale * otdd(*pair(world)), rel=1e-11)


def test_channels_that_do_not_vary_add_nothing_and_doubled_ones_count_twice(world):
    features, labels, source_features, source_labels = pair(world, 30, 25, d=60)
    padded, source_padded = (np.hstack([x, np.full((len(x), 3), 0.1), x[:, :2]]) for x in (features, source_features))
    weights = np.where(np.arange(60) < 2, np.sqrt(2), 1)
    assert otdd(padded, labels, source_padded, source_labels) == pytest.approx(
        otdd(features * weights, labels, source_features * weights, source_labels), rel=1e-11
    )


def test_a_class_with_more_observations_than_channels_has_a_small_factor(world):
    rows = world().features
    factor = _otdd._gaussians(rows, np.zeros(len(rows), int))[1][0]
    assert factor.shape == (10, 10)
    np.testing.assert_allclose(factor.T @ factor, np.cov(rows.T, ddof=0), rtol=1e-11, atol=1e-13)
