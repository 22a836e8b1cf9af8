"""Mean rank: the ranks that several metrics give each of several pairs, averaged."""

from collections.abc import Mapping
from itertools import chain

import numpy as np
import numpy.typing as npt

from seg_transfer.errors import ConfigError, ObservationsError
from seg_transfer.metrics._base import Metric, Scores, Setting, Statistics
from seg_transfer.observations import FloatArray
from seg_transfer.observations.ranks import shared_ranks

PARTS: Mapping[str, tuple[str, ...]] = {"fixed_target": ("gbc", "logme"), "fixed_source": ("gbc", "nleep")}
"""Scenario -> the metrics whose ranks are averaged. ``scripts/choose_default.py`` chose them by a fixed rule."""
ALL_PARTS = tuple(dict.fromkeys(chain.from_iterable(PARTS.values())))


def rank_mean(*scores: npt.ArrayLike) -> FloatArray:
    """Compute minus the mean rank of every item among n items that several metrics scored (a Borda count).

    Rank 1 is the highest score of a metric; equal scores share the mean of their ranks. Only the order of the scores
    counts, so that metrics of any unit can be combined. The metric ``rank_mean`` ranks the sources of a target by GBC
    and LogME, and the targets of a source by GBC and N-LEEP. It has no paper: a rule that was written down before its
    test chose these parts (data_manifests/published/README.md).

    Args:
        scores: Scores (n,) of each metric for the same n items in the same order, higher is better.

    Returns:
        (n,) numbers in [-n, -1]; higher is better.

    Raises:
        ObservationsError: There are no scores, their lengths or shapes differ, or a score is NaN or infinite.

    Example:
        >>> rank_mean([0.9, 0.5, 0.5], [-3, -1, -2])
        array([-2.  , -1.75, -2.25])
    """
    arrays = [np.asarray(values, dtype=np.float64) for values in scores]
    if not arrays:
        raise ObservationsError("no scores are given; the mean rank needs the scores of at least one metric")
    for number, values in enumerate(arrays):
        if values.ndim != 1 or values.shape != arrays[0].shape:
            raise ObservationsError(
                f"scores {number} have shape {values.shape}, scores 0 {arrays[0].shape}; give every metric's scores "
                "(n,) of the same n items"
            )
        if not np.isfinite(values).all():
            index = int(np.argmin(np.isfinite(values)))
            raise ObservationsError(f"scores {number} hold {values[index]} at {index}; every score must be finite")
    mean_rank: FloatArray = np.mean([shared_ranks(-values) for values in arrays], axis=0)
    return -mean_rank


def _scores(_statistics: Statistics, **_settings: Setting) -> Scores:
    raise ConfigError(f"metric rank_mean combines the scores of several pairs: score its parts, {', '.join(ALL_PARTS)}")


METRIC = Metric(
    name="rank_mean",
    version=2,
    needs=frozenset({"scores"}),
    range="[-n, -1] among n pairs",
    cost="none",
    reference="mean of ranks (Borda count); no paper",
    scores=_scores,
    settings={scenario: ",".join(parts) for scenario, parts in PARTS.items()},
)
