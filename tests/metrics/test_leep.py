import numpy as np
import pytest

from seg_transfer.arrays import host
from seg_transfer.errors import ObservationsError
from seg_transfer.metrics import _leep, leep, score_all
from seg_transfer.observations import Observations


def slow_leep(probs, labels):
    joint = {}
    for row, label in zip(probs, labels, strict=True):
        for z, p in enumerate(row):
            joint[label, z] = joint.get((label, z), 0.0) + p / len(labels)
    total = 0.0
    for row, label in zip(probs, labels, strict=True):
        likelihood = 0.0
        for z, p in enumerate(row):
            mass = sum(joint[y, z] for y in set(labels.tolist()))
            likelihood += p * joint[label, z] / mass if mass > 0 else 0.0
        total += np.log(likelihood)
    return total / len(labels)


def test_equals_the_paper_s_equations_written_as_loops(world):
    observations = world(n=120)
    assert leep(observations.source_probs, observations.labels) == pytest.approx(
        slow_leep(observations.source_probs, observations.labels), rel=1e-12
    )


def test_two_classes_by_hand():
    # Rows (1, 0), (1/2, 1/2) of class 0 and (0, 1) of class 1: P(0 | z) = (1, 1/3), P(1 | z) = (0, 2/3).
    probs = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    expected = (np.log(1) + np.log(2 / 3) + np.log(2 / 3)) / 3
    assert leep(probs, np.array([5, 5, 1])) == pytest.approx(expected, rel=1e-14)


def test_uninformative_probabilities_give_the_entropy_of_the_labels():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    probs = np.tile([0.2, 0.5, 0.3], (100, 1))
    shares = np.array([0.5, 0.3, 0.2])
    assert leep(probs, labels) == pytest.approx(np.sum(shares * np.log(shares)), rel=1e-13)


def test_a_source_class_for_every_label_scores_zero():
    labels = np.tile([3, 8, 200], 20)
    assert leep(np.eye(3)[np.tile([2, 0, 1], 20)], labels) == 0


def test_a_source_class_without_mass_changes_nothing(world):
    observations = world()
    padded = np.insert(observations.source_probs, [0, 3, 7], 0.0, axis=1)
    assert leep(padded, observations.labels) == pytest.approx(
        leep(observations.source_probs, observations.labels), rel=1e-13
    )


def test_a_source_class_that_loses_its_mass_with_a_group_stays_out(world):
    observations = world()
    probs = np.hstack([observations.source_probs, np.zeros((400, 1))])
    alone = observations.image_index % 10 == 2
    probs[alone] = 0.5 * probs[alone] + 0.5 * np.eye(8)[7]
    score = score_all(Observations(None, observations.labels, probs, observations.image_index), ["leep"])["leep"]
    assert score.replicates[2] == pytest.approx(slow_leep(probs[~alone], observations.labels[~alone]), rel=1e-12)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_rounded_probabilities_are_accepted_and_never_score_above_zero(kind, world):
    observations = world()
    rounded = observations.source_probs.astype(kind)
    assert leep(rounded, observations.labels) == pytest.approx(
        leep(observations.source_probs, observations.labels), abs=1e-3
    )
    labels = np.tile([0, 1], 20)
    sure = np.where(labels[:, None] == 0, [0.0004, 0.9999, 0.0, 0.0], [0.0, 0.0, 0.9999, 0.0004]).astype(kind)
    assert sure.astype(np.float64).sum(axis=1).min() > 1
    assert leep(sure, labels) == 0


def test_the_size_of_blocks_does_not_matter(world, monkeypatch):
    observations = world()
    whole = score_all(observations, ["leep"])["leep"]
    monkeypatch.setattr(host, "BLOCK_ROWS", 7)
    in_blocks = score_all(observations, ["leep"])["leep"]
    assert in_blocks.score == pytest.approx(whole.score, rel=1e-12)
    assert in_blocks.replicates == pytest.approx(whole.replicates, rel=1e-12)


@pytest.mark.parametrize(
    "row", [[0.5, 0.6], [0.5, 0.4], [1.2, -0.2], [2.0, 3.0]], ids=["more", "less", "negative", "scores"]
)
def test_rows_that_are_no_distribution_are_refused_by_place(row):
    probs = np.tile([0.25, 0.75], (6, 1))
    probs[4] = row
    with pytest.raises(ObservationsError, match=r"source_probs\[4\]"):
        leep(probs, np.array([0, 1] * 3))


@pytest.mark.parametrize("name", ["leep", "nleep"])
def test_with_too_many_classes_for_the_sums_of_groups_the_score_is_the_same_without_an_error(world, monkeypatch, name):
    observations = world()
    usual = score_all(observations, [name])[name]
    monkeypatch.setattr(_leep, "MAX_JOINT_BYTES", 8)
    found = score_all(observations, [name])[name]
    assert found.score == pytest.approx(usual.score, rel=1e-12)
    assert usual.standard_error is not None
    assert (found.standard_error, found.replicates) == (None, ())
