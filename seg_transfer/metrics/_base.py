"""What all metrics share: `Metric`, `Score`, the statistics of the observations, and checks of settings."""

import importlib.util
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from seg_transfer.errors import ConfigError
from seg_transfer.observations import IntArray, Moments, MomentStatistics, Observations

Setting = int | float | str | bool
# The score of all observations, then the score without each group in turn: None where fewer than two classes are left.
Scores = list[float | None]
# Up to this size, second moments are stored per class, which saves passes over single classes: the first wherever there
# are no groups, the second where a metric uses them.
CLASS_MOMENTS_BYTES = 128 << 20
CLASS_SECONDS_BYTES = 640 << 20
_INPUTS = frozenset({"features", "source_probs"})


@dataclass(frozen=True)
class Metric:
    """A transferability metric: a function from observations to one number, higher is better.

    Attributes:
        name: The name in studies, tables and commands.
        needs: Names of the fields of `Observations` that must be set; "scores" for a metric that combines other
            metrics' scores of several pairs.
        range: Range of the scores, as text.
        cost: Cost of the computation, as text.
        reference: Where the metric comes from, as text.
        scores: The computation, called as ``scores(statistics, **settings)`` with `Statistics`.
        settings: Everything that changes its value; settings are part of content keys.
        version: Version of its code, also part of content keys: raise it whenever the code gives other values.
        additive: Whether ``scores`` also returns the score without each group of images, from sums over images.
            Otherwise it returns the score alone.
        extra: The optional library that a built-in metric needs; the extra of the same name installs it.
        by_class: Whether it uses the second moments of every class, which the shared pass then sums, too.
    """

    name: str
    needs: frozenset[str]
    range: str
    cost: str
    reference: str
    scores: Callable[..., Scores]
    settings: Mapping[str, Setting]
    version: int = field(kw_only=True)
    additive: bool = False
    extra: str = ""
    by_class: bool = False

    @classmethod
    def from_function(
        cls,
        function: Callable[..., float],
        *,
        needs: Iterable[str],
        version: int,
        name: str = "",
        range: str = "",
        cost: str = "",
        reference: str = "",
    ) -> "Metric":
        """Make a metric from a plain function of `Observations` that returns the score.

        The parameters after the first are the settings of the metric, and their defaults are the values. A standard
        error takes one more call per group of images; ``score_all`` computes it only with ``standard_errors="all"``.

        Args:
            function: Called as ``function(observations, **settings)``.
            needs: Names of the fields of `Observations`, besides the labels, that must not be None.
            version: Version of the function. Raise it whenever the function gives other values: stored scores of
                other versions are stale.
            name: Name of the metric; by default that of the function.
            range: Range of the scores, as text, such as "[0, 1]".
            cost: Cost of the computation, as text, such as "N D".
            reference: Where the metric comes from, as text.

        Raises:
            ConfigError: A parameter after the first has no default.

        Example:
            >>> def spread(observations: Observations, *, scale: float = 1.0) -> float:
            ...     return scale * float(observations.features.std())
            >>> metric = Metric.from_function(spread, needs={"features"}, version=1)
            >>> metric.name, dict(metric.settings)
            ('spread', {'scale': 1.0})
        """
        name = name or function.__name__
        needed, scores = frozenset(needs), _FunctionScores(function)
        return cls(name, needed, range, cost, reference, scores, _settings_of(name, function), version=version)

    @property
    def installed(self) -> bool:
        """Whether the optional library that the metric needs is installed."""
        return not self.extra or importlib.util.find_spec(self.extra) is not None

    @property
    def inputs(self) -> frozenset[str]:
        """Those of "features" and "source_probs" that the score measures; embeddings are means of features."""
        of_features = {"features", "image_embeddings", "source_images"}
        return frozenset("features" if need in of_features else need for need in self.needs) & _INPUTS

    @property
    def package(self) -> str:
        """The top-level package that contains the metric's code."""
        function = self.scores.function if isinstance(self.scores, _FunctionScores) else self.scores
        while isinstance(function, partial):
            function = function.func
        return str(getattr(function, "__module__", None)).partition(".")[0]

    @property
    def key_parts(self) -> dict[str, object]:
        """The metric's part of a score's content key: settings, version and, for an external metric, its package."""
        package = {} if self.package == __name__.partition(".")[0] else {"package": self.package}
        return {"settings": dict(self.settings), "version": self.version, **package}


@dataclass(frozen=True)
class _FunctionScores:
    """Calls a plain function of the observations, and returns the score in the form that `Metric.scores` has."""

    function: Callable[..., float]

    def __call__(self, statistics: "Statistics", **settings: Setting) -> Scores:
        # A plain function expects NumPy, wherever the observations lie.
        return [float(self.function(statistics.observations.in_numpy(), **settings))]


