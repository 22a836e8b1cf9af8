"""Mean rank: where several metrics together rank each of several pairs."""

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from seg_transfer.errors import ConfigError, ObservationsError
from seg_transfer.metrics._base import Metric, Scores, Setting, Statistics
from seg_transfer.observations import FloatArray

PARTS = ("gbc", "nleep")


def rank_mean(*scores: npt.ArrayLike) -> FloatArray:
    """Minus the mean rank of every item among n items that several metrics have scored (a Borda count).

    Rank 1 is the highest score of a metric; equal scores share the mean of their ranks. Only the order of the scores
    counts, so metrics of any unit can be combined. No paper: GBC and N-LEEP, the default parts of the metric of this
    name, measure different things, and on the published pairs their mean rank is at least as good as GBC by top-1 and
    tau_w.

    Args:
        scores: (n,) of each metric, the same n items in the same order, higher is better.

    Returns:
        (n,) numbers in [-n, -1]; higher is better.

    Raises:
        ObservationsError: There are no scores, or scores of different lengths or shapes, or NaN or infinite ones.

    Example:
        >>> rank_mean([0.9, 0.5, 0.5], [-3, -1, -2])
        array([-2.  , -1.75, -2.25])
    """
    arrays = [np.asarray(one, dtype=np.float64) for one in scores]
    if not arrays:
        raise ObservationsError("no scores are given; the mean rank needs those of one metric at least")
    for number, one in enumerate(arrays):
        if one.ndim != 1 or one.shape != arrays[0].shape:
            raise ObservationsError(
                f"scores {number} have shape {one.shape}, scores 0 {arrays[0].shape}; give every metric's scores (n,) "
                "of the same n items"
            )
        if not np.isfinite(one).all():
            place = int(np.argmin(np.isfinite(one)))
            raise ObservationsError(f"scores {number} hold {one[place]} at {place}; every score must be finite")
    mean_rank: FloatArray = np.mean([rankdata(-one) for one in arrays], axis=0)
    return -mean_rank


def _scores(_statistics: Statistics, **_settings: Setting) -> Scores:
    raise ConfigError(f"metric rank_mean is made of several pairs' scores: score its parts, {' and '.join(PARTS)}")


METRIC = Metric(
    name="rank_mean",
    version=1,
    needs=frozenset({"scores"}),
    range="[-n, -1] among n pairs",
    cost="none",
    reference="mean of ranks (Borda count); no paper",
    scores=_scores,
    settings={"parts": ",".join(PARTS)},
)
