import numpy as np
import pytest

from seg_transfer.metrics import h_score, lda_score


def slow_lda_score(features, labels):
    """The definition, with a singular value decomposition of the centered rows for the inverse."""
    means = np.stack([features[labels == label].mean(axis=0) for label in labels])
    _, singular, right = np.linalg.svd(features - means, full_matrices=False)
    kept = singular > 1e-9 * singular[0]
    along = (means - features.mean(axis=0)) @ right[kept].T
    return np.sum((along / singular[kept]) ** 2)


@pytest.mark.parametrize("shape", [(400, 10, 5), (90, 30, 3), (200, 1, 4), (40, 90, 3), (30, 30, 2)])
def test_equals_the_definition(shape, world):
    observations = world(*shape)
    assert lda_score(observations.features, observations.labels) == pytest.approx(
        slow_lda_score(observations.features, observations.labels), rel=1e-9
    )


def test_one_channel_is_the_ratio_of_variances_by_hand():
    # Means 2 and 8, overall 5: between (9 + 9) / 2 = 9; within (4 + 4 + 4 + 4) / 4 = 4.
    features, labels = np.array([[0.0], [4.0], [6.0], [10.0]]), np.array([4, 4, 2, 2])
    assert lda_score(features, labels) == pytest.approx(9 / 4, rel=1e-14)


def test_two_classes_follow_from_the_h_score(world):
    # Along the one direction that counts, H = between / (between + within).
    observations = world(n_classes=2)
    ratio = h_score(observations.features, observations.labels)
    assert lda_score(observations.features, observations.labels) == pytest.approx(ratio / (1 - ratio), rel=1e-10)


def test_dead_and_repeated_channels_change_nothing(world):
    observations = world()
    features = np.hstack([np.full((400, 2), 1e4 / 3), observations.features, 3 * observations.features[:, ::-1]])
    assert lda_score(features, observations.labels) == pytest.approx(
        lda_score(observations.features, observations.labels), rel=1e-9
    )


def test_a_channel_that_varies_between_classes_only_counts_nothing(world):
    observations = world()
    features = np.hstack([observations.features, 0.1 * observations.labels[:, None]])
    assert lda_score(features, observations.labels) == pytest.approx(
        lda_score(observations.features, observations.labels), rel=1e-9
    )
    assert lda_score(features[:, -1:], observations.labels) == 0


@pytest.mark.parametrize("shape", [(400, 10, 5), (40, 90, 3)])
def test_large_offsets_do_not_cost_precision(shape, world):
    observations = world(*shape)
    offset = 1e4 * observations.features.std(axis=0)
    moved = (observations.features + offset) - offset
    assert lda_score(moved + offset, observations.labels) == pytest.approx(
        lda_score(moved, observations.labels), rel=1e-9
    )
