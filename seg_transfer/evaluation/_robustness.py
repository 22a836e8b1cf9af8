"""Whether a verdict on metrics holds for other pools of sources: without the largest, of equal size, without one."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from seg_transfer.evaluation._controls import metric_kinds, size_classes, sizes_differ
from seg_transfer.evaluation._groups import mean_measures
from seg_transfer.evaluation._leave_out import ranks_of_metrics
from seg_transfer.evaluation._pairs import in_scenario, validate_pairs

NOTHING = ""

_ALL, _WITHOUT_LARGEST, _EQUAL_SIZE, _WITHOUT_ONE = "all", "without_largest", "equal_size", "leave_one_source_out"
_SIZE = "parameters"
_SUMMARIZED = ("top1", "tau_w", "regret")


def robustness(
    pairs: pd.DataFrame, *, scenario: str = "fixed_target", metrics: Sequence[str] | None = None
) -> pd.DataFrame:
    """Compute the mean measures of every metric for other pools of sources.

    Args:
        pairs: As in `evaluate`.
        scenario: "fixed_target" or "fixed_source".
        metrics: As in `evaluate`.

    Returns:
        One row per (variant, left_out, metric), controls last. Mean ranks and controls that combine several pairs are
        computed from the pairs of the variant. The variants of size are there only where the parameters of all sources
        are known and differ by more than 5 %. Columns:

        * variant: "all"; "without_largest": the `largest_sources` are left out; "equal_size", for fixed targets: the
          sources of a target compete within thirds by parameters, each a group of its own; "leave_one_source_out"
        * left_out: the source that is left out; "" in the other variants
        * metric, kind ("metric" or "control"), n_groups
        * top1, tau_w, regret: means over the groups; NaN where there is no group
        * rank: rank by tau_w among the metrics; 1 is the best, and equal values share the smaller rank. Missing for
          controls and where tau_w is NaN.

    Raises:
        ResultsError: As in `evaluate`.

    Example:
        >>> values = {"miou": [0.6, 0.4, 0.5], "parameters": [3e6, 1e6, 2e6], "gbc": [-1.0, -3.0, -2.0]}
        >>> pairs = pd.DataFrame({"source": ["a", "b", "c"], "target": ["t", "t", "t"], **values})
        >>> table = robustness(pairs)
        >>> table.loc[table["metric"] == "parameters", ["variant", "left_out", "top1"]].to_numpy().tolist()[:3]
        [['all', '', 1.0], ['without_largest', '', 1.0], ['equal_size', '', nan]]
    """
    frame, names = validate_pairs(pairs, metrics)
    kinds = metric_kinds(in_scenario(frame, scenario, names), scenario)
    table = pd.DataFrame(
        [
            {"variant": variant, "left_out": left_out, **row}
            for variant, left_out, part in _variants(frame, scenario)
            for row in mean_measures(part, scenario, names, kinds)
        ]
    )
    shown = table[["variant", "left_out", "metric", "kind", "n_groups", *_SUMMARIZED]]
    return shown.assign(rank=ranks_of_metrics(table, ["variant", "left_out"]))


def robustness_summary(robust: pd.DataFrame) -> pd.DataFrame:
    """Summarize `robustness`: one row per metric, controls last.

    Args:
        robust: The table that `robustness` returns.

    Returns:
        Columns:

        * metric, kind ("metric" or "control")
        * tau_w, tau_w_without_largest, tau_w_equal_size: by variant; NaN where there is no such variant
        * tau_w_min, tau_w_max: the smallest and largest with one source left out
        * n_first: for how many of the sources that were left out the metric is the best by tau_w, alone or tied
        * n_left_out: number of sources that were left out in turn

    Example:
        >>> values = {"miou": [0.6, 0.4, 0.5], "gbc": [-1.0, -3.0, -2.0]}
        >>> pairs = pd.DataFrame({"source": ["a", "b", "c"], "target": ["t", "t", "t"], **values})
        >>> summary = robustness_summary(robustness(pairs))
        >>> summary.loc[[0], ["metric", "tau_w", "n_first", "n_left_out"]].to_numpy().tolist()
        [['gbc', 1.0, 3, 3]]
    """
    by_variant = {str(variant): rows for variant, rows in robust.groupby("variant")}
    summary = by_variant[_ALL].set_index("metric")[["kind", "tau_w"]].copy()
    for variant in (_WITHOUT_LARGEST, _EQUAL_SIZE):
        known = by_variant.get(variant)
        summary[f"tau_w_{variant}"] = np.nan if known is None else known.set_index("metric")["tau_w"]
    without_one = by_variant[_WITHOUT_ONE]
    taus = without_one.groupby("metric")["tau_w"]
    summary["tau_w_min"], summary["tau_w_max"] = taus.min(), taus.max()
    summary["n_first"] = (without_one["rank"] == 1).fillna(False).groupby(without_one["metric"]).sum()
    summary["n_left_out"] = without_one["left_out"].nunique()
    return summary.reset_index()


def _variants(frame: pd.DataFrame, scenario: str) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield variant, left-out source and pairs; the pairs may be none."""
    yield _ALL, NOTHING, frame
    if _SIZE in frame and sizes_differ(frame[_SIZE]):
        third = frame["source"].map(_thirds_of(frame))
        yield _WITHOUT_LARGEST, NOTHING, frame[third < third.max()]
        if scenario == "fixed_target":  # a fixed source is of one size
            yield _EQUAL_SIZE, NOTHING, frame.assign(target=frame["target"] + " " + third.astype(str))
    for source in sorted(frame["source"].unique()):
        yield _WITHOUT_ONE, source, frame[frame["source"] != source]


def largest_sources(pairs: pd.DataFrame) -> list[str]:
    """Return the sources that `robustness` leaves out as the largest.

    They are the highest third by number of parameters. Sizes within 5 % are one size, whose sources share the third of
    their middle, so that they can be more than a third, or fewer.

    Args:
        pairs: As in `evaluate`, with the column parameters known for all sources.

    Returns:
        Names of sources; none where the parameters do not differ by more than 5 %, or are unknown.

    Raises:
        ResultsError: As in `evaluate`.

    Example:
        >>> sizes = {"source": ["a", "b", "c"], "parameters": [3e6, 1e6, 2e6]}
        >>> largest_sources(pd.DataFrame(sizes | {"target": ["t"] * 3, "miou": [0.6, 0.4, 0.5]}))
        ['a']
    """
    frame, _ = validate_pairs(pairs, metrics=())
    if _SIZE not in frame or not sizes_differ(frame[_SIZE]):
        return []
    third = _thirds_of(frame)
    return sorted(map(str, third.index[third == third.max()]))


def _thirds_of(frame: pd.DataFrame) -> "pd.Series[int]":
    """Return the third of every source, which is the index."""
    return _thirds(frame.groupby("source")[_SIZE].first())


def _thirds(sizes: "pd.Series[float]") -> "pd.Series[int]":
    """Return the third (0, 1 or 2) of every source by size; sources of one size share the third of their middle.

    Sizes within 5 % are one size, as everywhere: networks of one kind differ by their last layer, and what tears them
    apart compares nothing. With few sizes a third may be empty: the largest sources are then those of the highest third
    there is.
    """
    middle = size_classes(sizes).rank(method="average") - 0.5
    return (3 * middle / len(sizes)).astype(int)
