"""The pairs that are judged: checked, in groups, with the scores that are made of them."""

import numpy as np
import pandas as pd

from seg_transfer.errors import ResultsError
from seg_transfer.metrics._rank_mean import PARTS, rank_mean

GROUP_AND_ITEM = {"fixed_target": ("target", "source"), "fixed_source": ("source", "target")}
SCENARIOS = tuple(GROUP_AND_ITEM)
CONTROLS = ("minus_n_classes", "mean_rank_elsewhere", "random")
SCRATCH = "scratch"

_NOT_METRICS = ("source", "target", "miou", "n_target_classes")


def checked(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs that are ranked, without scratch, in the order of target and source, numbers as float64."""
    missing = [name for name in ("source", "target", "miou") if name not in pairs]
    if missing:
        raise ResultsError(f"pairs: column {missing[0]!r} is missing among {', '.join(map(str, pairs))}; add it")
    if pairs[["source", "target"]].isna().any(axis=None):
        raise ResultsError("pairs: a row has no source or no target; every row needs both names")
    numbers = ["miou", *(["n_target_classes"] if "n_target_classes" in pairs else []), *metrics_of(pairs)]
    for name in CONTROLS:
        if name in numbers:
            raise ResultsError(f"pairs: a metric is called {name!r}, which is the name of a control; rename the column")
    for name in ("miou", "n_target_classes"):
        if name in numbers and not pd.api.types.is_numeric_dtype(pairs[name]):
            raise ResultsError(f"pairs: column {name!r} holds {pairs[name].dtype}, not numbers; convert it")
    _refuse_pair(pairs, pairs.duplicated(["source", "target"]), "is given twice; keep one row per pair")
    _refuse_pair(pairs, pairs["source"] == pairs["target"], "has itself as target; leave out such rows")
    _refuse_not_finite(pairs[pairs["source"] == SCRATCH], ["miou"])
    frame = pairs[pairs["source"] != SCRATCH]
    if frame.empty:
        raise ResultsError("pairs: no pair with a source model is left to rank; score and fine-tune some pairs first")
    _refuse_not_finite(frame, numbers)
    frame = frame[["source", "target", *numbers]].sort_values(["target", "source"], ignore_index=True)
    frame = frame.astype(dict.fromkeys(numbers, np.float64))
    if "n_target_classes" in frame:
        varies = frame.groupby("target")["n_target_classes"].transform("nunique") > 1
        _refuse_pair(frame, varies, "has another n_target_classes than a pair of the same target; correct one of them")
    return frame


def axes_of(scenario: str) -> tuple[str, str]:
    """The columns that name the group and the item of a scenario; raises ResultsError for an unknown one."""
    if scenario not in GROUP_AND_ITEM:
        raise ResultsError(f"scenario {scenario!r} is unknown; choose one of {', '.join(SCENARIOS)}")
    return GROUP_AND_ITEM[scenario]


def metrics_of(frame: pd.DataFrame) -> list[str]:
    """The metrics among the columns, in their order."""
    return [str(name) for name in frame.select_dtypes("number") if name not in _NOT_METRICS]


def kinds_of(frame: pd.DataFrame, scenario: str) -> dict[str, str]:
    """Metrics, then controls, each with its kind."""
    controls = [*controls_of(frame, scenario), "random"]
    return dict.fromkeys(metrics_of(frame), "metric") | dict.fromkeys(controls, "control")


def with_rank_mean(frame: pd.DataFrame, scenario: str) -> pd.DataFrame:
    """The frame with the metric that is made of others' ranks in the groups of a scenario."""
    if "rank_mean" in frame or not set(PARTS) <= set(frame):
        return frame
    groups = frame.groupby(axes_of(scenario)[0])
    values = [pd.Series(rank_mean(*(members[part] for part in PARTS)), members.index) for _, members in groups]
    return frame.assign(rank_mean=pd.concat(values))


def controls_of(frame: pd.DataFrame, scenario: str) -> dict[str, "pd.Series[float]"]:
    """The scores of the controls that have some; `random` has none."""
    controls = {}
    if scenario == "fixed_source" and "n_target_classes" in frame:
        controls["minus_n_classes"] = -frame["n_target_classes"]
    return {**controls, "mean_rank_elsewhere": _mean_rank_elsewhere(frame, *axes_of(scenario))}


def _mean_rank_elsewhere(frame: pd.DataFrame, group: str, item: str) -> "pd.Series[float]":
    """Rivals that an item beats minus rivals that beat it, in all groups but its own, per comparison: in [-1, 1].

    That is the mean rank, put so that groups of unequal size can be added and an item that is nowhere else lies in the
    middle (0). The sums are of whole numbers: equal means stay exactly equal, whatever the order of addition.
    """
    groups = frame.groupby(group)["miou"]
    size = groups.transform("size")
    lead = 2 * groups.rank() - (size + 1)
    lead_elsewhere = lead.groupby(frame[item]).transform("sum") - lead
    rivals_elsewhere = (size - 1).groupby(frame[item]).transform("sum") - (size - 1)
    return (lead_elsewhere / rivals_elsewhere.where(rivals_elsewhere > 0)).fillna(0.0)


def _refuse_pair(pairs: pd.DataFrame, faulty: "pd.Series[bool]", message: str) -> None:
    if faulty.any():
        first = pairs[faulty].iloc[0]
        raise ResultsError(f"pair {first['source']} -> {first['target']} {message}")


def _refuse_not_finite(frame: pd.DataFrame, columns: list[str]) -> None:
    for name in columns:
        values = frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
        finite = np.isfinite(values)
        if finite.all():
            continue
        message = f"has {name} = {values[finite.argmin()]}, not a finite number; redo the pair or drop its row"
        _refuse_pair(frame, pd.Series(~finite, index=frame.index), message)
