"""Mixtures that tests fit and look at, and their densities, computed slowly."""

import numpy as np
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from seg_transfer.arrays import HOST
from seg_transfer.metrics import _truncated_em
from seg_transfer.metrics._log_densities import log_densities
from seg_transfer.metrics._mixture import Densities
from seg_transfer.metrics._truncated_em import KEPT


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


def posterior(mixture, z):
    """The probabilities (n, K)."""
    cells = log_densities(mixture, Densities.of(mixture), HOST)(z)
    return HOST.probabilities(*cells, (len(z), len(mixture.weights))).toarray()


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
