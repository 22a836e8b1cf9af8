"""Fitting Gaussian mixtures by expectation maximization that keeps the likeliest components of every observation.

In many dimensions an observation belongs to one component or to a few, and a step of EM that visits all of them
computes mostly zeros. Steps therefore visit only the components that were the likeliest in the last sweep over all of
them (Lücke and Eggert, "Expectation truncation and the benefits of preselection in training generative models", JMLR
2010). EM is slow near its end; steps are therefore longer than those of EM, along the same direction (Salakhutdinov and
Roweis, "Adaptive overrelaxed bound optimization methods", ICML 2003).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from seg_transfer.arrays import Parts, arrays_of
from seg_transfer.metrics._kmeans import partition
from seg_transfer.metrics._log_densities import Cells, log_densities_of_likeliest, rows_of_block
from seg_transfer.metrics._mixture import Densities, Mixture, log_sums, posterior

KEPT = 4
# A component this many nats below the likeliest one does not become likely within a sweep.
FAR_BELOW = 40.0
# A smaller share of an observation changes no digit of a mean or covariance that matters.
NEGLIGIBLE = 1e-6
STEPS_PER_SWEEP = 12
MOST_SWEEPS = 10
# Length of a step in units of EM's own. Near a maximum, steps below twice that length converge. Close to it, where
# components are nearly singular, they amplify what rounding changes.
STEP_LENGTH = 1.6
# EM ends when a sweep adds less than this to the mean log-likelihood of an observation, per dimension.
TOLERANCE = 1e-3


def fit(z: Any, n_components: int, floor: float, rng: np.random.Generator) -> Mixture:
    """Fit a mixture by EM, until a sweep adds less than 0.001 per dimension to the mean log-likelihood.

    EM starts from a partition by k-means. Each of at most 10 sweeps finds the 4 likeliest components of every
    observation, among which 12 steps then divide it.

    Args:
        z: (n, d), centered, with a small d.
        n_components: Number of components.
        floor: Added to all variances of every component.
        rng: Source of randomness for the start.
    """
    arrays, parts = arrays_of(z), partition(z, n_components, rng)
    places = arrays.rows_by_part(parts, n_components)
    mixture, tolerance = maximize(z, places, arrays.zeros(KEPT, len(z)) + 1.0, floor), TOLERANCE * z.shape[1]
    densities = Densities.of(mixture)
    for _ in range(MOST_SWEEPS):
        places, logs = likeliest(mixture, densities, z)
        likelihoods = [float(log_sums(logs).mean())]
        while len(likelihoods) <= STEPS_PER_SWEEP and not _is_still(likelihoods, tolerance / STEPS_PER_SWEEP):
            mixture, densities = lengthened(mixture, maximize(z, places, posterior(logs), floor))
            logs = log_densities_of_kept(densities, z, places)
            likelihoods.append(float(log_sums(logs).mean()))
        if likelihoods[-1] - likelihoods[0] < tolerance:
            break
    return mixture


def _is_still(likelihoods: Sequence[float], tolerance: float) -> bool:
    """Whether the last step changed the likelihood by less than the tolerance."""
    return len(likelihoods) > 1 and abs(likelihoods[-1] - likelihoods[-2]) < tolerance


def likeliest(mixture: Mixture, densities: Densities, z: Any) -> tuple[Parts, Any]:
    """Return the likeliest components of every observation, and their log densities (KEPT, n).

    The rows of a part are the places of its component in the flattened table (KEPT, n).
    """
    arrays, n_components = arrays_of(z), len(mixture.weights)
    log_densities_at = log_densities_of_likeliest(mixture, densities, arrays, KEPT, FAR_BELOW)
    size = rows_of_block(n_components)
    # Components that are negligible keep no place.
    kept = arrays.of_host(np.full((KEPT, len(z)), n_components))
    logs = arrays.zeros(KEPT, len(z)) - np.inf
    for start in range(0, len(z), size):
        rows = z[start : start + size]
        left, components = _packed(log_densities_at(rows), len(rows), n_components)
        everywhere = arrays.of_host(np.arange(len(rows)))
        for rank in range(KEPT):
            best = arrays.argmax(left)
            logs[rank, start : start + size] = left[everywhere, best]
            kept[rank, start : start + size] = components[everywhere, best]
            left[everywhere, best] = -np.inf
            components[everywhere, best] = n_components
    return arrays.rows_by_part(kept.reshape(-1), n_components), logs


def _packed(cells: Cells, n_rows: int, n_components: int) -> tuple[Any, Any]:
    """Return the log densities (n, m) of every row from the left, then minus infinity, and their components, then K."""
    places, logs = cells
    arrays, rows = arrays_of(logs), places // n_components
    counts = arrays.count(rows, n_rows)
    columns = arrays.of_host(np.arange(len(places)) - (np.cumsum(counts) - counts).repeat(counts))
    table = arrays.zeros(n_rows, int(counts.max())) - np.inf
    components = arrays.of_host(np.full(table.shape, n_components))
    table[rows, columns] = logs
    components[rows, columns] = places - rows * n_components
    return table, components


def log_densities_of_kept(densities: Densities, z: Any, places: Parts) -> Any:
    """Compute the log densities (KEPT, n) of the components that observations keep."""
    arrays = arrays_of(z)
    logs = arrays.zeros(KEPT * len(z)) - np.inf
    logs[places.rows] = densities.on(arrays).of_parts(arrays, z, replace(places, rows=places.rows % len(z)))
    return logs.reshape(KEPT, -1)


def maximize(z: Any, places: Parts, shares: Any, floor: float) -> Mixture:
    """Return the mixture that fits best, given the shares of every observation in the components that it keeps."""
    arrays = arrays_of(z)
    weights = arrays.take(shares.reshape(-1), places.rows)
    weights *= weights > NEGLIGIBLE
    counts, means, products = arrays.weighted_moments(z, replace(places, rows=places.rows % len(z)), weights)
    # An empty component stays finite, with negligible weight.
    counts += 10 * np.finfo(np.float64).eps
    covariances = products / counts[:, None, None] + floor * np.eye(z.shape[1])
    return Mixture(counts / counts.sum(), means, covariances)


def lengthened(before: Mixture, after: Mixture) -> tuple[Mixture, Densities]:
    """Return the mixture where a longer step than that of EM ends; EM's own step for what it would make impossible."""
    more = STEP_LENGTH - 1
    weights = np.maximum(after.weights + more * (after.weights - before.weights), after.weights / 2)
    means = after.means + more * (after.means - before.means)
    covariances = after.covariances + more * (after.covariances - before.covariances)
    mixture = Mixture(weights / weights.sum(), means, covariances)
    return mixture, Densities.of(mixture, after.covariances)
