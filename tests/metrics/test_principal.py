import numpy as np
import pytest

from seg_transfer.arrays import host
from seg_transfer.metrics import _principal, score_all
from seg_transfer.metrics._base import Statistics
from seg_transfer.metrics._principal import principal

METRICS = ["gbc", "nleep"]


def expected(observations, n):
    x = observations.features - observations.features.mean(axis=0)
    singular, right = np.linalg.svd(x, full_matrices=False)[1:]
    return singular[:n] ** 2 / len(x), x @ right[:n].T


@pytest.mark.parametrize("n", [1, 3, 6])
def test_directions_are_those_of_a_singular_value_decomposition(n, world):
    observations = world(d=6)
    along = principal(Statistics.ungrouped(observations), n)
    variances, rows = expected(observations, n)
    np.testing.assert_allclose(along.variances, variances, rtol=1e-10)
    np.testing.assert_allclose(np.abs(along.rows(np.arange(400))), np.abs(rows), atol=1e-10)


def test_without_a_number_the_channels_stay_as_they_are(world):
    observations = world(d=6)
    along = principal(Statistics.ungrouped(observations), None)
    np.testing.assert_allclose(along.variances, observations.features.var(axis=0))
    x = observations.features - observations.features.mean(axis=0)
    np.testing.assert_allclose(along.rows(np.array([5, 9])), x[[5, 9]], atol=1e-12)


@pytest.mark.parametrize("kept_bytes", [0, 1 << 20])
def test_blocks_have_the_rows_in_the_order_of_their_keys(kept_bytes, world, monkeypatch):
    monkeypatch.setattr(_principal, "KEPT_BYTES", kept_bytes)
    monkeypatch.setattr(host, "BLOCK_ROWS", 7)
    observations = world(d=6)
    along, keys = principal(Statistics.ungrouped(observations), 2), observations.codes
    blocks = [(rows.copy(), own) for rows, own in along.blocks(keys)]
    np.testing.assert_array_equal(np.concatenate([own for _, own in blocks]), np.sort(keys))
    rows = along.rows(np.argsort(keys, kind="stable"))
    np.testing.assert_allclose(np.concatenate([rows for rows, _ in blocks]), rows, atol=1e-12)


def test_scores_are_the_same_where_the_rows_are_not_kept(world, monkeypatch):
    observations = world(n=900, n_images=23)
    kept = score_all(observations, METRICS)
    monkeypatch.setattr(_principal, "KEPT_BYTES", 0)
    projected_again = score_all(observations, METRICS)
    for name in METRICS:
        np.testing.assert_allclose(projected_again[name].score, kept[name].score, rtol=1e-10)
        np.testing.assert_allclose(projected_again[name].replicates, kept[name].replicates, rtol=1e-10)


def test_metrics_of_one_pair_project_the_features_once(world, monkeypatch):
    counts, projected = [], _principal.projected_blocks
    monkeypatch.setattr(_principal, "projected_blocks", lambda *args: counts.append(1) or projected(*args))
    score_all(world(), METRICS)
    assert len(counts) == 1
