import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from seg_transfer.arrays import HOST, host
from seg_transfer.errors import ConfigError
from seg_transfer.metrics import METRICS, _mixture, _truncated_em, leep, nleep, score_all
from seg_transfer.metrics._base import Statistics
from seg_transfer.metrics._kmeans import partition
from seg_transfer.metrics._mixture import NEGLIGIBLE, log_densities, mean_log_likelihood, posterior
from seg_transfer.metrics._nleep import projection
from seg_transfer.metrics._truncated_em import KEPT
from seg_transfer.observations import MomentStatistics, Observations


def rng():
    return np.random.Generator(np.random.Philox(key=7))


def clouds(n=600, d=3, n_clouds=6, seed=0):
    """Correlated clouds of unequal size, about the origin."""
    source = np.random.default_rng(seed)
    parts = source.choice(n_clouds, n, p=np.arange(1, n_clouds + 1) / np.arange(1, n_clouds + 1).sum())
    shapes = source.normal(size=(n_clouds, d, d)) / 2
    z = 3 * source.normal(size=(n_clouds, d))[parts] + np.einsum(
        "ni,nij->nj", source.normal(size=(n, d)), shapes[parts]
    )
    return z - z.mean(axis=0), parts


def from_parts(z, parts, n_components, floor):
    """The mixture with one component per part."""
    return _truncated_em.maximize(z, HOST.rows_by_part(parts, n_components), np.ones((KEPT, len(z))), floor)


def slow_log_densities(mixture, z):
    return np.stack(
        [
            np.log(weight) + multivariate_normal(mean, covariance).logpdf(z)
            for weight, mean, covariance in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
        ]
    )


def slow_posterior(mixture, z):
    logs = slow_log_densities(mixture, z)
    return np.exp(logs - logsumexp(logs, axis=0)).T


class TestDensities:
    """Of components that lie far apart, which bounds rule out, and of those that overlap, by polynomials."""

    @pytest.fixture(params=["apart", "overlapping"])
    def mixture_and_rows(self, request):
        z, parts = clouds(n=900, d=8, n_clouds=9)
        if request.param == "apart":
            z += 30 * np.random.default_rng(1).normal(size=(9, 8))[parts]
        else:
            parts = np.arange(900) % 9
        return from_parts(z, parts, 9, 1e-3), z, request.param

    def test_they_are_those_of_gaussians(self, mixture_and_rows):
        mixture, z, kind = mixture_and_rows
        logs, expected = log_densities(mixture, HOST)(z), slow_log_densities(mixture, z)
        matters = expected > expected.max(axis=0) - NEGLIGIBLE
        np.testing.assert_allclose(logs[matters], expected[matters], rtol=1e-9, atol=1e-9)
        assert (logs[~matters] < expected.max(axis=0).repeat(9).reshape(-1, 9).T[~matters] - NEGLIGIBLE + 1e-6).all()
        assert np.isinf(logs).any() == (kind == "apart")

    def test_likelihood_and_posterior_are_those_of_all_densities(self, mixture_and_rows):
        mixture, z, _ = mixture_and_rows
        assert mean_log_likelihood(mixture, z) == pytest.approx(
            logsumexp(slow_log_densities(mixture, z), axis=0).mean(), rel=1e-11
        )
        np.testing.assert_allclose(posterior(log_densities(mixture, HOST)(z)).T, slow_posterior(mixture, z), atol=1e-11)

    @settings(deadline=None, max_examples=40)
    @given(
        seed=st.integers(0, 10_000),
        d=st.integers(1, 12),
        n_components=st.integers(1, 12),
        spread=st.sampled_from([0.0, 1.0, 1e2, 1e5]),
        smallest=st.sampled_from([1e-6, 1e-2, 1.0]),
    )
    def test_bounds_are_never_below_the_density(self, seed, d, n_components, spread, smallest):
        source = np.random.default_rng(seed)
        means = spread * source.normal(size=(n_components, d))
        shapes = source.normal(size=(n_components, d, d)) * source.uniform(smallest, 1, size=(n_components, 1, d))
        covariances = shapes @ shapes.transpose(0, 2, 1) + smallest * np.eye(d)
        mixture = _mixture.Mixture(source.dirichlet(np.ones(n_components)), means, covariances)
        densities = _mixture.Densities.of(mixture, HOST)
        rows = means[source.integers(0, n_components, 50)] + source.normal(size=(50, d))
        exact = np.stack([densities.of_component(HOST, k, rows) for k in range(n_components)], axis=1)
        assert (_mixture._Bounds.of(mixture, densities).at(HOST, rows) >= exact - 1e-5 * np.abs(exact)).all()

    def test_the_size_of_blocks_does_not_matter(self, mixture_and_rows, monkeypatch):
        mixture, z, _ = mixture_and_rows
        whole = mean_log_likelihood(mixture, z)
        monkeypatch.setattr(_mixture, "BLOCK_ROWS", 7)
        monkeypatch.setattr(_mixture, "SQUARED_ROWS", 3)
        assert mean_log_likelihood(mixture, z) == pytest.approx(whole, rel=1e-12)


