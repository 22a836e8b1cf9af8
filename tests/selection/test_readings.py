"""Readings of a network, and the variants of GBC, against slow references and values by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from seg_transfer.metrics import gbc
from seg_transfer.observations import Observations
from seg_transfer.selection import readings
from seg_transfer.selection.readings import VARIANTS, gaussian_probe, projected


@pytest.fixture
def sample() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three classes in 5 dimensions, 12 images."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 600)
    features = rng.normal(size=(600, 5)) * [3, 1, 1, 0.5, 2] + 0.6 * labels[:, None]
    return features, labels, np.arange(600) // 50


def test_gaussians_classify_held_out_images_as_a_slow_reference_does(sample) -> None:
    features, labels, images = sample
    accuracies = []
    for half in (0, 1):
        fitted = images % 2 == half
        mean = features[fitted].mean(axis=0)
        directions = np.linalg.svd(features[fitted] - mean)[2].T
        z = (features - mean) @ directions
        recalls: dict[int, list[bool]] = {0: [], 1: [], 2: []}
        for position in np.flatnonzero(~fitted):
            densities = []
            for label in range(3):
                own = z[fitted & (labels == label)]
                covariance = np.diag(own.var(axis=0))
                densities.append(multivariate_normal.logpdf(z[position], own.mean(axis=0), covariance))
            recalls[labels[position]].append(int(np.argmax(densities)) == labels[position])
        accuracies.append(np.mean([np.mean(right) for right in recalls.values()]))
    assert gaussian_probe(features, labels, images) == pytest.approx(np.mean(accuracies), abs=1e-12)
    assert 0.5 < np.mean(accuracies) < 1


def test_a_class_that_one_half_lacks_counts_as_wrong_there_and_not_at_all_in_the_other() -> None:
    features = np.array([0.0, 0.1, 5.0, 5.1, 0.0, 0.1, 9.0, 9.1])[:, None]
    labels, images = np.array([0, 0, 1, 1, 0, 0, 2, 2]), np.array([0] * 4 + [1] * 4)
    # Fitted on either image: class 0 of the other is right, its second class is unknown.
    assert gaussian_probe(features, labels, images) == 0.5


def test_numbers_of_dimensions_are_those_of_gbc(sample) -> None:
    for name, n_components in (("gbc_16", 16), ("gbc_32", 32), ("gbc_64", 64), ("gbc_128", 128)):
        score = VARIANTS[name](*sample)
        assert -np.exp(-score) == pytest.approx(gbc(*sample[:2], n_components=n_components), rel=1e-12)


def test_distances_per_dimension_by_hand() -> None:
    """Two independent axes with means 1 and 5 and variances 4/3: D_B = 1/4 * 4^2 / (8/3) = 3/2 for each of them."""
    axis = np.array([0.0, 2.0])
    first = np.array([(x, y) for x in axis for y in axis])
    features, labels = np.concatenate([first, first + 4]), np.repeat([0, 1], 4)
    expected = -np.log(2 * np.exp(-1.5))
    assert VARIANTS["gbc_per_dimension"](features, labels, labels) == pytest.approx(expected, rel=1e-12)


def test_a_projection_of_few_channels_is_a_rotation(sample) -> None:
    features = sample[0]
    rotated = projected(features)
    np.testing.assert_allclose(np.linalg.norm(rotated, axis=1), np.linalg.norm(features, axis=1))
    assert projected(np.ones((2, 40))).shape == (2, 16)
    np.testing.assert_array_equal(projected(features), rotated)


def test_a_class_that_the_sample_lacks_has_no_pixels(monkeypatch) -> None:
    seen = Observations(np.arange(8.0).reshape(4, 2), np.array([0, 0, 2, 2]))
    monkeypatch.setattr(readings, "extract_readings", lambda *_, **__: [seen])
    run = SimpleNamespace(study=SimpleNamespace(precision="float32"))
    target = SimpleNamespace(run=run, images=None, sample=None, class_pixels=np.array([500, 0, 300]))
    (observed,) = readings._observed([], target)
    assert observed.class_pixels.tolist() == [500, 300]
