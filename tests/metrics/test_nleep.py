import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from seg_transfer.errors import ConfigError
from seg_transfer.metrics import METRICS, _mixture, _truncated_em, leep, nleep, score_all
from seg_transfer.metrics._base import Statistics
from seg_transfer.metrics._nleep import projection
from seg_transfer.observations import MomentStatistics, Observations, _blocks


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


class TestMixture:
    @pytest.mark.parametrize("floor", [1e-6, 0.05])
    def test_one_step_is_that_of_scikit_learn(self, floor):
        z, _ = clouds()
        mixture = _mixture.from_partition(z, np.arange(600) % 4, 4, floor)
        new, likelihood = _mixture.step(mixture, z, floor)
        other = GaussianMixture(4, reg_covar=floor)
        other.weights_, other.means_ = mixture.weights, mixture.means
        other.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(mixture.covariances))
        other.covariances_ = mixture.covariances
        assert likelihood == pytest.approx(other.score(z), rel=1e-11)
        np.testing.assert_allclose(_mixture.posterior(mixture)(z), other.predict_proba(z), atol=1e-11)
        held = other.predict_proba(z)
        np.testing.assert_allclose(new.weights, held.mean(axis=0), rtol=1e-10)
        np.testing.assert_allclose(new.means, held.T @ z / held.sum(axis=0)[:, None], rtol=1e-9, atol=1e-11)
        for k in range(4):
            centered = z - new.means[k]
            expected = (held[:, k, None] * centered).T @ centered / held[:, k].sum() + floor * np.eye(3)
            np.testing.assert_allclose(new.covariances[k], expected, rtol=1e-9, atol=1e-11)

    def test_densities_are_those_of_gaussians(self):
        z, parts = clouds()
        mixture = _mixture.from_partition(z, parts, 6, 1e-6)
        logs = np.stack(
            [
                np.log(weight) + multivariate_normal(mean, covariance).logpdf(z)
                for weight, mean, covariance in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
            ],
            axis=1,
        )
        np.testing.assert_allclose(_mixture.step(mixture, z, 1e-6)[1], logsumexp(logs, axis=1).mean(), rtol=1e-12)
        expected = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
        np.testing.assert_allclose(_mixture.posterior(mixture)(z), expected, atol=1e-11)

    def test_every_step_adds_likelihood(self):
        z, _ = clouds()
        mixture, likelihoods = _mixture.from_partition(z, np.arange(600) % 6, 6, 0.0), []
        for _ in range(20):
            mixture, likelihood = _mixture.step(mixture, z, 0.0)
            likelihoods.append(likelihood)
        assert (np.diff(likelihoods) > 0).all()

    def test_finds_separate_clusters(self):
        z, parts = clouds(d=2, n_clouds=3, seed=5)
        z += 40 * np.array([[0, 0], [1, 0], [0, 1]])[parts]
        mixture = _truncated_em.fit(z - z.mean(axis=0), 3, 1e-6, rng())
        found = _mixture.posterior(mixture)(z - z.mean(axis=0)).argmax(axis=1)
        assert len({(int(one), int(other)) for one, other in zip(found, parts, strict=True)}) == 3

    def test_is_as_good_as_the_mixture_of_scikit_learn(self):
        ours, theirs = [], []
        for seed in range(20):
            z, _ = clouds(n=500, d=4, n_clouds=5, seed=seed)
            mixture = _truncated_em.fit(z, 5, 1e-6, np.random.default_rng(seed))
            ours.append(_mixture.step(mixture, z, 1e-6)[1])
            theirs.append(GaussianMixture(5, random_state=seed).fit(z).score(z))
        gaps = np.subtract(ours, theirs)
        assert gaps.mean() > -0.05
        assert np.median(np.abs(gaps)) < 0.05

    def test_the_likeliest_components_and_the_likelihood_are_those_of_all_densities(self, monkeypatch):
        z, parts = clouds(n_clouds=9)
        mixture = _mixture.from_partition(z, parts, 9, 1e-3)
        monkeypatch.setattr(_truncated_em, "BLOCK_ROWS", 100)
        kept, likelihood = _truncated_em.likeliest(mixture, z)
        expected = np.argsort(_mixture.posterior(mixture)(z), axis=1)[:, -4:]
        np.testing.assert_array_equal(np.sort(kept), np.sort(expected))
        assert likelihood == pytest.approx(_mixture.step(mixture, z, 1e-3)[1], rel=1e-11)

    def test_a_step_among_all_components_is_the_exact_one(self):
        z, _ = clouds()
        mixture = _mixture.from_partition(z, np.arange(600) % 4, 4, 0.05)
        places = _truncated_em.places_by_component(_truncated_em.likeliest(mixture, z)[0], 4)
        found, expected = _truncated_em.step(mixture, z, places, 0.05), _mixture.step(mixture, z, 0.05)[0]
        for name in ("weights", "means", "covariances"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("seed", range(5))
    def test_truncated_steps_end_as_high_as_a_hundred_exact_ones(self, seed):
        z, _ = clouds(n=3000, d=20, n_clouds=15, seed=seed)
        exact = _mixture.from_partition(z, _mixture.partition(z, 15, np.random.default_rng(seed)), 15, 1e-6)
        for _ in range(100):
            exact, expected = _mixture.step(exact, z, 1e-6)
        found = _mixture.step(_truncated_em.fit(z, 15, 1e-6, np.random.default_rng(seed)), z, 1e-6)[1]
        assert found >= expected - 1e-3 * abs(expected)

    def test_an_empty_component_stays_finite_without_weight(self):
        z, _ = clouds()
        mixture = _mixture.from_partition(z, np.arange(600) % 2, 3, 1e-6)
        held = _mixture.posterior(mixture)(z)
        assert np.isfinite(held).all()
        assert mixture.weights[2] < 1e-15

    def test_more_components_than_different_points(self):
        z = np.tile([[1.0, 0.0], [-1.0, 0.0]], (20, 1))
        held = _mixture.posterior(_truncated_em.fit(z, 5, 1e-6, rng()))(z)
        np.testing.assert_allclose(held.sum(axis=1), 1, rtol=1e-12)

    def test_the_size_of_blocks_does_not_matter(self, monkeypatch):
        z, parts = clouds()
        whole = _mixture.from_partition(z, parts, 6, 1e-6)
        monkeypatch.setattr(_mixture, "BLOCK_ROWS", 7)
        np.testing.assert_allclose(
            _mixture.from_partition(z, parts, 6, 1e-6).covariances, whole.covariances, atol=1e-12
        )


def test_projection_keeps_the_directions_that_scikit_learn_keeps(world):
    observations = world(d=30)
    x = observations.features
    z = projection(MomentStatistics.of(Observations(x, observations.labels)).total())(x)
    pca = PCA(0.8)
    expected = pca.fit_transform(x)
    expected /= np.sqrt(expected.var(axis=0).mean())
    assert z.shape == expected.shape
    np.testing.assert_allclose(np.abs(z), np.abs(expected), atol=1e-10)


@pytest.mark.parametrize("max_observations", [100, 250, 400])
def test_is_the_leep_of_the_posterior_of_all(max_observations, world):
    observations = world()
    project = projection(MomentStatistics.of(observations).total())
    z = project(observations.subsample(max_observations, 3).features)
    start = np.random.Generator(np.random.Philox(key=3))
    mixture = _truncated_em.fit(z[np.argsort((z**2).sum(axis=1))], 25, 1e-6, start)
    expected = leep(_mixture.posterior(mixture)(project(observations.features)), observations.labels)
    found = METRICS["nleep"].scores(Statistics.ungrouped(observations), max_observations=max_observations, seed=3)
    assert found == [pytest.approx(expected, rel=1e-9)]


def test_replicates_keep_the_mixture_of_the_whole_sample(world):
    observations = world(n=900, n_images=23)
    project = projection(MomentStatistics.of(observations).total())
    z = project(observations.features)
    start = np.random.Generator(np.random.Philox(key=0))
    mixture = _truncated_em.fit(z[np.argsort((z**2).sum(axis=1))], 25, 1e-6, start)
    posterior, groups = _mixture.posterior(mixture)(z), observations.image_index % 10
    expected = [leep(posterior[groups != group], observations.labels[groups != group]) for group in range(10)]
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
    monkeypatch.setattr(_blocks, "BLOCK_ROWS", 7)
    assert nleep(observations.features, observations.labels) == pytest.approx(whole, rel=1e-9)


def test_settings_outside_their_range_are_refused(world):
    observations = world()
    with pytest.raises(ConfigError, match="max_observations is 1; it must be 2 or more"):
        nleep(observations.features, observations.labels, max_observations=1)
