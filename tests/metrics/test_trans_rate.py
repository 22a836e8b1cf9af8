import numpy as np
import pytest

from seg_transfer.errors import ConfigError
from seg_transfer.metrics import score_all, trans_rate
from seg_transfer.metrics._base import Statistics
from seg_transfer.metrics._trans_rate import _rate, coding_rates
from seg_transfer.observations import Observations, image_groups


def slow_rate(z, eps):
    """With the Gram matrix of the rows, which has the same determinant."""
    return np.linalg.slogdet(np.eye(len(z)) + z @ z.T / (len(z) * eps))[1] / 2


def slow_trans_rate(x, y, eps):
    z = x - x.mean(axis=0)
    return slow_rate(z, eps) - sum(np.mean(y == label) * slow_rate(z[y == label], eps) for label in np.unique(y))


@pytest.mark.parametrize("eps", [1e-4, 0.3])
@pytest.mark.parametrize("shape", [(400, 10, 5), (60, 150, 3), (300, 40, 12)])
def test_equals_the_definition(shape, eps, world):
    observations = world(*shape)
    expected = slow_trans_rate(observations.features, observations.labels, eps)
    assert trans_rate(observations.features, observations.labels, eps=eps) == pytest.approx(expected, rel=1e-10)


def test_a_value_by_hand():
    # Second moments diag(1/2, 1/2) of all, diag(0, 1) and diag(1, 0) of the classes.
    features = np.array([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0]])
    expected = np.log(1 + 0.5 / 0.25) - np.log(1 + 1 / 0.25) / 2
    assert trans_rate(features, np.array([7, 7, 9, 9]), eps=0.25) == pytest.approx(expected, rel=1e-14)


def test_classes_count_by_their_size():
    # Rates log(2) / 2 and log(5) / 2 of three quarters and one quarter of the observations.
    features = np.array([[1.0, 0.0], [-1.0, 0.0]] * 3 + [[0.0, 2.0], [0.0, -2.0]])
    whole = (np.log(1 + 0.75) + np.log(1 + 1)) / 2
    expected = whole - (0.75 * np.log(2) + 0.25 * np.log(5)) / 2
    assert trans_rate(features, np.repeat([0, 1], [6, 2]), eps=1.0) == pytest.approx(expected, rel=1e-14)


def test_large_offsets_do_not_cost_precision(world):
    observations = world()
    offset = 1e4 * observations.features.std(axis=0)
    there = observations.features + offset
    expected = trans_rate(there - offset, observations.labels)
    assert trans_rate(there, observations.labels) == pytest.approx(expected, rel=1e-10)


def test_channels_without_variance_and_repeated_ones(world):
    observations = world()
    x, y = observations.features, observations.labels
    expected = trans_rate(x, y)
    assert trans_rate(np.hstack([x, np.full((400, 3), 7.0)]), y) == pytest.approx(expected, rel=1e-12)
    # Two equal channels are one of sqrt(2) times the size.
    assert trans_rate(np.hstack([x, x]), y) == pytest.approx(trans_rate(np.sqrt(2) * x, y), rel=1e-10)


def test_a_class_of_one_observation(world):
    observations = world()
    labels = np.append(observations.labels[:-1], 77)
    expected = slow_trans_rate(observations.features, labels, 1e-4)
    assert trans_rate(observations.features, labels) == pytest.approx(expected, rel=1e-10)


def test_the_size_of_blocks_does_not_matter(world, monkeypatch):
    observations = world()
    whole = trans_rate(observations.features, observations.labels)
    monkeypatch.setattr("seg_transfer.arrays.host.BLOCK_ROWS", 7)
    assert trans_rate(observations.features, observations.labels) == pytest.approx(whole, rel=1e-12)


def test_is_the_same_where_class_moments_are_kept_apart_and_where_they_are_not(world):
    observations = Observations(world().features, world().labels)
    grouped = Statistics(observations, np.arange(400) % 10)
    rates = [coding_rates(statistics, 1e-4)[1] for statistics in (Statistics.ungrouped(observations), grouped)]
    np.testing.assert_allclose(*rates, rtol=1e-10)


@pytest.mark.parametrize("eps", [0.0, -1.0])
def test_a_distortion_that_is_none_is_refused(eps, world):
    with pytest.raises(ConfigError, match="eps"):
        trans_rate(world().features, world().labels, eps=eps)


@pytest.mark.parametrize("apart", [0.0, 1e3])
def test_kept_moments_and_a_second_pass_give_the_same(apart, world):
    """One class is a single observation, and classes may lie far apart."""
    observations = world(500, 40, 6)
    codes = np.where(observations.codes == 5, 4, observations.codes)
    codes[7] = 5
    x = observations.features + apart * np.random.default_rng(0).normal(size=(6, 40))[codes]
    given = Observations(x, codes, image_index=observations.image_index)
    kept, passed = Statistics.ungrouped(given), Statistics(given, image_groups(given.image_index))
    assert kept.class_moments is not None
    assert passed.class_moments is None
    (whole, rates), (other_whole, others) = coding_rates(kept, 1e-4), coding_rates(passed, 1e-4)
    assert whole == pytest.approx(other_whole, rel=1e-9)
    z = x - x.mean(axis=0)
    # Beside entries of this size, rounding changes the ones on the diagonal, and the logarithm of what is about one.
    rounding = 40 * np.finfo(float).eps * (z**2).max() / 1e-4
    np.testing.assert_allclose(rates, others, rtol=1e-11, atol=rounding)
    slow = [slow_rate(z[codes == code], 1e-4) for code in range(6)]
    np.testing.assert_allclose(rates, slow, rtol=1e-11, atol=rounding)


def test_a_matrix_that_rounding_makes_indefinite_has_a_rate():
    matrix = np.array([[1e20, 1e20], [1e20, 1e20]]) - np.diag([0, 1e5])
    assert np.isfinite(_rate(matrix, 1.0))


@pytest.mark.parametrize("apart", [0.0, 1e3])
def test_the_shared_pass_sums_the_products_of_every_class_for_it(apart, world, monkeypatch):
    observations = world(500, 40, 6)
    x = observations.features + apart * np.random.default_rng(0).normal(size=(6, 40))[observations.codes]
    given = Observations(x, observations.labels, image_index=observations.image_index)
    groups = image_groups(given.image_index)
    shared, passed = Statistics(given, groups, by_class=True), Statistics(given, groups)
    monkeypatch.setattr("seg_transfer.arrays.host.BLOCK_ROWS", 33)
    (whole, rates), (other_whole, others) = coding_rates(shared, 1e-4), coding_rates(passed, 1e-4)
    assert shared.moments.class_seconds is not None
    assert passed.moments.class_seconds is None
    assert whole == pytest.approx(other_whole, rel=1e-9)
    rounding = 40 * np.finfo(float).eps * ((x - x.mean(axis=0)) ** 2).max() / 1e-4
    np.testing.assert_allclose(rates, others, rtol=1e-11, atol=rounding)
    for group, other in zip(shared.moments.groups, passed.moments.groups, strict=True):
        np.testing.assert_allclose(group.second, other.second, rtol=1e-12, atol=1e-12 * np.abs(other.second).max())


def test_its_score_with_errors_takes_one_pass(world, monkeypatch):
    def refuse(*_):
        raise AssertionError("a second pass over the features")

    expected = score_all(world(), ["trans_rate"], standard_errors=False)["trans_rate"].score
    monkeypatch.setattr("seg_transfer.metrics._trans_rate.second_moment", refuse)
    found = score_all(world(), ["gbc", "trans_rate"])["trans_rate"].score
    assert found == pytest.approx(expected, rel=1e-10)
