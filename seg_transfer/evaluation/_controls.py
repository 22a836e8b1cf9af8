"""Controls: rankings that use no features, which a metric must beat to be worth its cost."""

import math

import pandas as pd

from seg_transfer.evaluation._pairs import SOURCE_FACTS, axes_of, metrics_of

_SIZES = ("parameters", "gflops")
_SAME_SIZE = 1.05
# Another last layer changes the size and the work of a small network by a few percent, another size by far more.
_SAME_ARCHITECTURE = 1.1


def sizes_differ(sizes: "pd.Series[float]") -> bool:
    """Whether networks differ in size by more than 10 %: more than last layers for other classes explain."""
    return bool(sizes.max() > _SAME_ARCHITECTURE * sizes.min())


def size_classes(sizes: "pd.Series[float]") -> "pd.Series[float]":
    """Return the smallest size of the class of every size; a class holds the sizes up to 5 % above its smallest.

    Example:
        >>> size_classes(pd.Series([103.0, 200.0, 100.0, 106.0])).tolist()
        [100.0, 200.0, 100.0, 106.0]
    """
    smallest: dict[float, float] = {}
    start = -math.inf
    for size in sorted(set(sizes)):
        start = size if size > _SAME_SIZE * start else start
        smallest[size] = start
    return sizes.map(smallest)


def metric_kinds(frame: pd.DataFrame, scenario: str) -> dict[str, str]:
    """Return name -> kind ("metric" or "control") for a frame from `in_scenario`, metrics first."""
    controls = [name for name, values in controls_of(frame, scenario).items() if _may_rank(frame, name, values)]
    return dict.fromkeys(metrics_of(frame), "metric") | dict.fromkeys([*controls, "random"], "control")


def controls_of(frame: pd.DataFrame, scenario: str) -> dict[str, "pd.Series[float]"]:
    """Return control -> scores, for all controls but `random`, which has no scores; constant facts are among them."""
    controls = {}
    if scenario == "fixed_source" and "n_target_classes" in frame:
        controls["minus_n_classes"] = -frame["n_target_classes"]
    if scenario == "fixed_target":
        controls |= {fact: frame[fact] for fact in SOURCE_FACTS if fact in frame}
    return {**controls, "mean_rank_elsewhere": _mean_rank_elsewhere(frame, *axes_of(scenario))}


def _may_rank(frame: pd.DataFrame, name: str, values: "pd.Series[float]") -> bool:
    """Whether a control can order anything: not a fact that all sources of every target share."""
    groups = values.groupby(frame["target"])
    if name in _SIZES:
        return any(sizes_differ(sizes) for _, sizes in groups)
    return name not in SOURCE_FACTS or bool((groups.nunique() > 1).any())


def _mean_rank_elsewhere(frame: pd.DataFrame, group: str, item: str) -> "pd.Series[float]":
    """Count the rivals an item beats minus those that beat it, in all other groups, per comparison: in [-1, 1].

    This is the mean rank in a form in which groups of unequal size can be added, and in which an item without other
    groups lies in the middle (0). The sums are of integers, so that equal means stay exactly equal in any order of
    addition.
    """
    groups = frame.groupby(group)["miou"]
    size = groups.transform("size")
    lead = 2 * groups.rank() - (size + 1)
    lead_elsewhere = lead.groupby(frame[item]).transform("sum") - lead
    rivals_elsewhere = (size - 1).groupby(frame[item]).transform("sum") - (size - 1)
    return (lead_elsewhere / rivals_elsewhere.where(rivals_elsewhere > 0)).fillna(0.0)
