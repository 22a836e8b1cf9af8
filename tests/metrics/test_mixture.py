"""Densities of mixtures, those that bounds rule out, and the bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixtures import clouds, from_parts, mean_log_likelihood, posterior, slow_log_densities, slow_posterior, table_of
from scipy.special import logsumexp

from seg_transfer.arrays import HOST, host
from seg_transfer.metrics import _density_bounds, _log_densities, _mixture
from seg_transfer.metrics._log_densities import NEGLIGIBLE, log_densities
from seg_transfer.metrics._mixture import Densities


def tabulated(mixture, z):
    """All log densities (K, n), minus infinity for those that were left out."""
    cells = log_densities(mixture, Densities.of(mixture), HOST)(z)
    assert (np.diff(cells[0]) > 0).all()
    return table_of(cells, len(z), len(mixture.weights)).T


# Settings that decide how densities are computed, whatever the mixture.
WAYS = {
    "few directions": (((4, 1.0),), 0.0),
    "more directions": (((4, -1.0), (12, 1.0)), 0.0),
    "polynomial bounds": (((4, -1.0),), 1.0),
    "all": (((4, -1.0),), -1.0),
}


def way_of(mixture):
    """How the densities of a mixture are computed: the number of directions, or the kind of polynomials."""
    arguments = log_densities(mixture, Densities.of(mixture), HOST).args
    (found,) = (one for one in arguments if hasattr(one, "on") and not isinstance(one, Densities))
    return len(found.directions) if isinstance(found, _density_bounds.Bounds) else type(found).__name__


@pytest.mark.parametrize(("noise", "expected"), [(0.0, 6), (0.75, 12), (1.5, "PolynomialBounds"), (9.0, "Polynomials")])
def test_how_far_apart_components_are_decides_the_way(noise, expected):
    z, parts = clouds(n=4000, d=16, n_clouds=40)
    z += noise * np.random.default_rng(1).normal(size=z.shape)
    assert way_of(from_parts(z, parts, 40, 1e-3)) == expected


class TestDensities:
    """Of components that lie far apart and of those that overlap, in every way."""

    @pytest.fixture(params=WAYS)
    def way(self, request, monkeypatch):
        directions, overlap = WAYS[request.param]
        monkeypatch.setattr(_log_densities, "DIRECTIONS", directions)
        monkeypatch.setattr(_log_densities, "MOST_OVERLAP", overlap)
        return request.param

    @pytest.fixture(params=["apart", "overlapping"])
    def mixture_and_rows(self, request, way):
        z, parts = clouds(n=900, d=16, n_clouds=9)
        if request.param == "apart":
            z += 30 * np.random.default_rng(1).normal(size=(9, 16))[parts]
        else:
            parts = np.arange(900) % 9
        mixture = from_parts(z, parts, 9, 1e-3)
        assert way_of(mixture) == {"polynomial bounds": "PolynomialBounds", "all": "Polynomials"}.get(
            way, 4 if way == "few directions" else 12
        )
        return mixture, z, request.param

    def test_they_are_those_of_gaussians(self, mixture_and_rows):
        mixture, z, kind = mixture_and_rows
        logs, expected = tabulated(mixture, z), slow_log_densities(mixture, z)
        matters = expected > expected.max(axis=0) - NEGLIGIBLE
        np.testing.assert_allclose(logs[matters], expected[matters], rtol=1e-9, atol=1e-9)
        assert np.isinf(logs).any() or kind != "apart"

    def test_likelihood_and_posterior_are_those_of_all_densities(self, mixture_and_rows):
        mixture, z, _ = mixture_and_rows
        assert mean_log_likelihood(mixture, z) == pytest.approx(
            logsumexp(slow_log_densities(mixture, z), axis=0).mean(), rel=1e-11
        )
        np.testing.assert_allclose(posterior(mixture, z), slow_posterior(mixture, z), atol=1e-11)

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
        densities = Densities.of(mixture)
        rows = means[source.integers(0, n_components, 50)] + source.normal(size=(50, d))
        exact = np.stack(
            [densities.at(HOST, rows, np.arange(len(rows)), np.full(len(rows), k)) for k in range(n_components)], axis=1
        )
        polynomials = _density_bounds.Polynomials.of(densities)
        for bounds in (
            _density_bounds.Bounds.of(mixture, densities, 4),
            _density_bounds.Bounds.of(mixture, densities, 12),
            _density_bounds.PolynomialBounds.of(polynomials, d),
        ):
            assert (bounds.at(HOST, rows) >= exact - 1e-5 * np.abs(exact)).all()

    def test_the_size_of_blocks_does_not_matter(self, mixture_and_rows, monkeypatch):
        mixture, z, _ = mixture_and_rows
        whole = mean_log_likelihood(mixture, z)
        monkeypatch.setattr(_log_densities, "BLOCK_ROWS", 7)
        monkeypatch.setattr(host, "BLOCK_ROWS", 9)
        assert mean_log_likelihood(mixture, z) == pytest.approx(whole, rel=1e-12)