def _settings_of(name: str, function: Callable[..., float]) -> dict[str, Setting]:
    """Return the defaults of all parameters after the first."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    for parameter in parameters:
        if parameter.default is parameter.empty:
            raise ConfigError(
                f"metric {name!r}: parameter {parameter} of its function has no default; every parameter after the "
                "observations is a setting: give it a default"
            )
    return {parameter.name: parameter.default for parameter in parameters}


@dataclass(frozen=True)
class Score:
    """One number for one pair, with its uncertainty.

    Attributes:
        score: The number; higher is better.
        standard_error: Delete-a-group jackknife over groups of images; None where it was not requested or fewer than
            two groups can be left out.
        replicates: The score without each group in turn, from which the standard error of a *difference* between two
            sources follows; None for a group without which fewer than two classes are left.
        note: What a reader of the number should know, such as how many of the observations a model was fitted on.
    """

    score: float
    standard_error: float | None = None
    replicates: tuple[float | None, ...] = ()
    note: str = ""


@dataclass(frozen=True, eq=False)
class Statistics:
    """What the metrics of one pair share: observations, their groups, and moments, which are computed on first use.

    Attributes:
        observations: N observations of the pair.
        groups: (N,), the group of each observation, 0 .. n_groups - 1; a single group where no standard errors are
            requested.
        by_class: Whether the shared pass also sums the second moments of every class, if they fit into memory.
        memo: What several metrics share beside the moments, by a key of their own.
    """

    observations: Observations
    groups: IntArray
    by_class: bool = False
    memo: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def ungrouped(cls, observations: Observations) -> "Statistics":
        """Return statistics for a score without a standard error."""
        return cls(observations, np.zeros(len(observations.labels), dtype=np.int64))

    @cached_property
    def n_groups(self) -> int:
        """Number of groups; each of 0 .. n_groups - 1 has observations."""
        return int(self.groups.max()) + 1

    @property
    def left_out(self) -> range:
        """The groups to leave out in turn."""
        return range(self.n_groups if self.n_groups > 1 else 0)

    def n_classes_without(self, group: int) -> int:
        """Count the classes that are left without one group."""
        return int(np.count_nonzero(self.class_counts.sum(axis=0) > self.class_counts[group]))

    @cached_property
    def class_counts(self) -> IntArray:
        """Number of observations of every group and class, (n_groups, C)."""
        n_classes = len(self.observations.classes)
        cells = self.groups * n_classes + self.observations.codes
        return np.bincount(cells, minlength=self.n_groups * n_classes).reshape(self.n_groups, n_classes)

    @cached_property
    def class_moments(self) -> MomentStatistics | None:
        """The moments of every class separately; None where there are several groups or they need too much memory."""
        if self.n_groups > 1 or self._class_bytes > CLASS_MOMENTS_BYTES:
            return None
        return MomentStatistics.of_classes(self.observations)

    @cached_property
    def moments(self) -> MomentStatistics:
        """The moments of every group; for a single group, those of every class where they are kept."""
        by_class = self.by_class and self._class_bytes <= CLASS_SECONDS_BYTES
        return self.class_moments or MomentStatistics.of(self.observations, self.groups, by_class)

    @property
    def _class_bytes(self) -> float:
        """Size of the second moments of every class."""
        features = self.observations.features
        return np.inf if features is None else 8 * len(self.observations.classes) * features.shape[1] ** 2

    @cached_property
    def total(self) -> Moments:
        """Moments of all observations."""
        return self.moments.total()

    @cached_property
    def replicates(self) -> tuple[Moments | None, ...]:
        """Moments without each group in turn; None where fewer than two classes are left."""
        without = [self.moments.without(group) for group in self.left_out]
        return tuple(moments if len(moments.classes) > 1 else None for moments in without)


def scores_from_moments(statistics: Statistics, score: Callable[[Moments], float]) -> Scores:
    """Compute the scores of an additive metric that is a function of the moments alone.

    Args:
        statistics: Statistics of the observations.
        score: Function from the moments of some observations to their score.

    Returns:
        The score of all observations, then the score without each group of images in turn; None for a group without
        which fewer than two classes are left.

    Example:
        >>> observations = Observations(np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 1, 0, 1]))
        >>> statistics = Statistics(observations, groups=np.array([0, 0, 1, 1]))
        >>> [float(score) for score in scores_from_moments(statistics, lambda moments: moments.mean[0])]
        [3.0, 5.0, 1.0]
    """
    without = [None if moments is None else score(moments) for moments in statistics.replicates]
    return [score(statistics.total), *without]


def overall_score(scores: Scores) -> float:
    """Return the score of all observations, which is never None: they have at least two classes."""
    assert scores[0] is not None
    return scores[0]


def features_of(statistics: Statistics) -> Any:
    """Return the features, for a metric that declares that it needs them."""
    assert statistics.observations.features is not None
    return statistics.observations.features


def source_probs_of(statistics: Statistics) -> Any:
    """Return the source's probabilities, for a metric that declares that it needs them."""
    assert statistics.observations.source_probs is not None
    return statistics.observations.source_probs


def subsampled_features(observations: Observations, max_observations: int, seed: int) -> tuple[Any, IntArray]:
    """Return the features and class numbers of at most ``max_observations``, equally many from every image.

    Raises:
        ConfigError: ``max_observations`` is below 2, and cannot hold two classes.
    """
    check_setting(max_observations >= 2, "max_observations", max_observations, "2 or more")
    subsample = observations.subsample(max_observations, seed)
    return subsample.features, subsample.codes


def check_setting(is_valid: bool, setting: str, value: object, allowed: str) -> None:
    """Raise ConfigError for a metric setting that is not valid; ``allowed`` completes "it must be"."""
    if not is_valid:
        raise ConfigError(f"metric setting {setting} is {value!r}; it must be {allowed}")
