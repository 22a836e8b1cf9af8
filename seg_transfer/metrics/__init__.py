# ruff: noqa: F401
"""Transferability metrics: from the observations of one pair to one number, higher is better.

`score_all` scores a pair by several metrics of `METRICS`. Every metric is a function too, with its settings as
arguments.

Your own metric is an ordinary function in your own installed package, which names it as an entry point:

    # my_package/contrast.py
    def contrast(observations: Observations, *, scale: float = 1.0) -> float: ...

    METRIC = Metric.from_function(contrast, needs={"features"}, version=1)

    # pyproject.toml
    [project.entry-points."seg_transfer.metrics"]
    contrast = "my_package.contrast:METRIC"

Studies, commands and tables then treat it like a built-in metric. In a notebook, `register` makes a metric known to
the running process only.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np

from seg_transfer.errors import ComputationError, ConfigError, ObservationsError
from seg_transfer.metrics._base import Metric, Score, Scores, Statistics, overall_score, scores_from_moments
from seg_transfer.metrics._bhattacharyya import Covariance
from seg_transfer.metrics._overlap import ClassOverlaps, GbcDifference, class_overlaps, deciding_classes
from seg_transfer.metrics._registry import Registry
from seg_transfer.observations import Observations, image_groups

# isort: off
# The built-in metrics, one line each, in the order in which they are listed. They are computed from features, from
# probabilities, from the source's own images, and from other metrics.
from seg_transfer.metrics._gbc import METRIC as _GBC, gbc as gbc, log_negative_gbc as log_negative_gbc
from seg_transfer.metrics._logme import METRIC as _LOGME, logme as logme
from seg_transfer.metrics._h_score import METRIC as _H_SCORE, h_score as h_score
from seg_transfer.metrics._regularized_h_score import METRIC as _REG_H, regularized_h_score as regularized_h_score
from seg_transfer.metrics._lda_score import METRIC as _LDA_SCORE, lda_score as lda_score
from seg_transfer.metrics._trans_rate import METRIC as _TRANS_RATE, trans_rate as trans_rate
from seg_transfer.metrics._sfda import METRIC as _SFDA, sfda as sfda
from seg_transfer.metrics._pactran import METRIC as _PACTRAN, pactran as pactran
from seg_transfer.metrics._parc import METRIC as _PARC, parc as parc
from seg_transfer.metrics._ccfv import METRIC as _CCFV, ccfv as ccfv
from seg_transfer.metrics._knn import METRIC as _KNN, knn as knn
from seg_transfer.metrics._ridge_probe import METRIC as _RIDGE_PROBE, ridge_probe as ridge_probe
from seg_transfer.metrics._probe_miou import METRIC as _PROBE_MIOU, probe_miou as probe_miou
from seg_transfer.metrics._linear_probe import METRIC as _LINEAR_PROBE, linear_probe as linear_probe
from seg_transfer.metrics._linear_probe_miou import METRIC as _LINEAR_MIOU, linear_probe_miou as linear_probe_miou
from seg_transfer.metrics._leep import METRIC as _LEEP, leep as leep
from seg_transfer.metrics._nce import METRIC as _NCE, nce as nce
from seg_transfer.metrics._nleep import METRIC as _NLEEP, nleep as nleep
from seg_transfer.metrics._emd import METRIC as _EMD, emd as emd
from seg_transfer.metrics._ids import METRIC as _IDS, ids as ids
from seg_transfer.metrics._otdd import METRIC as _OTDD, otdd as otdd
from seg_transfer.metrics._otce import METRIC as _OTCE, otce as otce
from seg_transfer.metrics._rank_mean import METRIC as _RANK_MEAN, rank_mean as rank_mean
# isort: on

__all__ = [
    "METRICS",
    "ClassOverlaps",
    "Covariance",
    "GbcDifference",
    "Metric",
    "Score",
    "Scores",
    "Statistics",
    "class_overlaps",
    "deciding_classes",
    "log_negative_gbc",
    "register",
    "score_all",
    "scores_from_moments",
]

_BUILT_IN = {value.name: value for value in list(globals().values()) if isinstance(value, Metric)}
# Every metric is named after its function.
__all__ += list(_BUILT_IN)

_REGISTRY = Registry(_BUILT_IN)
METRICS: Mapping[str, Metric] = _REGISTRY
"""All metrics by name, read-only: built-in ones, then those of installed packages and those that `register` added."""


def register(metric: Metric) -> Metric:
    """Make your own metric known to this process: `METRICS`, `score_all`, studies and tables then include it.

    Other processes do not know it. For commands, workers and clusters, name it as an entry point of a package.

    Args:
        metric: A metric whose name no other metric has. The same metric may be registered again, and a metric defined
            in a script or notebook replaces its earlier definition.

    Returns:
        The metric itself.

    Raises:
        ConfigError: The name is taken, reserved or malformed, or a field does not have the form that content keys need.

    Example:
        >>> def fewest_classes(observations: Observations) -> float:
        ...     return -float(len(observations.classes))
        >>> register(Metric.from_function(fewest_classes, name="random", needs=(), version=1))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        seg_transfer.errors.ConfigError: metric 'random' ...: the name is reserved (...); rename it
    """
    _REGISTRY.add(metric)
    return metric


def score_all(
    observations: Observations, names: Iterable[str], standard_errors: bool | Literal["all"] = True
) -> dict[str, Score]:
    """Score one pair by several metrics, which share one pass over the features.

    Standard errors come from the delete-a-group jackknife: the images are assigned by rank to 10 groups (or as many as
    there are images, if fewer), and each group is left out in turn. Metrics made of sums over images are recomputed
    without each group; GBC keeps the PCA of the whole sample, N-LEEP its PCA and mixture, and neighbors and probes
    their predictions. All others repeat the whole computation for every group, and have a standard error only with
    ``"all"``. Without ``image_index``, or with a single image, there are no standard errors.

    Args:
        observations: N observations of the pair.
        names: Names of metrics in METRICS.
        standard_errors: False skips them; "all" computes them for every metric, whatever the cost.

    Returns:
        Name -> `Score`, in the order of the names.

    Raises:
        ConfigError: A metric is unknown, or combines the scores of several pairs.
        ObservationsError: A metric needs something that the observations lack, or that is equal in all of them.
        ComputationError: A score is not a finite number.

    Example:
        >>> features, labels = np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1])
        >>> scores = score_all(Observations(features, labels, image_index=np.array([0, 1, 0, 1])), ["h_score", "logme"])
        >>> round(scores["h_score"].score, 12), len(scores["h_score"].replicates)
        (0.8, 2)
    """
    chosen = {name: _named(name) for name in names}
    for metric in chosen.values():
        _check_needs(metric, observations)
    groups, by_class = np.zeros_like(observations.codes), any(metric.by_class for metric in chosen.values())
    if standard_errors and observations.image_index is not None:
        groups = image_groups(observations.image_index)
    statistics = Statistics(observations, groups, by_class)
    return {name: _score(metric, statistics, standard_errors == "all") for name, metric in chosen.items()}


def _named(name: str) -> Metric:
    if name not in METRICS:
        raise ConfigError(f"metric {name!r} is unknown; choose among {', '.join(METRICS)}")
    return METRICS[name]


def _check_needs(metric: Metric, observations: Observations) -> None:
    if "scores" in metric.needs:
        raise ConfigError(
            f"metric {metric.name} combines the scores of several pairs: score its parts, and evaluate adds it"
        )
    for need in sorted(metric.needs):
        if getattr(observations, need) is None:
            raise ObservationsError(
                f"metric {metric.name} needs {need}, which these observations do not have: leave the metric out"
            )
    for name in sorted(metric.inputs & observations.constant_inputs):
        raise ObservationsError(
            f"{name} are constant: all {len(observations.labels)} rows are equal, and metric {metric.name} would score "
            "nothing; check the images and the weights that they come from"
        )


def _score(metric: Metric, statistics: Statistics, all_standard_errors: bool) -> Score:
    scores = metric.scores(statistics, **metric.settings)
    score = overall_score(scores)
    if not np.isfinite(score):
        raise ComputationError(
            f"metric {metric.name} gives {score}, not a finite number; check whether the features are degenerate"
        )
    if all_standard_errors and not metric.additive:
        scores += [_score_without(metric, statistics, group) for group in statistics.left_out]
    return Score(
        overall_score(scores),
        _jackknife([replicate for replicate in scores[1:] if replicate is not None]),
        tuple(scores[1:]),
        _note(metric, len(statistics.observations.labels)),
    )


def _score_without(metric: Metric, statistics: Statistics, group: int) -> float | None:
    """Recompute the score without one group; None where fewer than two classes are left."""
    if statistics.n_classes_without(group) < 2:
        return None
    kept = statistics.groups != group
    return metric.scores(Statistics.ungrouped(statistics.observations.subset(kept)), **metric.settings)[0]


def _note(metric: Metric, n: int) -> str:
    limit = metric.settings.get("max_observations", n)
    return f"fitted on {limit} of {n} observations" if isinstance(limit, int) and limit < n else ""


def _jackknife(replicates: list[float]) -> float | None:
    """Return sqrt((m - 1) / m * sum of squared deviations of the m scores from their mean); None for fewer than two."""
    m = len(replicates)
    if m < 2:
        return None
    return float(np.sqrt((m - 1) * np.var(replicates)))
