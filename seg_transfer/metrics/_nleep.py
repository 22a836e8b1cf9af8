"""N-LEEP: LEEP with the components of a Gaussian mixture of the features in place of the source's classes."""

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from seg_transfer.arrays import arrays_of
from seg_transfer.metrics import _truncated_em
from seg_transfer.metrics._base import Metric, Scores, Statistics, check_setting, overall_score
from seg_transfer.metrics._leep import leep_scores
from seg_transfer.metrics._log_densities import log_densities, rows_of_block
from seg_transfer.metrics._mixture import Densities
from seg_transfer.metrics._principal import principal
from seg_transfer.observations import FloatArray, IntArray, Moments, Observations
from seg_transfer.observations.passes import Blocks

VARIANCE_KEPT = 0.8
# A full covariance of more directions would have more parameters than a component has observations.
MAX_DIRECTIONS = 64
COMPONENTS_PER_CLASS = 5
# Added to the variances of every component, relative to the mean variance of a direction.
FLOOR = 1e-6
MAX_KEPT_BYTES = 256 << 20


def nleep(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    *,
    max_observations: int = 30_000,
    seed: int = 0,
) -> float:
    """Compute Gaussian LEEP: LEEP with the posterior of a Gaussian mixture in place of the source's probabilities.

    Li et al., "Ranking Neural Checkpoints", CVPR 2021. A PCA keeps 80 % of the variance (at most 64 directions), a
    Gaussian mixture with full covariances and 5 components per class is fitted to the projection, and the score is the
    LEEP of its posterior probabilities.

    The mixture is a local optimum that depends on its start, k-means from a seeded k-means++ start. It is fitted on
    ``max_observations``, equally many from every image, by steps that divide every observation among its likeliest
    components (see `_truncated_em`); the posterior is then computed for all. The variances of every component are
    increased by 1e-6 of the mean variance, a share, so that the scale of the features does not matter. Standard errors
    keep the projection and the mixture of the whole sample.

    Where components are nearly singular, the fit amplifies rounding: between two orders of the same sums, the scores of
    22 real pairs differed by less than 1e-7.

    Args:
        features: (N, D).
        labels: (N,) integers, C classes.
        max_observations: The mixture is fitted on at most this many observations.
        seed: Seed of the start and of the choice of observations.

    Returns:
        A number in (-inf, 0], in nats; higher is better.

    Raises:
        ObservationsError: The features hold NaN or infinite values, or there are fewer than two classes or
            observations.
        ConfigError: A setting is outside its range.

    Example:
        >>> features = np.array([[0.0], [0.1], [5.0], [5.1]])
        >>> nleep(features, np.array([0, 0, 1, 1])) >= nleep(features, np.array([0, 1, 0, 1]))
        True
    """
    statistics = Statistics.ungrouped(Observations(features, labels))
    return overall_score(_scores(statistics, max_observations=max_observations, seed=seed))


def _scores(statistics: Statistics, *, max_observations: int, seed: int) -> Scores:
    check_setting(max_observations >= 2, "max_observations", max_observations, "2 or more")
    observations, along = statistics.observations, principal(statistics, MAX_DIRECTIONS)
    arrays, (n_kept, scale) = arrays_of(along.features), kept_directions(statistics.total, along.variances)
    z = along.rows(observations.subsampled_rows(max_observations, seed))[:, :n_kept] / scale
    # Sort, so that the start depends on the observations and not on their order.
    z = arrays.take(z, np.argsort(arrays.to_host(arrays.squared_lengths(z)), kind="stable"))
    n_components = min(COMPONENTS_PER_CLASS * len(observations.classes), len(z))
    mixture = _truncated_em.fit(z, n_components, FLOOR, np.random.Generator(np.random.Philox(key=seed)))
    log_densities_at = log_densities(mixture, Densities.of(mixture), arrays)

    def posteriors(keys: IntArray) -> Blocks:
        # Few rows at a time have the features in the cache; many in a block suit its densities.
        n_rows = min(arrays.block_rows, rows_of_block(n_components))
        blocks = ((rows[:, :n_kept] / scale, sorted_keys) for rows, sorted_keys in along.blocks(keys, n_rows))
        while some := list(islice(blocks, rows_of_block(n_components) // n_rows)):
            rows = arrays.joined([rows for rows, _ in some])
            posterior = arrays.probabilities(*log_densities_at(rows), (len(rows), n_components))
            yield posterior, np.concatenate([sorted_keys for _, sorted_keys in some])

    return leep_scores(statistics, _Repeated(posteriors), n_components)


class _Repeated:
    """Blocks of probabilities for two passes: computed once if what matters of them fits into memory."""

    def __init__(self, compute: Callable[[IntArray], Blocks]) -> None:
        self._compute = compute
        self._kept: list[tuple[Any, IntArray]] = []
        self._fits = True

    def __call__(self, keys: IntArray) -> Blocks:
        if self._kept and self._fits:
            return self._kept
        return self._first(keys)

    def _first(self, keys: IntArray) -> Blocks:
        n_bytes = 0
        for rows, sorted_keys in self._compute(keys):
            if self._fits and isinstance(rows, csr_array):
                n_bytes += rows.data.nbytes + rows.indices.nbytes
                self._kept.append((rows, sorted_keys))
            if n_bytes > MAX_KEPT_BYTES:
                self._fits, self._kept, n_bytes = False, [], 0
            yield rows, sorted_keys


def kept_directions(total: Moments, variances: FloatArray) -> tuple[int, float]:
    """Return how many of the directions keep 80 % of the variance, and the root of their mean variance."""
    variance = np.trace(total.covariance)
    enough = int(np.searchsorted(np.cumsum(variances), VARIANCE_KEPT * variance, side="right")) + 1
    n_kept = min(enough, len(variances))
    return n_kept, float(np.sqrt(variances[:n_kept].mean())) if variance > 0 else 1.0


METRIC = Metric(
    name="nleep",
    version=5,
    needs=frozenset({"features"}),
    range="(-inf, 0]",
    cost="N D^2 + N C d^2",
    reference="Li et al., Ranking Neural Checkpoints, CVPR 2021",
    scores=_scores,
    settings={"max_observations": 30_000, "seed": 0},
    additive=True,
)
