import numpy as np
import pytest

from seg_transfer.metrics import h_score


def slow_h_score(features, labels):
    """The definition: every observation replaced by the mean of its class."""
    means = np.stack([features[labels == label].mean(axis=0) for label in labels])
    total, between = (np.atleast_2d(np.cov(matrix.T, ddof=0)) for matrix in (features, means))
    return np.trace(np.linalg.pinv(total, rcond=1e-10) @ between)


@pytest.mark.parametrize("shape", [(400, 10, 5), (90, 30, 3), (200, 1, 4)])
def test_equals_the_definition(shape, world):
    observations = world(*shape)
    assert h_score(observations.features, observations.labels) == pytest.approx(
        slow_h_score(observations.features, observations.labels), rel=1e-10
    )


def test_one_channel_is_the_correlation_ratio_by_hand():
    # Means 2 and 8, overall 5: between (9 + 9) / 2 = 9; total (25 + 1 + 1 + 25) / 4 = 13.
    features, labels = np.array([[0.0], [4.0], [6.0], [10.0]]), np.array([4, 4, 2, 2])
    assert h_score(features, labels) == pytest.approx(9 / 13, rel=1e-14)


def test_any_invertible_map_of_the_channels_leaves_it(world):
    observations = world()
    mixed = observations.features @ np.random.default_rng(2).normal(size=(10, 10)) * np.logspace(-6, 6, 10)
    assert h_score(mixed, observations.labels) == pytest.approx(
        h_score(observations.features, observations.labels), rel=1e-9
    )


def test_classes_without_scatter_reach_the_upper_end():
    labels = np.tile(np.arange(4), 10)
    assert h_score(np.eye(4)[labels], labels) == pytest.approx(3, rel=1e-12)
    assert h_score(np.eye(4)[labels][:, :2], labels) == pytest.approx(2, rel=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e4 / 3])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_channels_that_do_not_vary_are_dropped(constant, kind, world):
    observations = world(n=5000)
    features = np.hstack([np.full((5000, 2), constant), observations.features]).astype(kind)
    assert h_score(features, observations.labels) == pytest.approx(
        h_score(observations.features, observations.labels), rel=1e-11
    )


def test_a_channel_that_varies_in_its_last_digit_only_is_dropped(world):
    observations = world()
    jitter = np.where(observations.labels == 0, 0.1, np.nextafter(0.1, 1))
    features = np.hstack([jitter[:, None], observations.features])
    assert h_score(features, observations.labels) == pytest.approx(
        h_score(observations.features, observations.labels), rel=1e-12
    )


def test_no_channel_that_varies_scores_zero():
    assert h_score(np.full((30, 4), 0.3), np.tile([0, 1, 2], 10)) == 0


def test_more_channels_than_observations_span_every_class():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(30, 80)) + 5, np.tile([0, 1, 2], 10)
    assert h_score(features, labels) == pytest.approx(2, rel=1e-10)


def test_repeated_channels_count_once(world):
    observations = world()
    doubled = np.hstack([observations.features, 2 * observations.features[:, ::-1] - 1])
    assert h_score(doubled, observations.labels) == pytest.approx(
        h_score(observations.features, observations.labels), rel=1e-9
    )


def test_large_offsets_do_not_cost_precision(world):
    observations = world()
    offset = 1e4 * observations.features.std(axis=0)
    moved = (observations.features + offset) - offset
    assert h_score(moved + offset, observations.labels) == pytest.approx(h_score(moved, observations.labels), rel=1e-10)
