"""Every check on every metric, and that every check finds a metric that is wrong."""

from dataclasses import replace
from types import MappingProxyType

import metric_checks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_checks import CHECKS, PROPERTIES, Properties, arguments_of, score_of

from seg_transfer import metrics
from seg_transfer.errors import ConfigError, ObservationsError
from seg_transfer.metrics import METRICS, Statistics, score_all
from seg_transfer.metrics._base import Metric
from seg_transfer.observations import Observations

NAMES = sorted(name for name, metric in METRICS.items() if "scores" not in metric.needs)
FIELDS = {"features", "source_probs", "image_index", "image_embeddings", "source_images", "class_pixels"}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", NAMES)
def test_metric(name, check, world):
    CHECKS[check](name, world)


def test_every_metric_declares_its_properties():
    assert set(PROPERTIES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_describes_itself(name):
    metric = METRICS[name]
    assert metric.name == name
    assert metric.needs
    assert metric.needs <= FIELDS
    assert metric.range
    assert metric.cost
    assert metric.reference
    with pytest.raises(TypeError):
        METRICS[name] = metric


@pytest.mark.parametrize("name", NAMES)
def test_score_all_gives_the_public_function_with_its_defaults(name, world):
    observations = world()
    public = getattr(metrics, name)(**arguments_of(name, observations))
    assert score_of(name, observations) == pytest.approx(public, rel=1e-14)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    n=st.integers(4, 60),
    d=st.integers(1, 70),
    n_classes=st.integers(2, 6),
    n_images=st.integers(2, 12),
    kind=st.sampled_from([np.float16, np.float32, np.float64]),
    shape=st.sampled_from(["plain", "dead", "repeated", "far", "constant"]),
    seed=st.integers(0, 99),
)
def test_any_shape_gives_a_number_in_range(name, world, n, d, n_classes, n_images, kind, shape, seed):
    observations = world(max(n, 2 * n_classes), d, n_classes, n_images, seed)
    if "image_index" in METRICS[name].needs:
        # Every image holds every class: without a class in two images there is nothing to compare.
        index = np.arange(len(observations.labels)) % 2
        labels = np.arange(len(observations.labels)) // 2 % n_classes
        embeddings = observations.image_embeddings[:1].repeat(2, axis=0)
        observations = replace(observations, labels=labels, image_index=index, image_embeddings=embeddings)
    shaped = {
        "plain": lambda x: x,
        "dead": lambda x: np.hstack([x, np.zeros((len(x), 3))]),
        "repeated": lambda x: np.hstack([x, x]),
        "far": lambda x: x + 1e4,
        "constant": lambda x: np.full_like(x, 2.5),
    }[shape]
    observations = metric_checks.moved(observations, lambda x: shaped(x).astype(kind))
    # The metric itself, because score_all refuses constant features.
    score = METRICS[name].scores(Statistics.ungrouped(observations), **METRICS[name].settings)[0]
    width = observations.features.shape[1]
    assert np.isfinite(score)
    assert PROPERTIES[name].lowest(n_classes) - 1e-9 <= score <= PROPERTIES[name].highest(n_classes, width) + 1e-9


def planted(compute, *, additive=False, public=None):
    """A metric that is the class separation along the first channel, but for a fault."""
    return Metric("planted", frozenset({"features"}), "any", "none", "none", compute, {}, additive, version=1)


def separation(statistics):
    """A metric without fault: the share of the first channel's variance that lies between the classes."""
    x, codes = statistics.observations.features[:, 0].astype(np.float64), statistics.observations.codes
    counts = np.bincount(codes)
    means = np.bincount(codes, x) / counts
    spread = counts @ (means - x.mean()) ** 2 / len(x)
    return [float(spread / x.var())] if x.var() > 0 else [0.0]


def in_place(statistics):
    statistics.observations.features[0, 0] += 1.0
    return separation(statistics)


def additive(change):
    """With replicates, each changed."""

    def compute(statistics):
        def without(group):
            kept = statistics.groups != group
            if len(np.unique(statistics.observations.codes[kept])) < 2:
                return None
            part = metrics._base.Statistics.ungrouped(statistics.observations.subset(kept))
            return separation(part)[0]

        scores = [without(group) for group in statistics.left_out]
        return [*separation(statistics), *change(scores)]

    return planted(compute, additive=True)


