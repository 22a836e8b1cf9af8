"""Steps of EM among the likeliest components, the partition from which they start, and where they end."""

import warnings

import numpy as np
import pytest
from mixtures import clouds, from_parts, mean_log_likelihood, posterior, slow_log_densities, slow_posterior
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from seg_transfer.metrics import _kmeans, _log_densities, _mixture, _truncated_em
from seg_transfer.metrics._kmeans import partition
from seg_transfer.metrics._mixture import Densities
from seg_transfer.metrics._truncated_em import FAR_BELOW, KEPT


def rng():
    return np.random.Generator(np.random.Philox(key=7))


def likeliest(mixture, z):
    return _truncated_em.likeliest(mixture, Densities.of(mixture), z)


class TestSteps:
    @pytest.mark.parametrize("floor", [1e-6, 0.05])
    def test_one_step_among_all_components_is_that_of_scikit_learn(self, floor):
        z, _ = clouds()
        mixture = from_parts(z, np.arange(600) % 4, 4, floor)
        places, logs = likeliest(mixture, z)
        new = _truncated_em.maximize(z, places, _mixture.posterior(logs), floor)
        other = GaussianMixture(4, reg_covar=floor)
        other.weights_, other.means_ = mixture.weights, mixture.means
        other.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(mixture.covariances))
        held = other.predict_proba(z)
        np.testing.assert_allclose(new.weights, held.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(new.means, held.T @ z / held.sum(axis=0)[:, None], rtol=1e-4, atol=1e-5)
        for k in range(4):
            centered = z - new.means[k]
            expected = (held[:, k, None] * centered).T @ centered / held[:, k].sum() + floor * np.eye(3)
            np.testing.assert_allclose(new.covariances[k], expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("overlapping", [False, True])
    def test_the_likeliest_components_are_those_of_all_densities(self, overlapping, monkeypatch):
        z, parts = clouds(n_clouds=9)
        mixture = from_parts(z, np.arange(600) % 9 if overlapping else parts, 9, 1e-3)
        monkeypatch.setattr(_log_densities, "BLOCK_ROWS", 100)
        places, logs = likeliest(mixture, z)
        expected = slow_log_densities(mixture, z)
        table = np.full(KEPT * len(z), -1)
        for k, own in enumerate(places):
            table[own] = k
        for row in range(0, 600, 17):
            best = np.argsort(-expected[:, row])[:KEPT]
            kept = [k for k in table.reshape(KEPT, -1)[:, row] if k >= 0]
            assert kept == best[: len(kept)].tolist()
            assert len(kept) == KEPT or not overlapping
            assert (expected[best[len(kept) :], row] < expected[best[0], row] - FAR_BELOW + 1e-6).all()
            np.testing.assert_allclose(logs[: len(kept), row], expected[kept, row], rtol=1e-9)

    def test_log_densities_of_kept_components_are_those_of_the_sweep(self):
        z, parts = clouds(n_clouds=9)
        mixture = from_parts(z, parts, 9, 1e-3)
        places, logs = likeliest(mixture, z)
        again = _truncated_em.log_densities_of_kept(Densities.of(mixture), z, places)
        matters = logs > logs[0] - FAR_BELOW
        np.testing.assert_allclose(again[matters], logs[matters], rtol=1e-9)

    def test_a_longer_step_goes_on_along_that_of_em_and_keeps_what_must_be_positive(self):
        z, parts = clouds()
        before = from_parts(z, np.arange(600) % 6, 6, 1e-3)
        after = from_parts(z, parts, 6, 1e-3)
        longer, densities = _truncated_em.lengthened(before, after)
        np.testing.assert_allclose(longer.means, before.means + 1.6 * (after.means - before.means), rtol=1e-12)
        assert longer.weights.sum() == pytest.approx(1)
        for k in range(6):
            wanted = before.covariances[k] + 1.6 * (after.covariances[k] - before.covariances[k])
            is_possible = np.linalg.eigvalsh(wanted)[0] > 0
            expected = wanted if is_possible else after.covariances[k]
            np.testing.assert_allclose(longer.covariances[k], expected, rtol=1e-12)
        np.testing.assert_array_equal(densities.inverses, Densities.of(longer).inverses)

    def test_finds_separate_clusters(self):
        z, parts = clouds(d=2, n_clouds=3, seed=5)
        z += 40 * np.array([[0, 0], [1, 0], [0, 1]])[parts]
        z -= z.mean(axis=0)
        found = slow_posterior(_truncated_em.fit(z, 3, 1e-6, rng()), z).argmax(axis=1)
        assert len({(int(one), int(other)) for one, other in zip(found, parts, strict=True)}) == 3

    def test_is_as_good_as_the_mixture_of_scikit_learn(self):
        ours, theirs = [], []
        for seed in range(20):
            z, _ = clouds(n=500, d=4, n_clouds=5, seed=seed)
            ours.append(mean_log_likelihood(_truncated_em.fit(z, 5, 1e-6, np.random.default_rng(seed)), z))
            theirs.append(GaussianMixture(5, random_state=seed).fit(z).score(z))
        gaps = np.subtract(ours, theirs)
        assert gaps.mean() > -0.05
        assert np.median(np.abs(gaps)) < 0.05

    def test_ends_as_high_as_a_hundred_steps_of_scikit_learn_from_the_same_start(self):
        lead = []
        for seed in range(8):
            z, _ = clouds(n=2000, d=12, n_clouds=10, seed=seed)
            start = from_parts(z, partition(z, 10, np.random.default_rng(seed)), 10, 1e-6)
            initial = {"weights_init": start.weights, "means_init": start.means}
            exact = GaussianMixture(
                10, precisions_init=np.linalg.inv(start.covariances), max_iter=100, tol=0, **initial
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                expected = exact.fit(z).score(z)
            found = mean_log_likelihood(_truncated_em.fit(z, 10, 1e-6, np.random.default_rng(seed)), z)
            lead.append((found - expected) / abs(expected))
        assert np.mean(lead) > -1e-3

    def test_an_empty_component_stays_finite_without_weight(self):
        z, _ = clouds()
        mixture = from_parts(z, np.arange(600) % 2, 3, 1e-6)
        assert np.isfinite(posterior(mixture, z)).all()
        assert mixture.weights[2] < 1e-15

    def test_more_components_than_different_points(self):
        z = np.tile([[1.0, 0.0], [-1.0, 0.0]], (20, 1))
        held = posterior(_truncated_em.fit(z, 5, 1e-6, rng()), z)
        np.testing.assert_allclose(held.sum(axis=1), 1, rtol=1e-12)


class TestPartition:
    def test_rows_as_near_to_two_centers_as_float32_can_tell_go_to_the_nearer_one(self):
        centers = np.array([[100.0, 0.0], [100.0, 1e-4], [-200.0, 0.0]])
        z = np.stack([np.full(40, 100.0), np.linspace(-1e-4, 2e-4, 40)], axis=1)
        expected = cdist(z, centers).argmin(axis=1)
        assert set(expected) == {0, 1}
        np.testing.assert_array_equal(_kmeans._nearest(z, centers), expected)

    def test_rows_that_float32_would_give_to_a_wrong_center_go_to_the_right_one(self):
        """The centers differ by a few of the last digits of float32."""
        source = np.random.default_rng(5)
        z, centers = source.normal(size=(500, 3)) * 3, 10 + 3e-6 * source.normal(size=(20, 3))
        in_float32 = (z.astype(np.float32) @ centers.T.astype(np.float32)) - np.float32((centers**2).sum(axis=1) / 2)
        expected = cdist(z, centers).argmin(axis=1)
        assert (in_float32.argmax(axis=1) != expected).mean() > 0.05
        np.testing.assert_array_equal(_kmeans._nearest(z, centers), expected)

    def test_each_round_of_few_centers_draws_one_by_its_distance(self):
        z = np.array([[0.0], [0.0], [10.0]])
        assert set(partition(z, 2, rng())) == {0, 1}

    def test_every_row_is_in_the_part_of_the_nearest_center(self):
        z, _ = clouds(n=800, d=5, n_clouds=40)
        parts = partition(z, 40, rng())
        centers = np.stack([z[parts == part].mean(axis=0) for part in range(40)])
        # The last step moved no more than a few rows.
        assert (cdist(z, centers).argmin(axis=1) == parts).mean() > 0.95
