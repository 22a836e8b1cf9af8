"""Maps in the plane: principal directions, balanced pixels, and turning one map onto another."""

import numpy as np
import pytest

from seg_transfer.errors import ConfigError, ObservationsError
from seg_transfer.observations import projection
from seg_transfer.observations.projection import (
    class_balanced_rows,
    fit_plane,
    procrustes_align,
    umap_installed,
    umap_points,
)


@pytest.fixture
def features():
    """Correlated, off-center channels of very different spread."""
    rng = np.random.default_rng(0)
    return 50 + rng.normal(size=(300, 9)) @ rng.normal(size=(9, 9)) * np.linspace(0.1, 5, 9)


def test_the_plane_is_that_of_the_largest_eigenvalues(features):
    plane = fit_plane(features)
    values, vectors = np.linalg.eigh(np.cov(features.T))
    for place in (0, 1):
        assert abs(plane.directions[:, place] @ vectors[:, -1 - place]) == pytest.approx(1, abs=1e-10)
    assert plane.explained == pytest.approx(values[:-3:-1] / values.sum(), rel=1e-10)
    points = plane.apply(features)
    assert np.cov(points.T) == pytest.approx(np.diag(values[:-3:-1]), rel=1e-8, abs=1e-8 * values[-1])
    assert points.mean(axis=0) == pytest.approx([0, 0], abs=1e-9)


def test_it_applies_to_other_observations_of_the_same_space(features):
    plane = fit_plane(features[:100])
    np.testing.assert_allclose(plane.apply(features)[:100], plane.apply(features[:100]), rtol=1e-12)
    with pytest.raises(ObservationsError, match=r"\(300, 8\); the projection was fitted on 9 channels"):
        plane.apply(features[:, :8])


def test_directions_have_one_sign(features):
    plane, mirrored = fit_plane(features), fit_plane(-features)
    np.testing.assert_allclose(mirrored.directions, plane.directions, atol=1e-10)
    assert (plane.directions[np.abs(plane.directions).argmax(axis=0), [0, 1]] > 0).all()


def test_half_floats_are_seen_in_double_precision(features):
    halves = features.astype(np.float16)
    np.testing.assert_allclose(fit_plane(halves).directions, fit_plane(halves.astype(np.float64)).directions)


def test_one_channel_and_constant_features():
    plane = fit_plane(np.array([[1.0], [2.0], [4.0]]))
    assert plane.apply(np.array([[1.0], [4.0]]))[:, 1].tolist() == [0, 0]
    assert plane.explained.tolist() == [1, 0]
    assert fit_plane(np.ones((4, 3))).explained.tolist() == [0, 0]
    with pytest.raises(ObservationsError, match="two observations"):
        fit_plane(np.ones((1, 3)))


def test_class_balanced_rows_have_equally_many_of_every_class():
    labels = np.repeat([4, 9, 2], [5000, 700, 30])[np.random.default_rng(0).permutation(5730)]
    rows = class_balanced_rows(labels, 1030, seed=3)
    assert np.unique(labels[rows], return_counts=True)[1].tolist() == [30, 500, 500]
    assert (np.diff(rows) > 0).all()
    assert class_balanced_rows(labels, 1030, seed=3).tolist() == rows.tolist()
    assert class_balanced_rows(labels, 1030).tolist() != rows.tolist()
    assert class_balanced_rows(labels, 10_000).tolist() == list(range(5730))


def test_alignment_undoes_a_rigid_motion(features):
    points = fit_plane(features).apply(features)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]]) @ np.diag([1, -1])  # a rotation and a mirror
    moved = points @ turn + [30, -7]
    np.testing.assert_allclose(procrustes_align(moved, points), points, atol=1e-9)


def test_alignment_keeps_distances(features):
    points = fit_plane(features).apply(features)
    other = 3 * points + np.random.default_rng(1).normal(size=points.shape)
    turned = procrustes_align(other, points)
    lengths = [np.linalg.norm(one[:-1] - one[1:], axis=1) for one in (other, turned)]
    np.testing.assert_allclose(lengths[0], lengths[1], rtol=1e-9)
    with pytest.raises(ObservationsError, match="must show the same observations"):
        procrustes_align(points[:-1], points)


def test_a_umap_without_its_library_says_how_to_get_it(features, monkeypatch):
    monkeypatch.setattr(projection, "umap_installed", lambda: False)
    with pytest.raises(ConfigError, match=r"pip install 'seg_transfer\[umap\]'"):
        umap_points(features)


@pytest.mark.skipif(not umap_installed(), reason="the extra umap is not installed")
@pytest.mark.filterwarnings("ignore")  # of numba
def test_a_umap_separates_clusters_and_is_seeded(features):
    apart = np.concatenate([features[:60], features[60:120] + 500])
    points = umap_points(apart, seed=2)
    assert points.shape == (120, 2)
    centers = points[:60].mean(axis=0), points[60:].mean(axis=0)
    assert np.linalg.norm(centers[0] - centers[1]) > 2 * points[:60].std(axis=0).max()
    np.testing.assert_array_equal(points, umap_points(apart, seed=2))
