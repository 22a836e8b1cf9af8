"""Image-level observations: subsets of classes by their definition, and pairs that hold the metrics of their rows."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from seg_transfer.errors import ConfigError, ObservationsError, ResultsError
from seg_transfer.evaluation import evaluate
from seg_transfer.image_level import class_subset_study, class_subsets, image_observations, observations_of_subset
from seg_transfer.metrics import METRICS, gbc, ids, leep, logme, score_all

COUNTS = (9, 3, 14, 7, 11)
NAMES = ("gbc", "logme", "leep")


def images(seed, spread=1.0, n_features=6):
    """Correlated, unbalanced, off-center features of 44 images of 5 classes, and the softmax of a source."""
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(9).permutation(np.repeat(np.arange(5), COUNTS))
    mixing = rng.normal(size=(n_features, n_features))
    features = (
        rng.normal(size=(len(labels), n_features)) @ mixing + spread * rng.normal(size=(5, n_features))[labels] + 7
    )
    probs = rng.dirichlet(np.ones(4), len(labels))
    return image_observations(features, labels, probs)


# observations of images


def test_maps_are_averaged_over_the_image():
    maps = np.random.default_rng(0).normal(size=(6, 3, 4, 5)).astype(np.float32)
    labels = np.array([0, 0, 0, 4, 4, 4])
    observations = image_observations(maps, labels)
    by_hand = [[sum(maps[n, c].astype(float).ravel()) / 20 for c in range(3)] for n in range(6)]
    np.testing.assert_allclose(observations.features, by_hand, rtol=1e-12)


def test_every_image_is_an_observation_of_its_own():
    observations = images(0)
    assert observations.image_index.tolist() == list(range(sum(COUNTS)))
    assert observations.image_embeddings is observations.features
    assert score_all(observations, ["gbc"])["gbc"].standard_error > 0


def test_the_features_are_the_embeddings_of_the_images():
    target, source = images(0), images(1)
    score = score_all(replace(target, source_images=source), ["ids"])["ids"].score
    assert score == pytest.approx(ids(target.features, source.features), rel=1e-12)


def test_features_of_another_shape_are_refused():
    with pytest.raises(ObservationsError, match="features has shape"):
        image_observations(np.zeros((4, 2, 2)), np.array([0, 0, 1, 1]))


# subsets of the classes


def test_a_subset_holds_different_classes_in_ascending_order():
    for n_classes in (2, 3, 10, 101):
        for subset in class_subsets(n_classes):
            assert subset.dtype == np.int64
            assert (np.diff(subset) > 0).all()
            assert 0 <= subset[0] < subset[-1] < n_classes


@pytest.mark.parametrize(
    ("n_classes", "low", "high", "fewest", "most"),
    [
        (10, 0.02, 1.0, 2, 10),
        (200, 0.02, 1.0, 4, 200),
        (120, 0.02, 0.1, 3, 12),  # 2.4 and 12
        (100, 0.07, 0.07, 7, 7),  # 0.07 * 100 is a little more than 7 in floating point
        (100, 0.29, 0.29, 29, 29),  # and 0.29 * 100 a little less than 29
        (3, 0.0, 0.7, 2, 2),
    ],
)
def test_sizes_lie_in_the_range_and_reach_its_ends(n_classes, low, high, fewest, most):
    sizes = {len(subset) for subset in class_subsets(n_classes, n_draws=3000, low=low, high=high)}
    assert (min(sizes), max(sizes)) == (fewest, most)


def test_sizes_are_uniform_and_so_are_the_classes_of_a_size():
    subsets = class_subsets(10, n_draws=9000, seed=4)
    sizes = Counter(map(len, subsets))
    assert sorted(sizes) == list(range(2, 11))
    deviation = math.sqrt(9000 / 9 * 8 / 9)
    assert max(abs(count - 1000) for count in sizes.values()) < 4 * deviation
    pairs = Counter(tuple(subset.tolist()) for subset in subsets if len(subset) == 2)
    expected = sizes[2] / 45
    chi_square = sum((pairs[i, j] - expected) ** 2 / expected for i in range(10) for j in range(i + 1, 10))
    assert chi_square < 44 + 4 * math.sqrt(2 * 44)


def test_a_draw_depends_on_seed_classes_and_number_alone():
    few, many = class_subsets(20, n_draws=5), class_subsets(20, n_draws=50)
    assert all(np.array_equal(a, b) for a, b in zip(few, many[:5], strict=True))
    as_lists = [[subset.tolist() for subset in class_subsets(20, seed=seed)] for seed in (0, 0, 1)]
    assert as_lists[0] == as_lists[1] != as_lists[2]
    assert len({tuple(subset) for subset in as_lists[0]}) > 90


def test_golden_draws():
    assert [subset.tolist() for subset in class_subsets(7, n_draws=4, seed=3)] == [
        [0, 2, 4],
        [0, 1, 2, 3, 4, 5, 6],
        [2, 4],
        [1, 3, 6],
    ]


def test_the_number_of_classes_does_not_choose_them():
    """Each class is as likely as any other, whatever the size: no class hides behind a short subset."""
    counts = np.bincount(np.concatenate(class_subsets(8, n_draws=4000, seed=2)), minlength=8)
    share = counts / 4000
    np.testing.assert_allclose(share, 5 / 8, atol=4 * math.sqrt(5 / 8 * 3 / 8 / 4000))


@pytest.mark.parametrize(
    "wrong",
    [{"low": -0.1}, {"high": 1.1}, {"low": 0.6, "high": 0.5}, {"high": 0.1}, {"low": 0.21, "high": 0.29}],
)
def test_a_range_without_a_number_of_classes_is_refused(wrong):
    with pytest.raises(ConfigError, match="of 10 classes leave no number of classes"):
        class_subsets(10, **wrong)


def test_no_draws_and_one_class_are_refused():
    with pytest.raises(ConfigError, match="n_draws is 0"):
        class_subsets(10, n_draws=0)
    with pytest.raises(ConfigError, match="of 1 classes"):
        class_subsets(1)


# observations of a subset


def test_a_subset_keeps_the_rows_of_its_classes_in_order():
    observations = images(0)
    part = observations_of_subset(observations, [3, 1])
    rows = [row for row, label in enumerate(observations.labels) if label in (1, 3)]
    assert len(rows) == COUNTS[1] + COUNTS[3]
    assert np.array_equal(part.features, observations.features[rows])
    assert np.array_equal(part.source_probs, observations.source_probs[rows])
    assert part.labels.tolist() == observations.labels[rows].tolist()
    assert part.image_index.tolist() == rows
    assert np.array_equal(part.image_embeddings, part.features)


def test_an_absent_class_and_a_single_class_are_refused():
    with pytest.raises(ObservationsError, match=r"class 7 has no observation; choose among the 5 classes 0 \.\. 4"):
        observations_of_subset(images(0), [0, 7])
    with pytest.raises(ObservationsError, match=r"labels hold 1 class\(es\)"):
        observations_of_subset(images(0), [2])


# the study


SOURCES = {"near": images(1, spread=4.0), "far": images(2, spread=0.5)}
SUBSETS = [[0, 1], [2, 3, 4], [1, 0], [0, 1, 2, 3, 4]]


def accuracy(source, classes):
    return (0.9 if source == "near" else 0.6 if source == "far" else 0.7) - 0.05 * len(classes)


def test_scores_are_those_of_the_rows_by_hand():
    pairs = class_subset_study(SOURCES, SUBSETS, accuracy, NAMES)
    assert list(pairs) == ["source", "target", "miou", "n_target_classes", "classes", *NAMES]
    for row in pairs.to_dict("records"):
        whole = SOURCES[row["source"]]
        wanted = [int(word) for word in row["classes"].split()]
        rows = [number for number, label in enumerate(whole.labels) if label in wanted]
        labels = whole.labels[rows]
        assert row["gbc"] == pytest.approx(gbc(whole.features[rows], labels), rel=1e-9)
        assert row["logme"] == pytest.approx(logme(whole.features[rows], labels), rel=1e-9)
        assert row["leep"] == pytest.approx(leep(whole.source_probs[rows], labels), rel=1e-9)
        assert row["n_target_classes"] == len(wanted)
        assert row["miou"] == accuracy(row["source"], wanted)


def test_a_subset_drawn_again_is_the_same_target():
    asked = []

    def counted(source, classes):
        asked.append((source, tuple(classes.tolist())))
        return accuracy(source, classes)

    pairs = class_subset_study(SOURCES, SUBSETS, counted, ["gbc"])
    assert pairs["target"].unique().tolist() == ["subset_000", "subset_001", "subset_003"]
    assert len(pairs) == 6
    assert len(set(asked)) == len(asked) == 6
    assert ("far", (0, 1)) in asked


def test_the_order_of_sources_and_subsets_changes_nothing():
    key = ["source", "classes"]
    one = class_subset_study(SOURCES, SUBSETS, accuracy, NAMES).drop(columns="target")
    backwards = dict(reversed(SOURCES.items()))
    other = class_subset_study(backwards, SUBSETS[::-1], accuracy, NAMES).drop(columns="target")
    one, other = (frame.sort_values(key, ignore_index=True) for frame in (one, other))
    assert one.equals(other)


def test_evaluate_takes_both_scenarios_and_the_control():
    subsets = class_subsets(5, n_draws=12)
    pairs = class_subset_study(SOURCES, subsets, accuracy, NAMES, scratch=True)
    frame = evaluate(pairs, metrics=NAMES, n_bootstrap=10).set_index(["scenario", "metric"])
    n_targets = pairs["target"].nunique()
    assert frame.loc[("fixed_target", "gbc"), "n_groups"] == n_targets
    assert frame.loc[("fixed_source", "gbc"), "n_groups"] == 2
    # The accuracy here is made of the number of classes, and the control says so.
    assert frame.loc[("fixed_source", "minus_n_classes"), "kendall"] == pytest.approx(1)
    scratch = pairs[pairs["source"] == "scratch"]
    assert len(scratch) == n_targets
    assert scratch[list(NAMES)].isna().all(axis=None)


def test_one_target_ranks_the_sources():
    pairs = class_subset_study(SOURCES, [range(5)], accuracy, NAMES)
    row = evaluate(pairs, metrics=NAMES, scenarios=["fixed_target"], n_bootstrap=10).set_index("metric").loc["gbc"]
    assert (row["n_groups"], row["top1"], row["kendall"]) == (1, 1, 1)


@pytest.mark.parametrize("value", [-0.1, 1.01, 87.0, math.nan])
def test_an_accuracy_that_is_no_fraction_is_refused(value):
    with pytest.raises(
        ResultsError, match=r"pair near -> subset_000 has accuracy .*; it must be a fraction in \[0, 1\]"
    ):
        class_subset_study(SOURCES, SUBSETS, lambda source, classes: value, ["gbc"])


def test_sources_must_see_the_same_images():
    shuffled = replace(SOURCES["far"], labels=SOURCES["far"].labels[::-1])
    with pytest.raises(ObservationsError, match="source far has different labels than source near"):
        class_subset_study(SOURCES | {"far": shuffled}, SUBSETS, accuracy, ["gbc"])


def test_the_control_is_no_source():
    with pytest.raises(ResultsError, match="'scratch' is the name of a control"):
        class_subset_study({"scratch": images(0)}, SUBSETS, accuracy, ["gbc"])


def test_every_metric_of_images_is_computed():
    names = [name for name, metric in METRICS.items() if metric.needs <= {"features", "source_probs", "image_index"}]
    assert {"gbc", "nleep", "parc", "nce"} <= set(names)
    pairs = class_subset_study(SOURCES, [[0, 2, 3]], accuracy, names)
    assert np.isfinite(pairs[names].to_numpy()).all()
