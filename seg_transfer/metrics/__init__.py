"""Transferability metrics: from the observations of one pair to one number, higher is better."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np

from seg_transfer.errors import ComputationError, ConfigError, ObservationsError
from seg_transfer.metrics import (
    _ccfv,
    _emd,
    _gbc,
    _h_score,
    _ids,
    _lda_score,
    _leep,
    _logme,
    _nce,
    _nleep,
    _otce,
    _otdd,
    _pactran,
    _parc,
    _rank_mean,
    _regularized_h_score,
    _sfda,
    _trans_rate,
)
from seg_transfer.metrics._base import Metric, Score, Statistics, single
from seg_transfer.metrics._ccfv import ccfv
from seg_transfer.metrics._emd import emd
from seg_transfer.metrics._gbc import gbc, log_negative_gbc
from seg_transfer.metrics._h_score import h_score
from seg_transfer.metrics._ids import ids
from seg_transfer.metrics._lda_score import lda_score
from seg_transfer.metrics._leep import leep
from seg_transfer.metrics._logme import logme
from seg_transfer.metrics._nce import nce
from seg_transfer.metrics._nleep import nleep
from seg_transfer.metrics._otce import otce
from seg_transfer.metrics._otdd import otdd
from seg_transfer.metrics._overlap import ClassOverlaps, GbcDifference, class_overlaps, deciding_classes
from seg_transfer.metrics._pactran import pactran
from seg_transfer.metrics._parc import parc
from seg_transfer.metrics._rank_mean import rank_mean
from seg_transfer.metrics._regularized_h_score import regularized_h_score
from seg_transfer.metrics._sfda import sfda
from seg_transfer.metrics._trans_rate import trans_rate
from seg_transfer.observations import Observations, image_groups

__all__ = [
    "METRICS",
    "ClassOverlaps",
    "GbcDifference",
    "Metric",
    "Score",
    "ccfv",
    "class_overlaps",
    "deciding_classes",
    "emd",
    "gbc",
    "h_score",
    "ids",
    "lda_score",
    "leep",
    "log_negative_gbc",
    "logme",
    "nce",
    "nleep",
    "otce",
    "otdd",
    "pactran",
    "parc",
    "rank_mean",
    "regularized_h_score",
    "score_all",
    "sfda",
    "trans_rate",
]

# In the order in which they are listed: of features, of probabilities, of the source's own images, of other metrics.
_MODULES = (
    _gbc,
    _logme,
    _h_score,
    _regularized_h_score,
    _lda_score,
    _trans_rate,
    _sfda,
    _pactran,
    _parc,
    _ccfv,
    _leep,
    _nce,
    _nleep,
    _emd,
    _ids,
    _otdd,
    _otce,
    _rank_mean,
)
METRICS: Mapping[str, Metric] = MappingProxyType({module.METRIC.name: module.METRIC for module in _MODULES})


def score_all(
    observations: Observations, names: Iterable[str], standard_errors: bool | Literal["all"] = True
) -> dict[str, Score]:
    """The scores of one pair by several metrics, with one pass over the features for all that they share.

    Standard errors are those of the delete-a-group jackknife: the images present are dealt by rank into 10 groups (as
    many as there are images, if fewer), and each group is left out in turn. Metrics made of sums over images are
    computed anew for every group, where GBC keeps the PCA of the whole sample, and N-LEEP its PCA and mixture. The
    others cost the whole computation once more for every group, and have a standard error only with ``"all"``. Without
    ``image_index``, or with one image, there are none.

    Args:
        observations: N observations of the pair.
        names: of metrics in METRICS.
        standard_errors: False saves their cost; "all" pays it for every metric.

    Raises:
        ConfigError: an unknown metric, or one that is made of several pairs' scores.
        ObservationsError: a metric needs something that the observations lack.
        ComputationError: a score is not a finite number.
    """
    chosen = {name: _named(name) for name in names}
    for metric in chosen.values():
        _check_needs(metric, observations)
    statistics = Statistics.ungrouped(observations)
    if standard_errors and observations.image_index is not None:
        statistics = Statistics(observations, image_groups(observations.image_index))
    return {name: _score(metric, statistics, standard_errors == "all") for name, metric in chosen.items()}


def _named(name: str) -> Metric:
    if name not in METRICS:
        raise ConfigError(f"metric {name!r} is unknown; choose among {', '.join(METRICS)}")
    return METRICS[name]


def _check_needs(metric: Metric, observations: Observations) -> None:
    if "scores" in metric.needs:
        raise ConfigError(
            f"metric {metric.name} is made of the scores of several pairs: score its parts, and evaluate adds it"
        )
    for need in sorted(metric.needs):
        if getattr(observations, need) is None:
            raise ObservationsError(
                f"metric {metric.name} needs {need}, and these observations have none: leave the metric out"
            )


def _score(metric: Metric, statistics: Statistics, at_any_cost: bool) -> Score:
    scores = metric.scores(statistics, **metric.settings)
    if not np.isfinite(single(scores)):
        raise ComputationError(
            f"metric {metric.name} gives {single(scores)}, not a finite number; see whether the features are degenerate"
        )
    if at_any_cost and not metric.additive:
        scores += [_anew(metric, statistics, group) for group in statistics.left_out]
    return Score(
        single(scores),
        _jackknife([score for score in scores[1:] if score is not None]),
        tuple(scores[1:]),
        _note(metric, len(statistics.observations.labels)),
    )


def _anew(metric: Metric, statistics: Statistics, group: int) -> float | None:
    """The score without one group, from the beginning."""
    if statistics.n_classes_without(group) < 2:
        return None
    kept = statistics.groups != group
    return metric.scores(Statistics.ungrouped(statistics.observations.taken(kept)), **metric.settings)[0]


def _note(metric: Metric, n: int) -> str:
    limit = metric.settings.get("max_observations", n)
    return f"fitted on {limit} of {n} observations" if isinstance(limit, int) and limit < n else ""


def _jackknife(replicates: list[float]) -> float | None:
    """sqrt((m - 1) / m * sum of squared deviations of the m scores from their mean); None for fewer than two."""
    m = len(replicates)
    if m < 2:
        return None
    return float(np.sqrt((m - 1) * np.var(replicates)))
