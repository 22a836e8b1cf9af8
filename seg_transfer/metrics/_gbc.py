"""GBC: how far apart the classes lie in the space of the features, each class a Gaussian."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.special

from seg_transfer.metrics._base import Metric, Scores, Statistics, features_of, require, single
from seg_transfer.observations import FloatArray, IntArray, Moments, Observations, add_by_key, keyed_blocks

Covariance = Literal["diagonal", "spherical", "full"]


def gbc(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    *,
    n_components: int | None = 64,
    covariance: Covariance = "diagonal",
    variance_floor: float = 1e-4,
    ddof: int = 1,
) -> float:
    """Gaussian Bhattacharyya coefficient, Pandy et al., CVPR 2022, eq. 1-3: minus the sum over ordered pairs of
    different classes of exp(-D_B), D_B the Bhattacharyya distance of the two classes as Gaussians after a PCA.

    Args:
        features: (N, D).
        labels: (N,) integers, C classes.
        n_components: the PCA keeps min(n_components, D, N - 1) directions, not whitened; None: no PCA, the channels
            as they are.
        covariance: of each class: "diagonal"; "spherical": the mean of the diagonal in all directions; "full".
        variance_floor: the least variance in any direction (diagonal, spherical), or what is added to every
            eigenvalue (full). A class with one observation has this variance.
        ddof: variances are divided by n_c - ddof: 1 is the paper's, 0 that of the authors' released code.

    Returns:
        A number in [-C (C - 1), 0]; higher is better. Where it underflows to 0, `log_negative_gbc` still ranks.

    Raises:
        ObservationsError: NaN or infinite features, fewer than two classes or observations.
        ConfigError: a setting outside its range.
    """
    log = log_negative_gbc(
        features,
        labels,
        n_components=n_components,
        covariance=covariance,
        variance_floor=variance_floor,
        ddof=ddof,
    )
    return -float(np.exp(log))


def log_negative_gbc(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    *,
    n_components: int | None = 64,
    covariance: Covariance = "diagonal",
    variance_floor: float = 1e-4,
    ddof: int = 1,
) -> float:
    """log(-GBC), *lower* is better: the same ranking as `gbc`, whose arguments it has, without underflow."""
    statistics = Statistics.ungrouped(Observations(features, labels))
    return single(_log_scores(statistics, _Settings(n_components, covariance, variance_floor, ddof)))


@dataclass(frozen=True)
class _Settings:
    n_components: int | None
    covariance: Covariance
    variance_floor: float
    ddof: int

    def __post_init__(self) -> None:
        wanted = self.n_components
        require(wanted is None or wanted >= 1, "n_components", wanted, "1 or more, or None")
        require(self.covariance in get_args(Covariance), "covariance", self.covariance, "diagonal, spherical or full")
        require(self.variance_floor > 0, "variance_floor", self.variance_floor, "above 0")
        require(self.ddof in (0, 1), "ddof", self.ddof, "0 or 1")


@dataclass(frozen=True, eq=False)
class _Projected:
    """Sums of z = W^T (x - mean of its class over the whole sample), for G groups, C classes, d directions.

    ``centres``: (C, d), W^T (class mean - mean). ``counts``: (G, C). ``sums``: (G, C, d), of z. ``squares``: of z^2,
    (G, C, d), or of z z^T, (G, C, d, d).
    """

    centres: FloatArray
    counts: IntArray
    sums: FloatArray
    squares: FloatArray


def _scores(statistics: Statistics, **settings: Any) -> Scores:
    return [None if log is None else -float(np.exp(log)) for log in _log_scores(statistics, _Settings(**settings))]


def _log_scores(statistics: Statistics, settings: _Settings) -> Scores:
    """log(-GBC) of all, and without each group, where the PCA of all is held fixed: it turns little with a tenth of the
    images, and this way leaving out a group needs no third pass."""
    projected = _project(statistics, settings)
    samples: list[slice | list[int]] = [slice(None)]
    samples += [[other for other in statistics.left_out if other != group] for group in statistics.left_out]
    return [_log_score(projected, sample, settings) for sample in samples]


def _project(statistics: Statistics, settings: _Settings) -> _Projected:
    total = statistics.total
    basis = _directions(total, settings.n_components)
    full = settings.covariance == "full"
    if statistics.class_moments is None:
        return _project_observations(statistics, basis, full)
    return _project_moments(statistics.class_moments.groups, total, basis, full)


def _project_moments(classes: tuple[Moments, ...], total: Moments, basis: FloatArray, full: bool) -> _Projected:
    """One group, in which the sum of z over every class is zero."""
    centres = total.class_offsets @ basis
    squares = np.stack([_scatter_along(basis, part, full) for part in classes])
    return _Projected(centres, total.counts[None], np.zeros((1, *centres.shape)), squares[None])


def _scatter_along(basis: FloatArray, moments: Moments, full: bool) -> FloatArray:
    """W^T (sum of (x - mean)(x - mean)^T) W, (d, d), or its diagonal, (d,)."""
    image, mean = moments.second @ basis, (moments.mean - moments.shift) @ basis
    if full:
        return basis.T @ image - moments.n * np.outer(mean, mean)
    diagonal: FloatArray = np.einsum("ij,ij->j", basis, image) - moments.n * mean**2
    return diagonal


def _project_observations(statistics: Statistics, basis: FloatArray, full: bool) -> _Projected:
    """A second pass over the observations."""
    observations, n_groups, width = statistics.observations, statistics.n_groups, basis.shape[1]
    mean, centres, n_classes = statistics.total.mean, statistics.total.class_offsets @ basis, len(observations.classes)
    keys = statistics.groups * n_classes + observations.codes
    sums = np.zeros((n_groups * n_classes, width))
    squares = np.zeros((n_groups * n_classes, width, width) if full else sums.shape)
    add_squares = _add_outer_products if full else _add_squares
    for rows, sorted_keys in keyed_blocks(features_of(statistics), keys):
        rows -= mean
        z = rows @ basis - centres[sorted_keys % n_classes]
        add_by_key(sums, z, sorted_keys)
        add_squares(squares, z, sorted_keys)
    counts = np.bincount(keys, minlength=n_groups * n_classes).reshape(n_groups, n_classes)
    by_group = (n_groups, n_classes)
    return _Projected(centres, counts, sums.reshape(*by_group, width), squares.reshape(*by_group, *squares.shape[1:]))


def _directions(total: Moments, wanted: int | None) -> FloatArray:
    """(D, d): eigenvectors of the d = min(wanted, D, N - 1) largest eigenvalues, or the axes."""
    width = len(total.mean)
    if wanted is None:
        return np.eye(width)
    first = max(width - min(wanted, total.n - 1), 0)
    vectors: FloatArray = scipy.linalg.eigh(total.covariance, subset_by_index=[first, width - 1])[1]
    return vectors


def _add_squares(totals: FloatArray, z: FloatArray, keys: IntArray) -> None:
    add_by_key(totals, z * z, keys)


def _add_outer_products(totals: FloatArray, z: FloatArray, keys: IntArray) -> None:
    present, starts = np.unique(keys, return_index=True)
    for key, part in zip(present, np.split(z, starts[1:]), strict=True):
        totals[key] += part.T @ part


def _log_score(projected: _Projected, sample: slice | list[int], settings: _Settings) -> float | None:
    held = projected.counts[sample].sum(axis=0) > 0
    if np.count_nonzero(held) < 2:
        return None
    return float(scipy.special.logsumexp(-_distances(projected, sample, held, settings)) + np.log(2.0))


def class_distances(
    statistics: Statistics,
    n_components: int | None,
    covariance: Covariance,
    variance_floor: float,
    ddof: int,
) -> FloatArray:
    """D_B of every pair i < j of the classes present, (C (C - 1) / 2,), with the settings of `gbc`."""
    settings = _Settings(n_components, covariance, variance_floor, ddof)
    held = np.ones(len(statistics.observations.classes), dtype=np.bool_)
    return _distances(_project(statistics, settings), slice(None), held, settings)


def _distances(
    projected: _Projected, sample: slice | list[int], held: npt.NDArray[np.bool_], settings: _Settings
) -> FloatArray:
    """D_B of every pair i < j of the classes that the sample holds."""
    n = projected.counts[sample].sum(axis=0)[held, None].astype(np.float64)
    sums, squares = projected.sums[sample].sum(axis=0)[held], projected.squares[sample].sum(axis=0)[held]
    means = projected.centres[held] + sums / n
    return _DISTANCES[settings.covariance](means, _spreads(n, sums, squares, settings))


def _spreads(n: FloatArray, sums: FloatArray, squares: FloatArray, settings: _Settings) -> FloatArray:
    """Variances (C, d), or covariances (C, d, d), of the classes; n (C, 1)."""
    divisor, floor = np.maximum(n - settings.ddof, 1.0), settings.variance_floor
    if settings.covariance == "full":
        scatter = squares - sums[:, :, None] * sums[:, None, :] / n[:, :, None]
        covariances: FloatArray = scatter / divisor[:, :, None] + floor * np.eye(sums.shape[1])
        return covariances
    variances: FloatArray = np.maximum((squares - sums**2 / n) / divisor, floor)
    if settings.covariance == "spherical":
        return np.repeat(variances.mean(axis=1, keepdims=True), variances.shape[1], axis=1)
    return variances


def _diagonal_distances(means: FloatArray, variances: FloatArray) -> FloatArray:
    """D_B of every pair i < j, eq. 1, for diagonal covariances."""
    logs = np.log(variances).sum(axis=1)
    distances = []
    for i in range(len(means) - 1):
        sums = variances[i] + variances[i + 1 :]
        shift = ((means[i] - means[i + 1 :]) ** 2 / sums).sum(axis=1) / 4
        distances.append(shift + np.log(sums / 2).sum(axis=1) / 2 - (logs[i] + logs[i + 1 :]) / 4)
    return np.concatenate(distances)


def _full_distances(means: FloatArray, covariances: FloatArray) -> FloatArray:
    """D_B of every pair i < j, eq. 1, for full covariances."""
    logs = _log_determinants(covariances)
    distances = []
    for i in range(len(means) - 1):
        average = (covariances[i] + covariances[i + 1 :]) / 2
        difference = (means[i] - means[i + 1 :])[:, :, None]
        shift = (difference * np.linalg.solve(average, difference)).sum(axis=(1, 2)) / 8
        distances.append(shift + _log_determinants(average) / 2 - (logs[i] + logs[i + 1 :]) / 4)
    return np.concatenate(distances)


def _log_determinants(matrices: FloatArray) -> FloatArray:
    factors = np.linalg.cholesky(matrices)
    logs: FloatArray = 2 * np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    return logs


_DISTANCES: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "diagonal": _diagonal_distances,
    "spherical": _diagonal_distances,
    "full": _full_distances,
}

METRIC = Metric(
    name="gbc",
    version=1,
    needs=frozenset({"features"}),
    range="[-C (C - 1), 0]",
    cost="N D^2",
    reference="Pandy et al., Transferability Estimation using Bhattacharyya Class Separability, CVPR 2022, eq. 1-3",
    scores=_scores,
    settings={"n_components": 64, "covariance": "diagonal", "variance_floor": 1e-4, "ddof": 1},
    additive=True,
)
