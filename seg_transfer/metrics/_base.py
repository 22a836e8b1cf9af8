"""What every metric is made of: statistics first, score second, and the same score without each group of images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from seg_transfer.errors import ConfigError
from seg_transfer.observations import IntArray, Moments, MomentStatistics, Observations

Setting = int | float | str | bool
# The score of all observations, then the score without each group in turn: None where fewer than two classes are left.
Scores = list[float | None]


@dataclass(frozen=True)
class Metric:
    """A transferability metric: a function from observations to one number, higher is better.

    ``needs``: which of "features" and "source_probs". ``range`` and ``reference``: text for people.
    ``scores(statistics, **settings)``: its computation. ``settings``: all that changes its value, for content keys.
    """

    name: str
    needs: frozenset[str]
    range: str
    reference: str
    scores: Callable[..., Scores]
    settings: Mapping[str, Setting]


@dataclass(frozen=True)
class Score:
    """One number for one pair, with its uncertainty.

    ``standard_error``: delete-a-group jackknife over groups of images; None where it was not asked for or fewer than
    two groups can be left out. ``replicates``: the score without each group in turn, from which the standard error of a
    *difference* of two sources follows; None for a group without which fewer than two classes are left.
    """

    score: float
    standard_error: float | None = None
    replicates: tuple[float | None, ...] = ()


@dataclass(frozen=True, eq=False)
class Statistics:
    """What the metrics of one pair share: observations, the group (N,) of each, and moments computed on first use.

    One group means that no standard errors are wanted.
    """

    observations: Observations
    groups: IntArray

    @classmethod
    def ungrouped(cls, observations: Observations) -> "Statistics":
        """Statistics for a score alone."""
        return cls(observations, np.zeros(len(observations.labels), dtype=np.int64))

    @cached_property
    def n_groups(self) -> int:
        """Number of groups; all of 0 .. n_groups - 1 hold observations."""
        return int(self.groups.max()) + 1

    @property
    def left_out(self) -> range:
        """The groups to leave out in turn."""
        return range(self.n_groups if self.n_groups > 1 else 0)

    @cached_property
    def moments(self) -> MomentStatistics:
        """Moments per group."""
        return MomentStatistics.of(self.observations, self.groups)


def scores_from_moments(statistics: Statistics, score: Callable[[Moments], float]) -> Scores:
    """The scores of a metric that is a function of the moments alone."""
    scores: Scores = [score(statistics.moments.total())]
    for group in statistics.left_out:
        moments = statistics.moments.without(group)
        scores.append(score(moments) if len(moments.classes) > 1 else None)
    return scores


def single(scores: Scores) -> float:
    """The score of all observations; they have two classes, so there is one."""
    assert scores[0] is not None
    return scores[0]


def require(rule: bool, setting: str, value: object, allowed: str) -> None:
    """Raises ConfigError for a metric setting outside its range."""
    if not rule:
        raise ConfigError(f"metric setting {setting} is {value!r}; it must be {allowed}")
