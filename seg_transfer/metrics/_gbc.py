"""GBC: the overlap of the classes in feature space, each modeled as a Gaussian."""

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import scipy.special

from seg_transfer.metrics._base import Metric, Scores, Statistics, check_setting, overall_score
from seg_transfer.metrics._bhattacharyya import DISTANCES, Covariance
from seg_transfer.metrics._principal import Principal, principal
from seg_transfer.observations import FloatArray, IntArray, Moments, Observations
from seg_transfer.observations.passes import sums_about_origins


def gbc(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    *,
    n_components: int | None = 64,
    covariance: Covariance = "diagonal",
    variance_floor: float = 1e-4,
    ddof: int = 1,
) -> float:
    """Compute the Gaussian Bhattacharyya coefficient.

    This is minus the sum of exp(-D_B) over ordered pairs of different classes, where D_B is the Bhattacharyya distance
    between the two classes as Gaussians after a PCA: Pandy et al., "Transferability Estimation using Bhattacharyya
    Class Separability", CVPR 2022, eq. 1-3.

    Args:
        features: (N, D).
        labels: (N,) integers, C classes.
        n_components: The PCA keeps min(n_components, D, N - 1) directions, not whitened. With None, there is no PCA
            and the channels are used as they are.
        covariance: Covariance of each class: "diagonal"; "spherical", with the mean of the diagonal in all directions;
            or "full".
        variance_floor: The least variance in any direction (diagonal, spherical), or the number added to every
            eigenvalue (full). A class with one observation has this variance.
        ddof: Variances are divided by n_c - ddof; 1 is the paper's choice, 0 that of the authors' released code.

    Returns:
        A number in [-C (C - 1), 0]; higher is better. Where it underflows to 0, `log_negative_gbc` still ranks.

    Raises:
        ObservationsError: The features hold NaN or infinite values, or there are fewer than two classes or
            observations.
        ConfigError: A setting is outside its range.

    Example:
        Means 1 and 5, variances 2: D_B = 1/4 * 4^2 / (2 + 2) = 1.

        >>> features, labels = np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1])
        >>> bool(np.isclose(gbc(features, labels), -2 * np.exp(-1)))
        True
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
    """Compute log(-GBC), where *lower* is better: the ranking of `gbc` without underflow.

    Args:
        features: (N, D).
        labels: (N,) integers, C classes.
        n_components: As in `gbc`.
        covariance: As in `gbc`.
        variance_floor: As in `gbc`.
        ddof: As in `gbc`.

    Returns:
        A number in (-inf, log(C (C - 1))].

    Raises:
        ObservationsError: The features hold NaN or infinite values, or there are fewer than two classes or
            observations.
        ConfigError: A setting is outside its range.

    Example:
        For classes that are 4000 apart, GBC is 0 in float64, but its logarithm is finite.

        >>> features, labels = np.array([[0.0], [2.0], [4000.0], [4002.0]]), np.array([0, 0, 1, 1])
        >>> gbc(features, labels)
        -0.0
        >>> round(log_negative_gbc(features, labels))
        -999999
    """
    statistics = Statistics.ungrouped(Observations(features, labels))
    return overall_score(_log_scores(statistics, _Settings(n_components, covariance, variance_floor, ddof)))


@dataclass(frozen=True)
class _Settings:
    n_components: int | None
    covariance: Covariance
    variance_floor: float
    ddof: int

    def __post_init__(self) -> None:
        n, covariance = self.n_components, self.covariance
        check_setting(n is None or n >= 1, "n_components", n, "1 or more, or None")
        check_setting(covariance in get_args(Covariance), "covariance", covariance, "diagonal, spherical or full")
        check_setting(self.variance_floor > 0, "variance_floor", self.variance_floor, "above 0")
        check_setting(self.ddof in (0, 1), "ddof", self.ddof, "0 or 1")


@dataclass(frozen=True, eq=False)
class _Projected:
    """Sums of z = W^T (x - mean of its class in the whole sample), for G groups, C classes, d directions.

    Attributes:
        centers: (C, d), W^T (class mean - mean).
        counts: (G, C), number of observations.
        sums: (G, C, d), sums of z.
        squares: Sums of z^2, (G, C, d), or of z z^T, (G, C, d, d).
    """

    centers: FloatArray
    counts: IntArray
    sums: FloatArray
    squares: FloatArray


def _scores(statistics: Statistics, **settings: Any) -> Scores:
    return [None if log is None else -float(np.exp(log)) for log in _log_scores(statistics, _Settings(**settings))]


def _log_scores(statistics: Statistics, settings: _Settings) -> Scores:
    """Compute log(-GBC) of all observations, and without each group.

    The PCA of all observations is kept when a group is left out: a tenth of the images changes it little, and no third
    pass is needed.
    """
    projected = _project(statistics, settings)
    samples: list[slice | list[int]] = [slice(None)]
    samples += [[other for other in statistics.left_out if other != group] for group in statistics.left_out]
    return [_log_score(projected, sample, settings) for sample in samples]


def _project(statistics: Statistics, settings: _Settings) -> _Projected:
    total = statistics.total
    along, full = principal(statistics, settings.n_components), settings.covariance == "full"
    if statistics.class_moments is None:
        return _project_observations(statistics, along, full)
    return _project_moments(statistics.class_moments.groups, total, along.directions, full)


def _project_moments(classes: tuple[Moments, ...], total: Moments, basis: FloatArray, full: bool) -> _Projected:
    """Project the moments of the classes; the only group has a sum of z of zero in every class."""
    centers = total.class_offsets @ basis
    squares = np.stack([_scatter_along(basis, part, full) for part in classes])
    return _Projected(centers, total.counts[None], np.zeros((1, *centers.shape)), squares[None])


def _scatter_along(basis: FloatArray, moments: Moments, full: bool) -> FloatArray:
    """Compute W^T (sum of (x - mean)(x - mean)^T) W, (d, d), or its diagonal, (d,)."""
    product, mean = moments.second @ basis, (moments.mean - moments.shift) @ basis
    if full:
        return basis.T @ product - moments.n * np.outer(mean, mean)
    diagonal: FloatArray = np.einsum("ij,ij->j", basis, product) - moments.n * mean**2
    return diagonal


def _project_observations(statistics: Statistics, along: Principal, full: bool) -> _Projected:
    """Sum the observations along the directions, in a second pass over them."""
    observations, n_groups, total = statistics.observations, statistics.n_groups, statistics.total
    centers, n_classes = total.class_offsets @ along.directions, len(observations.classes)
    keys, origins = statistics.groups * n_classes + observations.codes, np.tile(centers, (n_groups, 1))
    sums, squares = sums_about_origins(along.blocks(keys), origins, full)
    sums, squares = (values.reshape(n_groups, n_classes, *values.shape[1:]) for values in (sums, squares))
    return _Projected(centers, statistics.class_counts, sums, squares)


def _log_score(projected: _Projected, sample: slice | list[int], settings: _Settings) -> float | None:
    present = projected.counts[sample].sum(axis=0) > 0
    if np.count_nonzero(present) < 2:
        return None
    return float(scipy.special.logsumexp(-_distances(projected, sample, present, settings)) + np.log(2.0))


def class_distances(
    statistics: Statistics,
    n_components: int | None,
    covariance: Covariance,
    variance_floor: float,
    ddof: int,
) -> FloatArray:
    """Compute D_B of every pair i < j of the classes present, (C (C - 1) / 2,), with the settings of `gbc`."""
    settings = _Settings(n_components, covariance, variance_floor, ddof)
    present = np.ones(len(statistics.observations.classes), dtype=np.bool_)
    return _distances(_project(statistics, settings), slice(None), present, settings)


def _distances(
    projected: _Projected, sample: slice | list[int], present: npt.NDArray[np.bool_], settings: _Settings
) -> FloatArray:
    """Compute D_B of every pair i < j of the classes in the sample."""
    n = projected.counts[sample].sum(axis=0)[present, None].astype(np.float64)
    sums, squares = projected.sums[sample].sum(axis=0)[present], projected.squares[sample].sum(axis=0)[present]
    means = projected.centers[present] + sums / n
    return DISTANCES[settings.covariance](means, _covariances(n, sums, squares, settings))


def _covariances(n: FloatArray, sums: FloatArray, squares: FloatArray, settings: _Settings) -> FloatArray:
    """Compute variances (C, d), or covariances (C, d, d), of the classes with n (C, 1) observations."""
    divisor, floor = np.maximum(n - settings.ddof, 1.0), settings.variance_floor
    if settings.covariance == "full":
        scatter = squares - sums[:, :, None] * sums[:, None, :] / n[:, :, None]
        covariances: FloatArray = scatter / divisor[:, :, None] + floor * np.eye(sums.shape[1])
        return covariances
    variances: FloatArray = np.maximum((squares - sums**2 / n) / divisor, floor)
    if settings.covariance == "spherical":
        return np.repeat(variances.mean(axis=1, keepdims=True), variances.shape[1], axis=1)
    return variances


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
