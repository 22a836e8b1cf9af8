import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import cdist

from seg_transfer.errors import ConfigError, ObservationsError
from seg_transfer.metrics import _otce, _otdd, _transport
from seg_transfer.metrics._base import Statistics
from seg_transfer.metrics._otce import otce
from seg_transfer.metrics._otdd import otdd
from seg_transfer.observations import Observations


def linear_program(cost):
    """The coupling of uniform weights, from its definition."""
    n, m = cost.shape
    sums = np.vstack([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    weights = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    return linprog(cost.ravel(), A_eq=sums, b_eq=weights, method="highs").x.reshape(n, m)


def assignment(cost):
    rows, columns = linear_sum_assignment(cost)
    plan = np.zeros(cost.shape)
    plan[rows, columns] = 1 / len(cost)
    return plan


def slow_otce(features, labels, source_features, source_labels, solve):
    plan = solve(cdist(features, source_features, "sqeuclidean"))
    entropy = 0.0
    for z in np.unique(source_labels):
        share = plan[:, source_labels == z].sum()
        for y in np.unique(labels):
            both = plan[np.ix_(labels == y, source_labels == z)].sum()
            if both > 1e-12:
                entropy -= both * np.log(both / share)
    return -entropy


def pair(world, n=200, m=200, d=10):
    target, source = world(n=n, d=d), world(n=m, d=d, n_classes=4, seed=1)
    return target.features, target.labels, source.features, source.labels


def test_equals_the_definition_where_the_coupling_is_an_assignment(world):
    arguments = pair(world)
    assert otce(*arguments) == pytest.approx(slow_otce(*arguments, assignment), rel=1e-12)


@pytest.mark.parametrize("sizes", [(40, 23), (17, 40), (30, 20)])
def test_equals_the_definition_for_sides_of_unequal_sizes(sizes, world):
    arguments = pair(world, *sizes)
    assert otce(*arguments) == pytest.approx(slow_otce(*arguments, linear_program), rel=1e-9)


def test_two_source_classes_by_hand():
    # Source class 5 meets labels 0 and 0, source class 7 meets 1 and 2: half of the mass has entropy log 2.
    features, labels = np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([0, 0, 1, 2])
    source_labels = np.array([5, 5, 7, 7])
    assert otce(features, labels, features + 0.1, source_labels) == pytest.approx(-np.log(2) / 2, rel=1e-14)
    _, domain = _otce._terms(Observations(features, labels), Observations(features + 0.1, source_labels))
    assert domain == pytest.approx(0.01, rel=1e-12)


def test_observations_with_the_same_features_share_their_labels():
    features, labels = np.full((9, 3), 0.1), np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    assert otce(features, labels, features, labels) == pytest.approx(-np.log(3), rel=1e-12)
    # Half of the mass meets both labels in equal parts, the other half one label.
    features, labels = np.array([[0.0], [0.0], [5.0], [5.0]]), np.array([0, 1, 1, 1])
    source_labels = np.array([0, 0, 1, 1])
    assert otce(features, labels, features, source_labels) == pytest.approx(-np.log(2) / 2, rel=1e-12)


def test_one_source_class_for_each_label_is_the_upper_end(world):
    target = world()
    assert otce(target.features, target.labels, target.features, target.labels + 3) == pytest.approx(0, abs=1e-12)


def test_shuffled_labels_score_lower_and_not_below_the_range(world):
    features, labels, source_features, source_labels = pair(world)
    shuffled = np.random.default_rng(2).permutation(labels)
    lower = otce(features, shuffled, source_features, source_labels)
    assert -np.log(5) <= lower < otce(features, labels, source_features, source_labels) - 0.1


def test_a_shift_or_scale_of_one_side_a_rotation_of_both_and_duplicates_change_nothing(world):
    features, labels, source_features, source_labels = pair(world)
    expected, rotation = otce(*pair(world)), np.linalg.qr(np.random.default_rng(3).normal(size=(10, 10)))[0]
    assert otce(features + 7, labels, source_features, source_labels) == pytest.approx(expected, rel=1e-12)
    assert otce(features @ rotation, labels, source_features @ rotation, source_labels) == pytest.approx(expected)
    assert otce(features * 3, labels, source_features, source_labels) == pytest.approx(expected, rel=1e-12)
    for scale in (1e-9, 1e9):
        scaled = otce(features * scale, labels, source_features * scale, source_labels)
        assert scaled == pytest.approx(expected, rel=1e-12)
    twice = otce(np.repeat(features, 2, axis=0), np.repeat(labels, 2), source_features, source_labels)
    assert twice == pytest.approx(expected, rel=1e-12)


def test_the_order_of_one_side_s_channels_matters(world):
    features, labels, source_features, source_labels = pair(world)
    assert abs(otce(features[:, ::-1], labels, source_features, source_labels) - otce(*pair(world))) > 1e-3


def test_order_does_not_matter_even_where_couplings_cost_the_same():
    rng = np.random.default_rng(4)
    features, source_features = rng.integers(3, size=(60, 4)).astype(float), rng.integers(3, size=(50, 4)).astype(float)
    labels, source_labels = rng.integers(3, size=60), rng.integers(4, size=50)
    order = rng.permutation(60)
    shuffled = otce(features[order], labels[order], source_features, source_labels)
    assert shuffled == otce(features, labels, source_features, source_labels)


def test_channels_that_do_not_vary_and_fewer_observations_than_channels(world):
    features, labels, source_features, source_labels = pair(world, n=30, m=25, d=60)
    padded, source_padded = np.pad(features, ((0, 0), (0, 4))), np.pad(source_features, ((0, 0), (0, 4)))
    expected = slow_otce(features, labels, source_features, source_labels, linear_program)
    assert otce(padded, labels, source_padded, source_labels) == pytest.approx(expected, rel=1e-9)


def test_a_class_with_one_observation_counts(world):
    features, labels, source_features, source_labels = pair(world, 40, 40)
    labels, source_labels = np.append(labels[:-1], 77), np.append(source_labels[:-1], 99)
    arguments = (features, labels, source_features, source_labels)
    assert otce(*arguments) == pytest.approx(slow_otce(*arguments, assignment), rel=1e-12)


@pytest.mark.parametrize("function", [otce, otdd])
def test_large_offsets_do_not_cost_precision(function, world):
    features, labels, source_features, source_labels = pair(world, 200, 150)
    offset = 1e4 * features.std(axis=0)
    there = features + offset, labels, source_features + offset, source_labels
    back = there[0] - offset, labels, there[2] - offset, source_labels
    assert function(*there) == pytest.approx(function(*back), rel=1e-11)


@pytest.mark.parametrize("function", [otce, otdd])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.longdouble])
def test_dtype_does_not_matter_and_inputs_are_left_as_they_are(function, kind, world):
    features, labels, source_features, source_labels = pair(world, 60, 50)
    given, source_given = features.astype(kind), np.asfortranarray(source_features.astype(kind))
    given.flags.writeable = source_given.flags.writeable = False
    assert function(given, labels, source_given, source_labels) == pytest.approx(
        function(features, labels, source_features, source_labels), rel=1e-14
    )