class TestSteps:
    @pytest.mark.parametrize("floor", [1e-6, 0.05])
    def test_one_step_among_all_components_is_that_of_scikit_learn(self, floor):
        z, _ = clouds()
        mixture = from_parts(z, np.arange(600) % 4, 4, floor)
        places, logs = _truncated_em.likeliest(mixture, z)
        new = _truncated_em.maximize(z, places, posterior(logs), floor)
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

    def test_the_likeliest_components_are_those_of_all_densities(self, monkeypatch):
        z, parts = clouds(n_clouds=9)
        mixture = from_parts(z, parts, 9, 1e-3)
        monkeypatch.setattr(_truncated_em, "BLOCK_ROWS", 100)
        places, logs = _truncated_em.likeliest(mixture, z)
        expected = slow_log_densities(mixture, z)
        table = np.full(KEPT * len(z), -1)
        for k, own in enumerate(places):
            table[own] = k
        for row in range(0, 600, 17):
            best = np.argsort(-expected[:, row])[:KEPT]
            kept = [k for k in table.reshape(KEPT, -1)[:, row] if k >= 0]
            assert kept == best[: len(kept)].tolist()
            assert (expected[best[len(kept) :], row] < expected[best[0], row] - NEGLIGIBLE + 1e-6).all()
            np.testing.assert_allclose(logs[: len(kept), row], expected[kept, row], rtol=1e-9)

    def test_log_densities_of_kept_components_are_those_of_the_sweep(self):
        z, parts = clouds(n_clouds=9)
        mixture = from_parts(z, parts, 9, 1e-3)
        places, logs = _truncated_em.likeliest(mixture, z)
        again = _truncated_em.log_densities_of_kept(mixture, z, places)
        matters = logs > logs[0] - NEGLIGIBLE
        np.testing.assert_allclose(again[matters], logs[matters], rtol=1e-9)

    def test_a_longer_step_goes_on_along_that_of_em_and_keeps_what_must_be_positive(self):
        z, parts = clouds()
        before = from_parts(z, np.arange(600) % 6, 6, 1e-3)
        after = from_parts(z, parts, 6, 1e-3)
        longer = _truncated_em.lengthened(before, after)
        np.testing.assert_allclose(longer.means, before.means + 1.8 * (after.means - before.means), rtol=1e-12)
        assert longer.weights.sum() == pytest.approx(1)
        for k in range(6):
            wanted = before.covariances[k] + 1.8 * (after.covariances[k] - before.covariances[k])
            is_possible = np.linalg.eigvalsh(wanted)[0] > 0
            expected = wanted if is_possible else after.covariances[k]
            np.testing.assert_allclose(longer.covariances[k], expected, rtol=1e-12)

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
        assert np.isfinite(posterior(log_densities(mixture, HOST)(z))).all()
        assert mixture.weights[2] < 1e-15

    def test_more_components_than_different_points(self):
        z = np.tile([[1.0, 0.0], [-1.0, 0.0]], (20, 1))
        held = posterior(log_densities(_truncated_em.fit(z, 5, 1e-6, rng()), HOST)(z))
        np.testing.assert_allclose(held.sum(axis=0), 1, rtol=1e-12)