def of_features(statistic):
    return planted(lambda statistics: [float(statistic(statistics.observations))])


SOUND = Properties(lambda c: 0.0, lambda c, d: 1.0, "shift scale duplication")
WRONG = {
    "range": of_features(lambda o: 1 + separation(metrics._base.Statistics.ungrouped(o))[0]),
    "order": of_features(lambda o: o.features[0, 0]),
    "names": of_features(lambda o: o.labels.mean()),
    "storage": of_features(lambda o: o.features.std(axis=0, dtype=o.features.dtype).sum()),
    "inputs_kept": planted(in_place),
    "invariances": of_features(lambda o: o.features.mean()),
    "separation": planted(lambda statistics: [-separation(statistics)[0]]),
    "jackknife": additive(lambda scores: [None if score is None else 1.01 * score for score in scores]),
    "no_groups": planted(lambda statistics: [separation(statistics)[0], 0.1, 0.2], additive=True),
    "lost_classes": additive(lambda scores: [score or 0.0 for score in scores]),
}


@pytest.fixture
def plant(monkeypatch):
    def into(metric, public=None):
        monkeypatch.setattr(metrics, "METRICS", MappingProxyType({**METRICS, "planted": metric}))
        monkeypatch.setitem(PROPERTIES, "planted", SOUND)
        monkeypatch.setattr(metrics, "planted", public, raising=False)

    return into


@pytest.mark.parametrize("check", [check for check in CHECKS if check != "refusals"])
def test_a_sound_metric_passes_every_check(check, plant, world):
    plant(planted(separation))
    CHECKS[check]("planted", world)
    plant(additive(lambda scores: scores))
    CHECKS[check]("planted", world)


@pytest.mark.parametrize("check", WRONG)
def test_a_wrong_metric_fails_its_check(check, plant, world):
    plant(WRONG[check])
    with pytest.raises((AssertionError, ValueError)):
        CHECKS[check]("planted", world)


def test_a_metric_that_takes_anything_fails_the_check_of_refusals(plant, world):
    def public(features, labels):
        if len(features) != len(labels):
            raise ObservationsError("lengths differ")
        return 0.0

    plant(planted(separation), public)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        CHECKS["refusals"]("planted", world)


def test_every_check_has_its_wrong_metric():
    assert {*WRONG, "refusals"} == set(CHECKS)


def test_the_features_are_seen_once_for_all_metrics_of_moments(world, monkeypatch):
    passes = []
    for way in ("of", "of_classes"):
        accumulate = getattr(metrics._base.MomentStatistics, way)
        monkeypatch.setattr(
            metrics._base.MomentStatistics,
            way,
            lambda *arguments, accumulate=accumulate: passes.append(1) or accumulate(*arguments),
        )
    names = ["gbc", "logme", "h_score", "regularized_h_score", "lda_score"]
    for standard_errors in (True, False):
        passes.clear()
        score_all(world(), names, standard_errors)
        assert len(passes) == 1


def test_a_subsample_is_noted(world, monkeypatch):
    thin = replace(METRICS["nleep"], settings={"max_observations": 100, "seed": 0})
    monkeypatch.setattr(metrics, "METRICS", {"nleep": thin})
    assert score_all(world(), ["nleep"])["nleep"].note == "fitted on 100 of 400 observations"
    assert score_all(world(90), ["nleep"])["nleep"].note == ""


def test_scores_come_in_the_order_of_the_names(world):
    assert list(score_all(world(), ["leep", "gbc"])) == ["leep", "gbc"]


def test_an_unknown_metric_is_named_with_the_known_ones(world):
    with pytest.raises(ConfigError, match=r"'gbx'.*gbc, logme"):
        score_all(world(), ["gbc", "gbx"])


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_without_its_input_is_refused(name, world):
    for need in METRICS[name].needs:
        # Labels need something beside them.
        other = "source_probs" if need == "features" else "features"
        fields = {"features": None, "labels": world().labels, other: getattr(world(), other)}
        with pytest.raises(ObservationsError, match=f"metric {name} needs "):
            score_all(Observations(**fields), [name])


def test_a_metric_knows_whether_its_library_is_installed(monkeypatch):
    assert METRICS["otdd"].installed
    assert METRICS["gbc"].installed
    assert not replace(METRICS["otdd"], extra="no_such_library").installed
