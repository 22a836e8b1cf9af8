"""Percentile bootstrap over groups, with the same draws for everything that is compared."""

import numpy as np

from seg_transfer.evaluation._measures import Array


def bootstrap_draws(n_groups: int, n_bootstrap: int, seed: int) -> Array:
    """Return how often each group is drawn, (draws, groups); no draws for a single group, which has no spread."""
    if n_groups < 2:
        return np.zeros((0, n_groups))
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_bootstrap).astype(np.float64)


def weighted_means(weights: Array, values: Array) -> Array:
    """Average values (groups, ...) with weights (draws, groups) over the groups that are not NaN: (draws, ...)."""
    defined = ~np.isnan(values)
    total: Array = np.tensordot(weights, np.where(defined, values, 0.0), axes=1)
    count = np.tensordot(weights, defined.astype(np.float64), axes=1)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def percentile_intervals(means: Array) -> Array:
    """Return the 2.5 and 97.5 percentiles (2, ...) of means (draws, ...); NaN where no draw is a number."""
    if not len(means):
        return np.full((2, *means.shape[1:]), np.nan)
    undefined = np.isnan(means).all(axis=0)
    bounds: Array = np.nanpercentile(np.where(undefined, 0.0, means), (2.5, 97.5), axis=0)
    bounds[:, undefined] = np.nan
    return bounds
