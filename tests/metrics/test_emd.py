from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import OptimizeResult, linprog
from scipy.spatial.distance import cdist

from seg_transfer.errors import ConfigError, ObservationsError
from seg_transfer.metrics import emd, score_all
from seg_transfer.observations import Observations


def slow_emd(x, y, source_x, source_y, gamma=0.01):
    means = [
        np.stack([f[t == label].mean(axis=0) for label in np.unique(t)]) for f, t in ((x, y), (source_x, source_y))
    ]
    weights = np.concatenate([np.unique(t, return_counts=True)[1] / len(t) for t in (y, source_y)])
    n, m = map(len, means)
    sums = np.vstack([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    return np.exp(-gamma * linprog(cdist(*means).ravel(), A_eq=sums, b_eq=weights, method="highs").fun)


def pair(world, seed=1):
    target, source = world(), world(n=250, n_classes=4, seed=seed)
    return target.features, target.labels, source.features, source.labels


@pytest.mark.parametrize("gamma", [0.01, 0.5])
def test_equals_the_definition(gamma, world):
    assert emd(*pair(world), gamma=gamma) == pytest.approx(slow_emd(*pair(world), gamma), rel=1e-9)


def test_a_value_by_hand():
    # Means 0 (weight 3/4) and 10 (1/4) against 1 and 7, half each: 1/4 must go from 0 to 7, 1/4 from 10 to 7.
    features, labels = np.array([[0.0], [0.0], [0.0], [10.0]]), np.array([0, 0, 0, 1])
    source, source_labels = np.array([[1.0], [7.0]]), np.array([5, 6])
    distance = 0.5 * 1 + 0.25 * 7 + 0.25 * 3
    assert emd(features, labels, source, source_labels) == pytest.approx(np.exp(-0.01 * distance), rel=1e-12)


def test_the_same_data_has_no_distance(world):
    target = world()
    assert emd(target.features, target.labels, target.features, target.labels) == pytest.approx(1.0, abs=1e-9)


def test_large_offsets_do_not_cost_precision(world):
    features, labels, source, source_labels = pair(world)
    offset = 1e4 * features.std(axis=0)
    there, source_there = features + offset, source + offset
    expected = emd(there - offset, labels, source_there - offset, source_labels)
    assert emd(there, labels, source_there, source_labels) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("unit", [1e-30, 1e-9, 1e9, 1e30])
def test_the_unit_of_the_features_does_not_matter(unit, world):
    features, labels, source, source_labels = pair(world)
    found = emd(unit * features, labels, unit * source, source_labels, gamma=0.01 / unit)
    assert found == pytest.approx(emd(features, labels, source, source_labels), rel=1e-10)


def test_a_class_of_one_observation_among_many_counts():
    features = np.append(np.zeros(199_999), 4e6)[:, None]
    labels = np.append(np.zeros(199_999, int), 1)
    # Of the mass, 1 / 200,000 must go from 4,000,000 to 0.
    assert emd(features, labels, np.zeros((2, 1)), np.array([0, 1])) == pytest.approx(np.exp(-0.2), rel=1e-10)


def test_without_a_solution_the_solver_s_message_is_passed_on(world, monkeypatch):
    monkeypatch.setattr("scipy.optimize.linprog", lambda *_, **__: OptimizeResult(status=4, message="Too hard."))
    with pytest.raises(ObservationsError, match=r"emd found no least cost \(Too hard"):
        emd(*pair(world))


def test_standard_error_leaves_out_the_target_s_images_only(world):
    observations = world()
    score = score_all(observations, ["emd"])["emd"]
    source = observations.source_images
    groups = observations.image_index % 10
    expected = [
        slow_emd(observations.features[groups != g], observations.labels[groups != g], source.features, source.labels)
        for g in range(10)
    ]
    np.testing.assert_allclose(score.replicates, expected, rtol=1e-9)
    assert score.standard_error > 0


def test_sides_that_cannot_be_compared_are_refused(world):
    features, labels, source, source_labels = pair(world)
    with pytest.raises(ObservationsError, match=r"10 channels.*source_images 9"):
        emd(features, labels, source[:, 1:], source_labels)
    without = replace(world(), source_images=Observations(None, world(seed=1).labels, world(seed=1).source_probs))
    with pytest.raises(ObservationsError, match="source_images have no features"):
        score_all(without, ["emd"])


def test_settings_outside_their_range_are_refused(world):
    with pytest.raises(ConfigError, match="gamma"):
        emd(*pair(world), gamma=0.0)
