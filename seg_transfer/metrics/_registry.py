"""The known metrics: built-in ones, those registered in this process, and those of installed packages."""

import logging
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib.metadata import EntryPoint, entry_points

from seg_transfer.errors import ConfigError, reason_of
from seg_transfer.metrics._base import Metric
from seg_transfer.observations import Observations

ENTRY_POINT_GROUP = "seg_transfer.metrics"
# Columns of tables of pairs and rankings, controls of the evaluation, and keywords of studies.
RESERVED_NAMES = frozenset(
    {
        "all",
        "classes",
        "gflops",
        "mean_rank_elsewhere",
        "metric",
        "minus_n_classes",
        "miou",
        "miou_rank",
        "n_target_classes",
        "n_train_images",
        "one_fine_tuning",
        "own_miou",
        "parameters",
        "random",
        "score",
        "scratch",
        "source",
        "target",
    }
)
_NAME = re.compile("[a-z0-9][a-z0-9_-]{0,63}")
_INPUTS = tuple(field.name for field in fields(Observations) if field.name != "labels")

_logger = logging.getLogger(__name__)


class Registry(Mapping[str, Metric]):
    """Metrics by name: built-in ones in the order given, then all others in alphabetical order.

    The entry points of installed packages are loaded when an unknown name or all names are requested.
    """

    def __init__(self, built_in: Mapping[str, Metric]) -> None:
        self._built_in = dict(built_in)
        self._external: dict[str, Metric] = {}
        self._lock = threading.RLock()
        self._loaded = False

    def __getitem__(self, name: str) -> Metric:
        if name in self._built_in:
            return self._built_in[name]
        if name not in self._external:
            self._load_entry_points()
        return self._external[name]

    def __iter__(self) -> Iterator[str]:
        self._load_entry_points()
        return iter([*self._built_in, *sorted(self._external)])

    def __len__(self) -> int:
        self._load_entry_points()
        return len(self._built_in) + len(self._external)

    def __or__(self, others: Mapping[str, Metric]) -> dict[str, Metric]:
        return {**self, **others}

    def __repr__(self) -> str:
        return f"<metrics {', '.join(self)}>"

    def add(self, metric: Metric) -> None:
        """Add an external metric; adding it again changes nothing.

        Raises:
            ConfigError: It is not a metric, breaks a rule, or has the name of another metric.
        """
        check_metric(metric)
        known = self._built_in.get(metric.name) or self._external.get(metric.name)
        if known == metric:
            return
        # Running a notebook cell again defines its metric again.
        if known is not None and not known.package == metric.package == "__main__":
            raise _refusal(metric, f"package {known.package} already has a metric of this name; rename one of them")
        self._external[metric.name] = metric

    def _load_entry_points(self) -> None:
        with self._lock:
            if self._loaded:
                return
            # Set first: a package may read the metrics while it is imported.
            self._loaded = True
            for entry in _entry_points():
                self._load(entry)

    def _load(self, entry: EntryPoint) -> None:
        # A broken package must not stop work that does not need it, even if its import raises SystemExit.
        try:
            self.add(entry.load())
        except (Exception, SystemExit) as error:
            _logger.warning(
                "package %s: metric %s (entry point %s) is left out: %s",
                entry.dist.name if entry.dist else "unknown",
                entry.name,
                entry.value,
                reason_of(error),
            )


def check_metric(metric: object) -> None:
    """Raise ConfigError unless this is a metric that studies, tables and content keys can use."""
    if not isinstance(metric, Metric):
        raise ConfigError(f"{metric!r} is a {type(metric).__name__}, not a Metric; build one with Metric.from_function")
    if not isinstance(metric.name, str) or not _NAME.fullmatch(metric.name):
        raise _refusal(metric, "a name consists of 1 to 64 lower-case letters, digits, '_' and '-'; rename it")
    if metric.name in RESERVED_NAMES:
        raise _refusal(metric, f"the name is reserved (so are {', '.join(sorted(RESERVED_NAMES))}); rename it")
    if unknown := sorted(set(metric.needs) - set(_INPUTS)):
        raise _refusal(metric, f"needs {unknown[0]!r}; choose among {', '.join(_INPUTS)}; labels are always available")
    if type(metric.version) is not int or metric.version < 1:
        raise _refusal(metric, f"version is {metric.version!r}; it must be a whole number of 1 or more")
    for name, value in metric.settings.items():
        if not isinstance(value, int | float | str):
            raise _refusal(metric, f"setting {name} is {value!r}; it must be a number, a string or a bool")
    if metric.extra:
        raise _refusal(
            metric, f"extra is {metric.extra!r}; only built-in metrics have one: declare dependencies in your package"
        )


def _refusal(metric: Metric, reason: str) -> ConfigError:
    return ConfigError(f"metric {metric.name!r} of package {metric.package}: {reason}")


def _entry_points() -> list[EntryPoint]:
    """List the entry points of metrics, in an order that does not depend on the search path."""
    try:
        return sorted(
            entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: (entry.dist.name if entry.dist else "", entry.name)
        )
    except Exception as error:
        _logger.warning("metrics of other packages are left out: metadata cannot be read (%s)", reason_of(error))
        return []
