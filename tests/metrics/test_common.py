"""What every metric must keep, and what each one declares of itself: one line in PROPERTIES per metric."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from seg_transfer import metrics
from seg_transfer.errors import ConfigError, ObservationsError
from seg_transfer.metrics import METRICS, Score, score_all
from seg_transfer.observations import Observations

NAMES = sorted(METRICS)


@dataclass(frozen=True)
class Properties:
    """``lowest(C)`` and ``highest(C, D)`` bound the score; the others say what leaves it unchanged."""

    lowest: Callable[[int], float]
    highest: Callable[[int, int], float]
    shift: bool
    scale: bool
    rotation: bool
    duplication: bool


PROPERTIES = {
    "gbc": Properties(
        lambda c: -c * (c - 1), lambda c, d: 0, shift=True, scale=False, rotation=True, duplication=False
    ),
    "logme": Properties(
        lambda c: -np.inf, lambda c, d: np.inf, shift=False, scale=False, rotation=True, duplication=False
    ),
    "h_score": Properties(
        lambda c: 0, lambda c, d: min(c - 1, d), shift=True, scale=True, rotation=True, duplication=True
    ),
    "regularized_h_score": Properties(
        lambda c: 0, lambda c, d: min(c - 1, d), shift=True, scale=True, rotation=True, duplication=False
    ),
    "lda_score": Properties(lambda c: 0, lambda c, d: np.inf, shift=True, scale=True, rotation=True, duplication=True),
    "nce": Properties(lambda c: -np.log(c), lambda c, d: 0, shift=True, scale=True, rotation=True, duplication=True),
    "leep": Properties(lambda c: -np.inf, lambda c, d: 0, shift=True, scale=True, rotation=True, duplication=True),
}


def score_of(name: str, observations: Observations) -> float:
    return score_all(observations, [name], standard_errors=False)[name].score


def same(one: Score, other: Score) -> bool:
    assert one.standard_error is not None
    assert other.standard_error is not None
    return np.isclose(one.score, other.score, rtol=1e-10, atol=0) and np.isclose(
        one.standard_error, other.standard_error, rtol=1e-7, atol=0
    )


def taken(observations: Observations, rows) -> Observations:
    return Observations(
        observations.features[rows],
        observations.labels[rows],
        observations.source_probs[rows],
        observations.image_index[rows],
    )


def public(name: str, observations: Observations) -> float:
    data = observations.features if "features" in METRICS[name].needs else observations.source_probs
    return getattr(metrics, name)(data, observations.labels)


def test_every_metric_declares_its_properties():
    assert set(PROPERTIES) == set(METRICS)


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_describes_itself(name):
    metric = METRICS[name]
    assert metric.name == name
    assert metric.needs
    assert metric.needs <= {"features", "source_probs"}
    assert metric.range
    assert metric.reference
    with pytest.raises(TypeError):
        METRICS[name] = metric


@pytest.mark.parametrize("name", NAMES)
def test_score_all_gives_the_public_function_with_its_defaults(name, world):
    observations = world()
    assert score_of(name, observations) == public(name, observations)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(400, 10, 5), (60, 150, 3), (37, 3, 2), (500, 40, 12)])
def test_scores_lie_in_the_declared_range(name, shape, world):
    n, d, n_classes = shape
    score = score_of(name, world(n, d, n_classes))
    assert PROPERTIES[name].lowest(n_classes) <= score <= PROPERTIES[name].highest(n_classes, d)
    assert np.isfinite(score)


@pytest.mark.parametrize("name", NAMES)
def test_order_of_observations_does_not_matter(name, world):
    observations = world()
    shuffled = taken(observations, np.random.default_rng(1).permutation(len(observations.labels)))
    assert same(score_all(observations, [name])[name], score_all(shuffled, [name])[name])


@pytest.mark.parametrize("name", NAMES)
def test_names_of_labels_and_numbers_of_images_do_not_matter(name, world):
    observations = world()
    renamed = replace(
        observations,
        labels=np.array([250, -3, 17, 4, 100], dtype=np.int16)[observations.labels],
        image_index=observations.image_index * 7 + 1000,
    )
    assert same(score_all(observations, [name])[name], score_all(renamed, [name])[name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("order", ["C", "F"])
def test_dtype_and_memory_order_of_features_do_not_matter(name, kind, order, world):
    observations = world()
    features = np.array(observations.features, dtype=kind, order=order)
    features.flags.writeable = False
    assert same(
        score_all(observations, [name])[name], score_all(replace(observations, features=features), [name])[name]
    )


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_left_as_they_are(name, world):
    observations = world()
    before = [observations.features.copy(), observations.labels.copy(), observations.source_probs.copy()]
    score_all(observations, [name])
    for kept, now in zip(before, [observations.features, observations.labels, observations.source_probs], strict=True):
        np.testing.assert_array_equal(kept, now)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", ["shift", "scale", "rotation", "duplication"])
def test_declared_invariances_hold_and_undeclared_ones_do_not(name, change, world):
    observations = world()
    features, rng = observations.features, np.random.default_rng(5)
    changed = {
        "shift": lambda: replace(observations, features=features + rng.normal(size=features.shape[1])),
        "scale": lambda: replace(observations, features=features / 300),
        "rotation": lambda: replace(observations, features=features @ np.linalg.qr(rng.normal(size=(10, 10)))[0]),
        "duplication": lambda: taken(observations, np.repeat(np.arange(len(features)), 2)),
    }[change]()
    unchanged = np.isclose(score_of(name, observations), score_of(name, changed), rtol=1e-9, atol=0)
    assert unchanged == getattr(PROPERTIES[name], change)


@pytest.mark.parametrize("name", NAMES)
def test_a_better_separated_target_scores_higher(name, world):
    observations = world()
    pull = np.random.default_rng(8).normal(size=(5, 10))[observations.labels]
    better_probs = 0.3 * observations.source_probs + 0.7 * np.eye(7)[observations.labels]
    better = replace(observations, features=observations.features + 2 * pull, source_probs=better_probs)
    assert score_of(name, better) > score_of(name, observations)


@pytest.mark.parametrize("name", NAMES)
def test_labels_dealt_at_random_score_lower(name, world):
    observations = world()
    dealt = replace(observations, labels=np.random.default_rng(8).permutation(observations.labels))
    assert score_of(name, dealt) < score_of(name, observations)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "fault",
    [
        lambda features, labels, probs: (_with(features, np.nan), labels, _with(probs, np.nan)),
        lambda features, labels, probs: (_with(features, np.inf), labels, _with(probs, np.inf)),
        lambda features, labels, probs: (features, np.full_like(labels, 3), probs),
        lambda features, labels, probs: (features[:1], labels[:1], probs[:1]),
        lambda features, labels, probs: (features[:0], labels[:0], probs[:0]),
        lambda features, labels, probs: (features[:-1], labels, probs[:-1]),
        lambda features, labels, probs: (features[0], labels, probs[0]),
        lambda features, labels, probs: (features, labels.astype(float), probs),
        lambda features, labels, probs: (features.astype(complex), labels, probs.astype(complex)),
    ],
    ids=["nan", "inf", "one class", "one row", "no row", "lengths", "one axis", "float labels", "complex"],
)
def test_unfit_observations_are_refused_in_one_line(name, fault, world):
    observations = world()
    features, labels, probs = fault(observations.features, observations.labels, observations.source_probs)
    data = features if "features" in METRICS[name].needs else probs
    with pytest.raises(ObservationsError) as caught:
        getattr(metrics, name)(data, labels)
    assert "\n" not in str(caught.value)


def _with(matrix, value):
    spoilt = matrix.copy()
    spoilt[-1, -1] = value
    return spoilt


@pytest.mark.parametrize("name", [name for name in NAMES if name != "gbc"])
@pytest.mark.parametrize("n_images", [23, 10, 4])
def test_standard_errors_are_those_of_leaving_out_each_group_by_hand(name, n_images, world):
    observations = world(n_images=n_images)
    rank = np.searchsorted(np.unique(observations.image_index), observations.image_index)
    n_groups = min(n_images, 10)
    replicates = [public(name, taken(observations, rank % 10 != group)) for group in range(n_groups)]
    expected = np.sqrt((n_groups - 1) / n_groups * np.sum((replicates - np.mean(replicates)) ** 2))
    score = score_all(observations, [name])[name]
    np.testing.assert_allclose(score.replicates, replicates, rtol=1e-10)
    np.testing.assert_allclose(score.standard_error, expected, rtol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_no_standard_error_without_two_groups_of_images(name, world):
    observations = world()
    one_image = replace(observations, image_index=np.full(len(observations.labels), 9))
    unknown_images = replace(observations, image_index=None)
    for score in (
        score_all(one_image, [name])[name],
        score_all(unknown_images, [name])[name],
        score_all(observations, [name], standard_errors=False)[name],
    ):
        assert score == Score(score_of(name, observations), None, ())


@pytest.mark.parametrize("name", NAMES)
def test_a_class_of_one_group_counts_only_where_that_group_does(name, world):
    observations = world(n_classes=3)
    labels = observations.labels.copy()
    groups = observations.image_index % 10
    labels[(labels == 2) & (groups != 4)] = 1
    lost = replace(observations, labels=labels)
    replicates = score_all(lost, [name])[name].replicates
    assert len(replicates) == 10
    assert np.isfinite(replicates).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_replicate_with_one_class_is_left_out(name, world):
    observations = world(n_classes=2)
    groups = observations.image_index % 10
    score = score_all(replace(observations, labels=np.where(groups == 4, observations.labels, 0)), [name])[name]
    assert score.replicates[4] is None
    kept = [replicate for replicate in score.replicates if replicate is not None]
    assert len(kept) == 9
    assert score.standard_error == pytest.approx(np.sqrt(8 * np.var(kept)), rel=1e-12)


def test_the_features_are_seen_once_for_all_metrics_of_moments(world, monkeypatch):
    passes = []
    accumulate = metrics._base.MomentStatistics.of
    monkeypatch.setattr(
        metrics._base.MomentStatistics, "of", lambda *arguments: passes.append(1) or accumulate(*arguments)
    )
    score_all(world(), ["gbc", "logme", "h_score"])
    assert len(passes) == 1


def test_scores_come_in_the_order_of_the_names(world):
    assert list(score_all(world(), ["leep", "gbc"])) == ["leep", "gbc"]


def test_an_unknown_metric_is_named_with_the_known_ones(world):
    with pytest.raises(ConfigError, match=r"'gbx'.*gbc, logme"):
        score_all(world(), ["gbc", "gbx"])


def test_a_metric_without_its_input_is_refused(world):
    with pytest.raises(ObservationsError, match="leep needs source_probs"):
        score_all(replace(world(), source_probs=None), ["gbc", "leep"])
    with pytest.raises(ObservationsError, match="gbc needs features"):
        score_all(replace(world(), features=None), ["gbc", "leep"])
