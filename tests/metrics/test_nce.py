import numpy as np
import pytest

from seg_transfer.metrics import leep, nce


def slow_nce(probs, labels):
    """-H(Y | Z) = sum over y, z of P(y, z) log P(y | z), cell by cell."""
    total, guesses = 0.0, [max(range(probs.shape[1]), key=row.__getitem__) for row in probs.tolist()]
    for guess in set(guesses):
        of_guess = [label for label, other in zip(labels, guesses, strict=True) if other == guess]
        for label in set(of_guess):
            total += of_guess.count(label) * np.log(of_guess.count(label) / len(of_guess))
    return total / len(labels)


@pytest.mark.parametrize("shape", [(400, 10, 5), (60, 3, 3)])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_equals_the_definition_cell_by_cell(shape, kind, world):
    observations = world(*shape)
    probs = observations.source_probs.astype(kind)
    assert nce(probs, observations.labels) == pytest.approx(slow_nce(probs, observations.labels), rel=1e-13)


def test_by_hand():
    # Source class 0: labels 5, 5, 1; source class 1: label 1.
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    expected = (2 * np.log(2 / 3) + np.log(1 / 3)) / 4
    assert nce(probs, np.array([5, 5, 1, 1])) == pytest.approx(expected, rel=1e-15)


def test_the_first_of_equal_probabilities_counts():
    probs = np.array([[0.5, 0.5], [0.0, 1.0]])
    assert nce(probs, np.array([0, 1])) == 0


def test_one_prediction_for_all_gives_the_entropy_of_the_labels():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    shares = np.array([0.5, 0.3, 0.2])
    assert nce(np.tile([0.2, 0.5, 0.3], (100, 1)), labels) == pytest.approx(np.sum(shares * np.log(shares)), rel=1e-14)


def test_is_leep_of_certain_probabilities(world):
    observations = world()
    certain = np.eye(7)[observations.source_probs.argmax(axis=1)]
    assert nce(certain, observations.labels) == pytest.approx(leep(certain, observations.labels), rel=1e-13)
