"""Mixtures that tests fit and look at, and their densities, computed slowly."""

import numpy as np
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from seg_transfer.arrays import HOST, arrays_of
from seg_transfer.metrics import _truncated_em
from seg_transfer.metrics._log_densities import log_densities, rows_of_block
from seg_transfer.metrics._mixture import Densities, log_sums
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


def table_of(cells, n_rows, n_components):
    """Return a table of log densities (n, K): minus infinity where they are negligible."""
    places, logs = cells
    arrays = arrays_of(logs)
    table = arrays.zeros(n_rows * n_components) - np.inf
    table[places] = logs
    return table.reshape(n_rows, n_components)


def mean_log_likelihood(mixture, z):
    """Compute the mean log-likelihood of rows (n, d)."""
    arrays, n_components = arrays_of(z), len(mixture.weights)
    log_densities_at = log_densities(mixture, Densities.of(mixture), arrays)
    total, size = 0.0, rows_of_block(n_components)
    for start in range(0, len(z), size):
        rows = z[start : start + size]
        total += float(log_sums(table_of(log_densities_at(rows), len(rows), n_components).T).sum())
    return total / len(z)