class TestPartition:
    def test_each_round_of_few_centers_draws_one_by_its_distance(self):
        z = np.array([[0.0], [0.0], [10.0]])
        assert set(partition(z, 2, rng())) == {0, 1}

    def test_every_row_is_in_the_part_of_the_nearest_center(self):
        z, _ = clouds(n=800, d=5, n_clouds=40)
        parts = partition(z, 40, rng())
        centers = np.stack([z[parts == part].mean(axis=0) for part in range(40)])
        # The last step moved no more than a few rows.
        assert (cdist(z, centers).argmin(axis=1) == parts).mean() > 0.95


def test_projection_keeps_the_directions_that_scikit_learn_keeps(world):
    observations = world(d=30)
    x = observations.features
    mean, basis = projection(MomentStatistics.of(Observations(x, observations.labels)).total())
    z = (x - mean) @ basis
    pca = PCA(0.8)
    expected = pca.fit_transform(x)
    expected /= np.sqrt(expected.var(axis=0).mean())
    assert z.shape == expected.shape
    np.testing.assert_allclose(np.abs(z), np.abs(expected), atol=1e-10)


@pytest.mark.parametrize("max_observations", [100, 250, 400])
def test_is_the_leep_of_the_posterior_of_all(max_observations, world):
    observations = world()
    mean, basis = projection(MomentStatistics.of(observations).total())
    z = (observations.subsample(max_observations, 3).features - mean) @ basis
    start = np.random.Generator(np.random.Philox(key=3))
    mixture = _truncated_em.fit(z[np.argsort((z**2).sum(axis=1))], 25, 1e-6, start)
    expected = leep(slow_posterior(mixture, (observations.features - mean) @ basis), observations.labels)
    found = METRICS["nleep"].scores(Statistics.ungrouped(observations), max_observations=max_observations, seed=3)
    assert found == [pytest.approx(expected, rel=1e-9)]


def test_replicates_keep_the_mixture_of_the_whole_sample(world):
    observations = world(n=900, n_images=23)
    mean, basis = projection(MomentStatistics.of(observations).total())
    z = (observations.features - mean) @ basis
    start = np.random.Generator(np.random.Philox(key=0))
    mixture = _truncated_em.fit(z[np.argsort((z**2).sum(axis=1))], 25, 1e-6, start)
    held, groups = slow_posterior(mixture, z), observations.image_index % 10
    expected = [leep(held[groups != group], observations.labels[groups != group]) for group in range(10)]
    score = score_all(observations, ["nleep"])["nleep"]
    np.testing.assert_allclose(score.replicates, expected, rtol=1e-9)
    assert score.standard_error == pytest.approx(np.sqrt(9 * np.var(expected)), rel=1e-7)


def test_constant_features_give_the_entropy_of_the_labels():
    labels = np.repeat([0, 1], [30, 10])
    expected = 0.75 * np.log(0.75) + 0.25 * np.log(0.25)
    assert nleep(np.full((40, 3), 2.0), labels) == pytest.approx(expected, rel=1e-9)


def test_the_start_changes_the_number_and_the_seed_fixes_it(world):
    observations = world()
    first, again, other = (nleep(observations.features, observations.labels, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_size_of_blocks_does_not_matter(world, monkeypatch):
    observations = world()
    whole = nleep(observations.features, observations.labels)
    monkeypatch.setattr(host, "BLOCK_ROWS", 7)
    assert nleep(observations.features, observations.labels) == pytest.approx(whole, rel=1e-9)


def test_settings_outside_their_range_are_refused(world):
    observations = world()
    with pytest.raises(ConfigError, match="max_observations is 1; it must be 2 or more"):
        nleep(observations.features, observations.labels, max_observations=1)
