import numpy as np
import pytest
from mixtures import slow_posterior
from sklearn.decomposition import PCA

from seg_transfer.arrays import host
from seg_transfer.errors import ConfigError
from seg_transfer.metrics import METRICS, _truncated_em, leep, nleep, score_all
from seg_transfer.metrics._base import Statistics
from seg_transfer.metrics._nleep import MAX_DIRECTIONS, kept_directions
from seg_transfer.metrics._principal import principal


def projection(observations):
    statistics = Statistics.ungrouped(observations)
    along = principal(statistics, MAX_DIRECTIONS)
    n_kept, scale = kept_directions(statistics.total, along.variances)
    return along.mean, along.directions[:, :n_kept] / scale


def test_projection_keeps_the_directions_that_scikit_learn_keeps(world):
    observations = world(d=30)
    x = observations.features
    mean, basis = projection(observations)
    z = (x - mean) @ basis
    pca = PCA(0.8)
    expected = pca.fit_transform(x)
    expected /= np.sqrt(expected.var(axis=0).mean())
    assert z.shape == expected.shape
    np.testing.assert_allclose(np.abs(z), np.abs(expected), atol=1e-10)


@pytest.mark.parametrize("max_observations", [100, 250, 400])
def test_is_the_leep_of_the_posterior_of_all(max_observations, world):
    observations = world()
    mean, basis = projection(observations)
    z = (observations.subsample(max_observations, 3).features - mean) @ basis
    start = np.random.Generator(np.random.Philox(key=3))
    mixture = _truncated_em.fit(z[np.argsort((z**2).sum(axis=1))], 25, 1e-6, start)
    expected = leep(slow_posterior(mixture, (observations.features - mean) @ basis), observations.labels)
    found = METRICS["nleep"].scores(Statistics.ungrouped(observations), max_observations=max_observations, seed=3)
    assert found == [pytest.approx(expected, rel=1e-9)]


def test_replicates_keep_the_mixture_of_the_whole_sample(world):
    observations = world(n=900, n_images=23)
    mean, basis = projection(observations)
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
