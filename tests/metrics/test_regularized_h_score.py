import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from seg_transfer.metrics import h_score, regularized_h_score
from seg_transfer.metrics._regularized_h_score import ledoit_wolf_shrinkage
from seg_transfer.observations import MomentStatistics, Observations

SHAPES = [(400, 10, 5), (90, 30, 3), (40, 90, 3), (25, 200, 2)]


def slow_shrinkage(features):
    """Ledoit and Wolf's b^2 / d^2 observation by observation."""
    x = features - features.mean(axis=0)
    n, d = x.shape
    covariance = x.T @ x / n
    sphere = np.trace(covariance) / d * np.eye(d)
    scatter = sum(np.sum((np.outer(row, row) - covariance) ** 2) for row in x) / n**2
    return min(scatter / np.sum((covariance - sphere) ** 2), 1.0)


def shrinkage(features, labels):
    return ledoit_wolf_shrinkage(MomentStatistics.of(Observations(features, labels)).total())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_shrinkage_is_that_of_ledoit_and_wolf(shape, offset, world):
    observations = world(*shape)
    features = observations.features + offset
    expected = slow_shrinkage(observations.features)
    assert shrinkage(features, observations.labels) == pytest.approx(expected, rel=1e-9)
    assert expected == pytest.approx(LedoitWolf().fit(observations.features).shrinkage_, rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_definition(shape, world):
    features, labels = world(*shape).features, world(*shape).labels
    fitted = LedoitWolf().fit(features)
    means = np.stack([features[labels == label].mean(axis=0) for label in labels])
    between = (1 - fitted.shrinkage_) * np.cov(means.T, ddof=0)
    expected = np.trace(np.linalg.solve(fitted.covariance_, between))
    assert regularized_h_score(features, labels) == pytest.approx(expected, rel=1e-9)


def test_a_single_channel_is_not_shrunk():
    # Nothing to shrink: the covariance of one channel is a sphere already.
    features, labels = np.array([[0.0], [4.0], [6.0], [10.0]]), np.array([4, 4, 2, 2])
    assert regularized_h_score(features, labels) == pytest.approx(9 / 13, rel=1e-14)


def test_many_observations_leave_little_to_shrink(world):
    few, many = world(n=300), world(n=60_000)
    gaps = [
        h_score(world.features, world.labels) - regularized_h_score(world.features, world.labels)
        for world in (few, many)
    ]
    assert gaps[0] > 10 * gaps[1] > 0


def test_shrinkage_distinguishes_what_the_h_score_cannot():
    # With more channels than observations every labelling is perfectly explained.
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, 2], 10)
    noise = rng.normal(size=(30, 80))
    signal = noise + 2 * rng.normal(size=(3, 80))[labels]
    assert h_score(noise, labels) == pytest.approx(h_score(signal, labels), rel=1e-9)
    assert regularized_h_score(noise, labels) < 0.8 * regularized_h_score(signal, labels)


def test_dead_channels_take_part_in_the_sphere_and_stay_finite(world):
    observations = world()
    features = np.hstack([observations.features, np.full((400, 5), 0.1)])
    expected = LedoitWolf().fit(features)
    means = np.stack([features[observations.labels == label].mean(axis=0) for label in observations.labels])
    between = (1 - expected.shrinkage_) * np.cov(means.T, ddof=0)
    assert regularized_h_score(features, observations.labels) == pytest.approx(
        np.trace(np.linalg.solve(expected.covariance_, between)), rel=1e-9
    )
    assert regularized_h_score(np.full((30, 4), 0.3), np.tile([0, 1, 2], 10)) == 0
