import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from seg_transfer.errors import ConfigError
from seg_transfer.metrics import METRICS, parc
from seg_transfer.metrics._base import Statistics


def slow_parc(x, y):
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    one_hot = (y[:, None] == np.unique(y)).astype(float)
    pairs = [(i, j) for i in range(len(x)) for j in range(i)]
    of_features = [1 - pearsonr(x[i], x[j])[0] for i, j in pairs]
    of_labels = [1 - np.corrcoef(one_hot[i], one_hot[j])[0, 1] for i, j in pairs]
    return spearmanr(of_features, np.round(of_labels, 12))[0]


def test_equals_the_definition(world):
    observations = world(60, 12, 4)
    expected = slow_parc(observations.features, observations.labels)
    assert abs(expected) > 0.1
    assert parc(observations.features, observations.labels) == pytest.approx(expected, rel=1e-10)


def test_labels_that_follow_the_features_correlate():
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(2, 30))
    labels = np.repeat([0, 1], 40)
    x = patterns[labels] + 0.01 * rng.normal(size=(80, 30))
    # All distances within a class below all between: the rank correlation of a yes-no sorted perfectly.
    n_same, n_pairs = 2 * 40 * 39 / 2, 80 * 79 / 2
    expected = np.corrcoef(np.arange(n_pairs), np.arange(n_pairs) >= n_same)[0, 1]
    assert parc(x, labels) == pytest.approx(expected, rel=1e-9)


def test_equal_rows_are_ties_whatever_the_rounding():
    rng = np.random.default_rng(1)
    x = np.repeat(rng.normal(size=(6, 9)), 5, axis=0)
    labels = rng.integers(3, size=30)
    order = rng.permutation(30)
    assert parc(x[order], labels[order]) == pytest.approx(parc(x, labels), rel=1e-13)


def test_channels_and_rows_without_variance(world):
    observations = world(80, 12, 4)
    x, y = observations.features, observations.labels
    assert parc(np.hstack([x, np.full((80, 2), 5.0)]), y) == parc(x, y)
    # A single channel has no correlation over channels, and equal features none over pairs.
    assert parc(x[:, :1], y) == 0.0
    assert parc(np.ones((80, 4)), y) == 0.0


def test_labels_that_are_all_different_have_nothing_to_compare(world):
    assert parc(world(30).features, np.arange(30)) == 0.0


def test_large_offsets_do_not_cost_precision(world):
    observations = world()
    x, y = observations.features, observations.labels
    there = x + 1e4 * x.std(axis=0)
    assert parc(there, y) == pytest.approx(parc(there - 1e4 * x.std(axis=0), y), rel=1e-7)


def test_only_the_subsample_counts(world):
    observations = world()
    found = METRICS["parc"].scores(Statistics.ungrouped(observations), max_observations=150, seed=4)
    chosen = observations.subsample(150, 4)
    assert found == [parc(chosen.features, chosen.labels)]
    with pytest.raises(ConfigError, match="max_observations"):
        parc(observations.features, observations.labels, max_observations=1)
