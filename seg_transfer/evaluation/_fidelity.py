"""Fidelity: what a gap between two scores says about the gap between two performances."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from seg_transfer.evaluation._bootstrap import percentile_intervals
from seg_transfer.evaluation._groups import scored_groups
from seg_transfer.evaluation._measures import Array


def fidelity(frame: pd.DataFrame, scenario: str, kinds: Mapping[str, str], draws: Array) -> tuple[Array, Array]:
    """Correlate score differences with performance differences over all pairs of rivals of all groups.

    The correlation is taken through 0, so that it does not depend on which rival of a pair comes first. Shifting all
    scores of a group, or scaling all scores of a metric, does not change it.

    Args:
        frame: A frame from `in_scenario`.
        scenario: As in `evaluate`.
        kinds: Metrics and controls, from `metric_kinds`.
        draws: How often each group is drawn, (draws, groups).

    Returns:
        (metrics, 1) correlations in [-1, 1]; NaN where all scores or all performances of every group are equal, and 0
        for `random`, whose gaps have no expected sign. Then the ends (2, metrics, 1) of their 95 % percentile-bootstrap
        interval over groups.
    """
    sums = _sums_of_groups(frame, scenario, kinds)
    of_draws = _correlations(np.tensordot(draws, sums, axes=1))
    return _correlations(sums.sum(axis=0)), percentile_intervals(of_draws)


def _sums_of_groups(frame: pd.DataFrame, scenario: str, kinds: Mapping[str, str]) -> Array:
    """Return sums over the pairs of rivals of every group, (groups, metrics, 3).

    The three sums are those of products of differences, of squared differences of scores and of performance.
    """
    groups = [members for _, members in scored_groups(frame, scenario)]
    performances = [_deviations(members["miou"].to_numpy()) for members in groups]
    sums = np.zeros((len(groups), len(kinds), 3))
    for column, name in enumerate(kinds):
        scores = [np.zeros(len(members)) for members in groups] if name == "random" else _scores(groups, name)
        for index, (score, performance) in enumerate(zip(scores, performances, strict=True)):
            # The sum over all pairs of n items is n times the sum over deviations from the mean.
            squares = 1.0 if name == "random" else score @ score  # random gaps exist, but have no expected sign
            sums[index, column] = len(score) * np.array([score @ performance, squares, performance @ performance])
    return sums


def _scores(groups: Sequence[pd.DataFrame], name: str) -> list[Array]:
    """Return the deviations of a metric's scores from their mean in each group, in a common unit."""
    largest = max((members[name].abs().max() for members in groups), default=0.0)
    exponent = -np.frexp(largest)[1] - 1  # a power of two changes no digit, and squares then do not overflow
    return [_deviations(np.ldexp(members[name].to_numpy(), exponent)) for members in groups]


def _deviations(values: Array) -> Array:
    shifted = values - values[0]  # equal values deviate by exactly 0
    deviations: Array = shifted - shifted.mean()
    return deviations


def _correlations(sums: Array) -> Array:
    """Divide the sums of products (..., 3) by the lengths: (..., 1), NaN where one of the two sides does not vary."""
    lengths = np.sqrt(sums[..., 1:2]) * np.sqrt(sums[..., 2:])
    cosines: Array = np.divide(sums[..., :1], lengths, out=np.full_like(lengths, np.nan), where=lengths > 0)
    cosines.clip(-1, 1, out=cosines)
    return cosines
