"""The pairs to evaluate: validation, grouping, and the mean rank, which combines several pairs."""

import math
from collections.abc import Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from seg_transfer.errors import ResultsError
from seg_transfer.metrics import METRICS
from seg_transfer.metrics._rank_mean import ALL_PARTS, PARTS, rank_mean

GROUP_AND_ITEM = {"fixed_target": ("target", "source"), "fixed_source": ("source", "target")}
SCENARIOS = tuple(GROUP_AND_ITEM)
SOURCE_FACTS = ("parameters", "gflops", "own_miou", "n_train_images")
"""Optional columns of pairs: facts about the source. Each is a control of the same name that ranks the sources of a
target by it, highest first."""
CONTROLS = ("minus_n_classes", *SOURCE_FACTS, "mean_rank_elsewhere", "random")
CEILING = "one_fine_tuning"
SCRATCH = "scratch"

_NOT_METRICS = ("source", "target", "miou", "n_target_classes", *SOURCE_FACTS)
_RANK_MEAN = "rank_mean"


def validate_pairs(pairs: pd.DataFrame, metrics: Sequence[str] | None = None) -> tuple[pd.DataFrame, list[str]]:
    """Validate pairs, and find the metrics to judge.

    Args:
        pairs: As in `evaluate`.
        metrics: As in `evaluate`.

    Returns:
        The pairs without scratch, sorted by target and source, with numbers as float64, and the names of the metrics.
        Facts that some source lacks are left out; so are, where metrics are named, those that cannot be used (text,
        infinite, or different values for one source): the caller did not ask for them. `in_scenario` then computes the
        mean rank, whose parts need not be among the metrics, and keeps these metrics alone.

    Raises:
        ResultsError: A column is missing or unknown, a pair is given twice or has its source as target, a value is not
            a finite number, or a fact differs between pairs of the same target or source.
    """
    missing = [name for name in ("source", "target", "miou") if name not in pairs]
    if missing:
        raise ResultsError(
            f"pairs: column {missing[0]!r} is missing (the columns are {', '.join(map(str, pairs))}); add it"
        )
    if pairs[["source", "target"]].isna().any(axis=None):
        raise ResultsError("pairs: a row has no source or no target; give both names in every row")
    names = _known_metrics(pairs) if metrics is None else _named_metrics(pairs, metrics)
    _reject_pairs(pairs, pairs.duplicated(["source", "target"]), "is given twice; keep one row per pair")
    _reject_pairs(pairs, pairs["source"] == pairs["target"], "has the source as its target; leave out such rows")
    _finite(pairs[pairs["source"] == SCRATCH], "miou")
    frame = pairs[pairs["source"] != SCRATCH].reset_index(drop=True)
    if frame.empty:
        raise ResultsError("pairs: there is no pair with a source model to rank; score and fine-tune some pairs first")
    facts = _facts_of(frame) if metrics is None else [name for name in _facts_of(frame) if _is_usable(frame, name)]
    classes = ["n_target_classes"] if "n_target_classes" in pairs else []
    names_of_pairs = {name: frame[name] for name in ("source", "target")}
    numbers = {name: _finite(frame, name) for name in ["miou", *classes, *facts, *_columns_of(pairs, names)]}
    frame = pd.DataFrame(names_of_pairs | numbers).sort_values(["target", "source"], ignore_index=True)
    for fact, axis in [*((name, "target") for name in classes), *((name, "source") for name in facts)]:
        _reject_varying(frame, fact, axis)
    return frame, names


def metric_columns(pairs: pd.DataFrame) -> list[str]:
    """List all columns that could be metrics, whatever their names, to pass them as ``metrics=``.

    rank_mean comes last where its parts for a scenario are columns and rank_mean itself is not.

    Args:
        pairs: As in `evaluate`; all further columns must be metrics.

    Example:
        >>> metric_columns(pd.DataFrame(columns=["source", "target", "miou", "gbc", "logme", "my_metric"]))
        ['gbc', 'logme', 'my_metric', 'rank_mean']
    """
    columns: list[Any] = [name for name in pairs if name not in _NOT_METRICS]
    is_computed = _RANK_MEAN not in columns and any(set(parts) <= set(columns) for parts in PARTS.values())
    return [*columns, *([_RANK_MEAN] if is_computed else [])]


def in_scenario(frame: pd.DataFrame, scenario: str, names: Sequence[str]) -> pd.DataFrame:
    """Return validated pairs with the columns of these metrics alone.

    The mean rank is computed for the scenario, and missing where one of its parts is.
    """
    head = [name for name in _NOT_METRICS if name in frame]
    complete = with_rank_mean(frame, scenario)
    return complete[[*head, *(name for name in names if name in complete)]]


def axes_of(scenario: str) -> tuple[str, str]:
    """Return the columns that name the group and the item of a scenario; raises ResultsError for an unknown one."""
    if scenario not in GROUP_AND_ITEM:
        raise ResultsError(f"scenario {scenario!r} is unknown; choose one of {', '.join(SCENARIOS)}")
    return GROUP_AND_ITEM[scenario]


def metrics_of(frame: pd.DataFrame) -> list[str]:
    """Return the metrics of a frame from `in_scenario`, in the order of its columns."""
    return [str(name) for name in frame if name not in _NOT_METRICS]


