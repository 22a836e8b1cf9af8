"""Bhattacharyya distances between Gaussians: Pandy et al., CVPR 2022, eq. 1."""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from seg_transfer.observations import FloatArray

Covariance = Literal["diagonal", "spherical", "full"]


def _diagonal_distances(means: FloatArray, variances: FloatArray) -> FloatArray:
    """Compute D_B, eq. 1, of every pair i < j for diagonal covariances."""
    logs = np.log(variances).sum(axis=1)
    distances = []
    for i in range(len(means) - 1):
        sums = variances[i] + variances[i + 1 :]
        shift = ((means[i] - means[i + 1 :]) ** 2 / sums).sum(axis=1) / 4
        distances.append(shift + np.log(sums / 2).sum(axis=1) / 2 - (logs[i] + logs[i + 1 :]) / 4)
    return np.concatenate(distances)


def _full_distances(means: FloatArray, covariances: FloatArray) -> FloatArray:
    """Compute D_B, eq. 1, of every pair i < j for full covariances."""
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


DISTANCES: Mapping[Covariance, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "diagonal": _diagonal_distances,
    "spherical": _diagonal_distances,
    "full": _full_distances,
}