@pytest.mark.parametrize("module", [_otce, _otdd])
def test_both_sides_are_subsampled_equally_for_every_source(module, world):
    source = world(n=300, n_classes=4, seed=1)
    observations = replace(world(), source_images=source)
    chosen = replace(observations.subsample(80, 5), source_images=source.subsample(80, 5))
    scores = module.METRIC.scores
    score = scores(Statistics.ungrouped(observations), max_observations=80, seed=5)
    assert score == scores(Statistics.ungrouped(observations), max_observations=80, seed=5)
    assert score == scores(Statistics.ungrouped(chosen), max_observations=80, seed=9)
    assert score != scores(Statistics.ungrouped(observations), max_observations=80, seed=6)


@pytest.mark.parametrize("module", [_otce, _otdd])
def test_the_public_function_has_the_metric_s_defaults(module, world, monkeypatch):
    metric, function = module.METRIC, getattr(module, module.METRIC.name)
    assert function.__kwdefaults__ == metric.settings
    features, labels, source_features, source_labels = pair(world, 60, 50)
    observations = Observations(features, labels, source_images=Observations(source_features, source_labels))
    assert [function(*pair(world, 60, 50))] == metric.scores(Statistics.ungrouped(observations), **metric.settings)


@pytest.mark.parametrize("function", [otce, otdd])
def test_sides_of_different_width_are_refused(function, world):
    features, labels, source_features, source_labels = pair(world)
    with pytest.raises(ObservationsError, match=r"10 channels.*source_images 9; both") as caught:
        function(features, labels, source_features[:, 1:], source_labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", [_otce, _otdd])
def test_source_images_without_features_are_refused(module, world):
    observations = replace(world(), source_images=replace(world(seed=1), features=None))
    with pytest.raises(ObservationsError, match="source_images have no features"):
        module.METRIC.scores(Statistics.ungrouped(observations), **module.METRIC.settings)


@pytest.mark.parametrize("function", [otce, otdd])
def test_a_number_of_observations_that_makes_no_two_classes_is_refused(function, world):
    with pytest.raises(ConfigError, match="max_observations"):
        function(*pair(world), max_observations=1)


@pytest.mark.parametrize("function", [otce, otdd])
@pytest.mark.parametrize("side", [0, 2])
def test_values_that_are_no_numbers_are_refused_on_either_side(function, side, world):
    arguments = list(pair(world))
    arguments[side] = np.where(arguments[side] == arguments[side].max(), np.nan, arguments[side])
    with pytest.raises(ObservationsError, match="features"):
        function(*arguments)


@pytest.mark.parametrize("function", [otce, otdd])
def test_without_pot_the_extra_is_named_in_one_line(function, world, monkeypatch):
    for name in [name for name in sys.modules if name == "ot" or name.startswith("ot.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ConfigError) as caught:
        function(*pair(world, 60, 50))
    message = str(caught.value)
    assert message.startswith(f"metric {function.__name__} needs POT")
    assert "pip install 'seg_transfer[ot]', or leave the metric out" in message
    assert "\n" not in message


@pytest.mark.parametrize("function", [otce, otdd])
def test_a_coupling_that_is_not_optimal_is_no_score(function, world, monkeypatch):
    monkeypatch.setattr(_transport, "MAX_PIVOTS", 20)
    with pytest.raises(
        ObservationsError, match=f"{function.__name__} found no optimal coupling of 200 target"
    ) as caught:
        function(*pair(world, 200, 150))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sizes", [(50, 50), (40, 23), (7, 60)])
def test_masses_that_are_whole_numbers_come_back_whole(sizes):
    n, m = sizes
    cost = np.random.default_rng(0).random(sizes)
    plan = _transport.coupling("otce", cost, np.full(n, float(m)), np.full(m, float(n)))
    np.testing.assert_array_equal(plan, np.round(plan))
    np.testing.assert_array_equal(plan.sum(axis=1), m)
    np.testing.assert_array_equal(plan.sum(axis=0), n)
    assert np.vdot(plan, cost) / (n * m) == pytest.approx(np.vdot(linear_program(cost), cost), rel=1e-9)