def with_rank_mean(frame: pd.DataFrame, scenario: str) -> pd.DataFrame:
    """Add the metric rank_mean, computed from the ranks of its parts in the groups of a scenario.

    Args:
        frame: One row per pair, with the columns source and target.
        scenario: "fixed_target" or "fixed_source".

    Returns:
        A copy with the column rank_mean; the frame itself where it has that column, or lacks one of the parts: gbc and
        logme for fixed targets, gbc and nleep for fixed sources.

    Example:
        >>> scores = {"gbc": [-1.0, -2.0, -3.0], "logme": [-2.0, -1.0, -3.0]}
        >>> frame = pd.DataFrame({"source": ["a", "b", "c"], "target": ["t", "t", "t"], **scores})
        >>> with_rank_mean(frame, "fixed_target")["rank_mean"].tolist()
        [-1.5, -1.5, -3.0]
    """
    group, parts = axes_of(scenario)[0], PARTS[scenario]
    if _RANK_MEAN in frame or not set(parts) <= set(frame):
        return frame
    groups = frame.groupby(group)
    values = [pd.Series(rank_mean(*(members[part] for part in parts)), members.index) for _, members in groups]
    return frame.assign(rank_mean=pd.concat(values))


def _reject_pairs(pairs: pd.DataFrame, faulty: "pd.Series[bool]", message: str) -> None:
    if faulty.any():
        first = pairs[faulty].iloc[0]
        raise ResultsError(f"pair {first['source']} -> {first['target']} {message}")


def _reject_varying(frame: pd.DataFrame, fact: str, axis: str) -> None:
    varies = frame.groupby(axis)[fact].transform("nunique") > 1
    _reject_pairs(
        frame, varies, f"has another value of {fact} than another pair of the same {axis}; correct one of them"
    )


def _facts_of(frame: pd.DataFrame) -> list[str]:
    """Return the facts about sources that no row lacks."""
    return [name for name in SOURCE_FACTS if name in frame and not frame[name].isna().to_numpy().any()]


def _is_usable(frame: pd.DataFrame, fact: str) -> bool:
    try:
        _reject_varying(frame[["source", "target"]].assign(**{fact: _finite(frame, fact)}), fact, "source")
    except ResultsError:
        return False
    return True


def _known_metrics(pairs: pd.DataFrame) -> list[str]:
    """List all columns that could be metrics. Each must be a known one, or a seed would be ranked like a score."""
    names = metric_columns(pairs)
    unknown = [name for name in names if name not in METRICS]
    if {"metric", "score"} <= set(unknown):
        raise ResultsError(
            "pairs: columns 'metric' and 'score' hold one row per metric; give one row per pair, a column per metric: "
            "pairs.pivot(index=['source', 'target'], columns='metric', values='score')"
        )
    if unknown:
        known = [name for name in names if name in METRICS] or ["NAME", "..."]
        more = f" (nor are {len(unknown) - 1} others)" if len(unknown) > 1 else ""
        raise ResultsError(
            f"pairs: column {unknown[0]!r} is not a known metric{more}; name the metrics to judge, as in "
            f"metrics={known}, or drop the column"
        )
    return names


def _named_metrics(pairs: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    names = list(metrics)
    for name in names:
        if name in (*CONTROLS, CEILING):
            role = "the ceiling" if name == CEILING else "a control"
            raise ResultsError(f"pairs: metric {name!r} has the name of {role}; rename the column")
        if name in _NOT_METRICS:
            raise ResultsError(f"metrics: {name!r} is a column of every pair, not a metric; leave it out")
        if names.count(name) > 1:
            raise ResultsError(f"metrics: {name!r} is named twice; name it once")
    for name in _columns_of(pairs, names):
        if name not in pairs:
            raise ResultsError(f"pairs: metric {name!r} is not among the columns {', '.join(map(str, pairs))}; add it")
    return names


def _columns_of(pairs: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """List the columns that metrics are read or computed from."""
    is_computed = _RANK_MEAN in names and _RANK_MEAN not in pairs
    columns = [name for name in names if not (is_computed and name == _RANK_MEAN)]
    return [*dict.fromkeys([*columns, *(_parts_in(pairs) if is_computed else ())])]


def _parts_in(pairs: pd.DataFrame) -> Sequence[str]:
    """List the columns that the mean rank is computed from; those for fixed targets if no scenario has all of its."""
    usable = {part for parts in PARTS.values() if set(parts) <= set(pairs) for part in parts}
    return [part for part in ALL_PARTS if part in usable] or PARTS["fixed_target"]


def _finite(frame: pd.DataFrame, name: str) -> "pd.Series[float]":
    """Return a column of any numeric type as float64; raises ResultsError for a value that is not finite."""
    column = frame[name]
    if isinstance(column, pd.DataFrame):
        raise ResultsError(f"pairs: {column.shape[1]} columns are called {name!r}; keep one")
    values = column.astype(object)
    numbers = values.map(_as_float).astype(np.float64)
    faulty = numbers.isna() | (numbers.abs() == math.inf)
    if faulty.any():
        value = values[faulty].iloc[0]
        _reject_pairs(
            frame,
            faulty,
            f"has {name} = {value!r}, not a finite number; compute the pair again or drop its row",
        )
    return numbers


def _as_float(value: object) -> float:
    """Convert a number to float; anything else, including a bool, becomes NaN."""
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf
