"""How much of one scatter matrix lies in the directions of another: the core of H-score and LDA score."""

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh, solve_triangular
from scipy.linalg.lapack import dpocon, dpotrf

from seg_transfer.observations import FloatArray, Moments

EPSILON = float(np.finfo(np.float64).eps)
# A matrix with unit diagonal whose reciprocal condition number is below this may be singular up to rounding.
WELL_CONDITIONED = 1e-9


def between_class_rows(moments: Moments) -> FloatArray:
    """Return the matrix B (C, D), sqrt(n_c / N) (mean of class c - mean); B^T B is the scatter between the classes."""
    rows: FloatArray = np.sqrt(moments.counts / moments.n)[:, None] * moments.class_offsets
    return rows


def varying_channels(moments: Moments) -> npt.NDArray[np.bool_]:
    """Return, for every channel, whether it varies by more than the rounding of its mean, (D,)."""
    varies: npt.NDArray[np.bool_] = np.diag(moments.covariance) > (EPSILON * moments.mean) ** 2
    return varies


def inverse_trace(
    scatter: FloatArray, rows: FloatArray, channels: npt.NDArray[np.bool_], rounding: float | None = None
) -> float:
    """Compute tr(scatter^+ B^T B) over some channels; 0 for no channel.

    Where the scatter has no inverse, its pseudo-inverse is used. Every channel is first scaled to unit scatter, which
    changes nothing if B lies in the range of the scatter. Where it may not, pass ``rounding``: the result then uses the
    Moore-Penrose inverse in the units of the channels.

    Args:
        scatter: (D, D), symmetric, positive semi-definite to rounding.
        rows: (C, D), the matrix B.
        channels: (D,), whether to use a channel; each must have a diagonal entry larger than rounding.
        rounding: Size of an eigenvalue that may be noise; None means D eps times the largest eigenvalue.
    """
    if not channels.all():
        if not channels.any():
            return 0.0
        scatter, rows = scatter[np.ix_(channels, channels)], rows[:, channels]
    scale = 1 / np.sqrt(np.diag(scatter))
    scaled, scaled_rows = scatter * scale * scale[:, None], rows * scale
    factor, failed = dpotrf(scaled, lower=1)
    if not failed and dpocon(factor, 1.0, uplo="L")[0] > WELL_CONDITIONED:
        solved = solve_triangular(factor, scaled_rows.T, lower=True, check_finite=False)
        return float((solved**2).sum())
    if rounding is None:
        return _pseudo_inverse_trace(scaled, scaled_rows, 0.0)
    return _pseudo_inverse_trace(scatter, rows, rounding)


def _pseudo_inverse_trace(scatter: FloatArray, rows: FloatArray, rounding: float) -> float:
    eigenvalues, vectors = eigh(scatter)
    kept = eigenvalues > max(len(eigenvalues) * EPSILON * eigenvalues[-1], rounding)
    return float(((rows @ vectors[:, kept]) ** 2 / eigenvalues[kept]).sum())
