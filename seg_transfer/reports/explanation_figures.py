"""Figures that explain the score of a pair: the overlap of its classes, and a map of its pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seg_transfer.reports.drawing import BLUE, GRAY, GREEN, HEAT, INK, ORANGE, PURPLE, RED, SKY, Plot, file_stem, label
from seg_transfer.reports.inputs import Explanation

_MAX_CLASSES = 24
_COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, INK)
_MARKERS = "osD^"
_MAX_NAMED = 14


def explanation_plots(explanations: Iterable[Explanation]) -> Iterator[Plot]:
    """Yield figures of the overlaps and maps of every pair that has them."""
    for explanation in explanations:
        source, target = explanation.source, explanation.target
        if explanation.overlaps is not None and not explanation.overlaps.empty:
            yield Plot(
                file_stem("overlaps", source, target),
                f"Classes of {target} that overlap in {source}",
                f"Heat map of the overlap of every two classes of {target} in the features of {source}.",
                f"1: the classes coincide; 0: they are separate. At most {_MAX_CLASSES} classes, by overlap.",
                partial(_draw_overlaps, explanation.overlaps),
            )
        for name, frame, when in (
            ("map", explanation.map, "before fine-tuning"),
            ("map_fine_tuned", explanation.map_fine_tuned, "after fine-tuning"),
        ):
            if frame is not None and not frame.empty:
                yield Plot(
                    file_stem(name, source, target),
                    f"Pixels of {target} in the features of {source}, {when}",
                    f"Map of sampled pixels of {source} on {target}, {when}, colored by class.",
                    "Each dot is a pixel; nearby pixels have similar features. The axes have no unit.",
                    partial(_draw_map, frame, _names(explanation)),
                )


def largest_overlaps(overlaps: pd.DataFrame, max_pairs: int = 10) -> pd.DataFrame:
    """Return the pairs of different classes that overlap most.

    Args:
        overlaps: class_a, class_b, overlap; pairs may occur in both orders.
        max_pairs: Maximum number of pairs.

    Returns:
        The same columns, with each pair once, sorted by decreasing overlap.
    """
    distinct_pairs = overlaps[overlaps["class_a"] != overlaps["class_b"]]
    ends = distinct_pairs[["class_a", "class_b"]].astype(str)
    first, second = ends.min(axis=1), ends.max(axis=1)
    unique = pd.DataFrame({"class_a": first, "class_b": second, "overlap": distinct_pairs["overlap"]})
    unique = unique.drop_duplicates(["class_a", "class_b"])
    return unique.sort_values(["overlap", "class_a", "class_b"], ascending=[False, True, True], ignore_index=True)[
        :max_pairs
    ]


def _draw_overlaps(overlaps: pd.DataFrame) -> Figure:
    """Draw a symmetric matrix; its diagonal stays white."""
    both = pd.concat([overlaps, overlaps.rename(columns={"class_a": "class_b", "class_b": "class_a"})])
    wide = both.drop_duplicates(["class_a", "class_b"]).pivot(index="class_a", columns="class_b", values="overlap")
    order = list(dict.fromkeys(both["class_a"]))
    values = wide.reindex(index=order, columns=order).to_numpy(dtype=float, copy=True)
    np.fill_diagonal(values, np.nan)
    known = np.nan_to_num(values, nan=0.0)
    kept = np.sort(np.lexsort((-known.sum(axis=1), -known.max(axis=1)))[:_MAX_CLASSES])
    values, names = values[np.ix_(kept, kept)], [label(order[position], 18) for position in kept]
    side = 2.4 + 0.27 * max(len(names), 4)
    figure = Figure(figsize=(side + 0.6, side))
    axes = figure.add_subplot()
    mesh = axes.pcolormesh(np.ma.masked_invalid(values), cmap=HEAT, vmin=0, edgecolors="white", linewidth=0.5)
    positions = np.arange(len(names)) + 0.5
    axes.set_xticks(positions, names, rotation=90)
    axes.set_yticks(positions, names)
    axes.set(xlabel="class", ylabel="class", ylim=(len(names), 0))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(mesh, ax=axes, fraction=0.05, pad=0.02)
    bar.set_label("Bhattacharyya overlap")
    bar.outline.set_visible(False)
    return figure


def _names(explanation: Explanation) -> Mapping[int, str]:
    if explanation.classes is None:
        return {}
    return dict(
        zip(explanation.classes["class_index"].astype(int), explanation.classes["name"].astype(str), strict=True)
    )


def _draw_map(frame: pd.DataFrame, names: Mapping[int, str]) -> Figure:
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    counts = frame["label"].value_counts()
    frequent = sorted(counts.index, key=lambda class_index: (-counts[class_index], class_index))
    others = frame[frame["label"].isin(frequent[_MAX_NAMED:])]
    if len(others):
        axes.plot(others["x"], others["y"], ".", color=GRAY, markersize=2, label=f"{len(frequent) - _MAX_NAMED} others")
    for index, class_index in enumerate(frequent[:_MAX_NAMED]):
        pixels = frame[frame["label"] == class_index]
        color, marker = _COLORS[index % len(_COLORS)], _MARKERS[index // len(_COLORS)]
        name = label(names.get(int(class_index), str(class_index)), 18)
        axes.plot(
            pixels["x"], pixels["y"], marker, color=color, markersize=2.5, alpha=0.7, markeredgewidth=0, label=name
        )
    axes.set(xlabel="first direction", ylabel="second direction", xticks=[], yticks=[])
    legend = figure.legend(loc="outside right upper", fontsize=8, markerscale=2.5)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    return figure
