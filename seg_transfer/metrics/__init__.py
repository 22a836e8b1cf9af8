"""Transferability metrics: from the observations of one pair to one number, higher is better."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np

from seg_transfer.errors import ConfigError, ObservationsError
from seg_transfer.metrics import _gbc, _h_score, _leep, _logme
from seg_transfer.metrics._base import Metric, Score, Scores, Statistics, single
from seg_transfer.metrics._gbc import gbc, log_negative_gbc
from seg_transfer.metrics._h_score import h_score
from seg_transfer.metrics._leep import leep
from seg_transfer.metrics._logme import logme
from seg_transfer.observations import Observations, image_groups

__all__ = ["METRICS", "Metric", "Score", "gbc", "h_score", "leep", "log_negative_gbc", "logme", "score_all"]

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "gbc": _gbc.METRIC,
        "logme": _logme.METRIC,
        "h_score": _h_score.METRIC,
        "leep": _leep.METRIC,
    }
)


def score_all(observations: Observations, names: Iterable[str], standard_errors: bool = True) -> dict[str, Score]:
    """The scores of one pair by several metrics, with one pass over the features for all that they share.

    Standard errors are those of the delete-a-group jackknife: the images present are dealt by rank into 10 groups (as
    many as there are images, if fewer), and each group is left out in turn. LogME, H-score and LEEP are computed anew
    for every group; GBC keeps the PCA of the whole sample. Without ``image_index``, or with one image, there are none.

    Args:
        observations: N observations of the pair.
        names: of metrics in METRICS.
        standard_errors: False saves their cost.

    Raises:
        ConfigError: an unknown metric.
        ObservationsError: a metric needs features or source_probs that the observations lack.
    """
    chosen = {name: _named(name) for name in names}
    for metric in chosen.values():
        _check_needs(metric, observations)
    statistics = _statistics(observations, standard_errors)
    return {name: _as_score(metric.scores(statistics, **metric.settings)) for name, metric in chosen.items()}


def _named(name: str) -> Metric:
    if name not in METRICS:
        raise ConfigError(f"metric {name!r} is unknown; choose among {', '.join(METRICS)}")
    return METRICS[name]


def _check_needs(metric: Metric, observations: Observations) -> None:
    for need in sorted(metric.needs):
        if getattr(observations, need) is None:
            raise ObservationsError(
                f"metric {metric.name} needs {need}, and this source gives none: leave the metric out"
            )


def _statistics(observations: Observations, standard_errors: bool) -> Statistics:
    if not standard_errors or observations.image_index is None:
        return Statistics.ungrouped(observations)
    return Statistics(observations, image_groups(observations.image_index))


def _as_score(scores: Scores) -> Score:
    return Score(single(scores), _jackknife([score for score in scores[1:] if score is not None]), tuple(scores[1:]))


def _jackknife(replicates: list[float]) -> float | None:
    """sqrt((m - 1) / m * sum of squared deviations of the m scores from their mean); None for fewer than two."""
    m = len(replicates)
    if m < 2:
        return None
    return float(np.sqrt((m - 1) * np.var(replicates)))
