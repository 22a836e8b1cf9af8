"""Figures that explain the score of one pair: which classes overlap, and where its pixels lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seg_transfer.reports.drawing import BLUE, GREEN, GREY, HEAT, INK, ORANGE, PURPLE, RED, SKY, Plot, file_stem, label
from seg_transfer.reports.material import Explanation

_MOST_CLASSES = 24
_COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, INK)
_MARKERS = "osD^"
_MOST_NAMED = 14


def explanation_plots(explanations: Iterable[Explanation]) -> Iterator[Plot]:
    """Overlaps and maps of every pair that has them."""
    for one in explanations:
        pair = f"{one.source} on {one.target}"
        if one.overlaps is not None and not one.overlaps.empty:
            yield Plot(
                file_stem("overlaps", one.source, one.target),
                f"Classes that {one.source} confuses on {one.target}",
                f"Heat map of the overlap of every two classes of {one.target} in the features of {one.source}.",
                f"1: both lie in the same place; 0: apart. At most {_MOST_CLASSES} classes, those that overlap most.",
                partial(_draw_overlaps, one.overlaps),
            )
        for name, frame, when in (
            ("map", one.map, "before fine-tuning"),
            ("map_fine_tuned", one.map_fine_tuned, "after fine-tuning"),
        ):
            if frame is not None and not frame.empty:
                yield Plot(
                    file_stem(name, one.source, one.target),
                    f"Pixels of {one.target} as {one.source} sees them, {when}",
                    f"Map of sampled pixels of {pair}, {when}, coloured by class.",
                    "Each dot is a pixel; near ones have similar features. The axes have no unit.",
                    partial(_draw_map, frame, _names(one)),
                )


def strongest(overlaps: pd.DataFrame, most: int = 10) -> pd.DataFrame:
    """The unordered pairs of different classes that overlap most."""
    own = overlaps[overlaps["class_a"] != overlaps["class_b"]]
    ends = own[["class_a", "class_b"]].astype(str)
    first, second = ends.min(axis=1), ends.max(axis=1)
    once = pd.DataFrame({"class_a": first, "class_b": second, "overlap": own["overlap"]})
    once = once.drop_duplicates(["class_a", "class_b"])
    return once.sort_values(["overlap", "class_a", "class_b"], ascending=[False, True, True], ignore_index=True)[:most]


def _draw_overlaps(overlaps: pd.DataFrame) -> Figure:
    """A symmetric matrix; a class and itself are left white."""
    both = pd.concat([overlaps, overlaps.rename(columns={"class_a": "class_b", "class_b": "class_a"})])
    wide = both.drop_duplicates(["class_a", "class_b"]).pivot(index="class_a", columns="class_b", values="overlap")
    order = list(dict.fromkeys(both["class_a"]))
    values = wide.reindex(index=order, columns=order).to_numpy(dtype=float, copy=True)
    np.fill_diagonal(values, np.nan)
    known = np.nan_to_num(values, nan=0.0)
    kept = np.sort(np.lexsort((-known.sum(axis=1), -known.max(axis=1)))[:_MOST_CLASSES])
    values, names = values[np.ix_(kept, kept)], [label(order[place], 18) for place in kept]
    side = 2.4 + 0.27 * max(len(names), 4)
    figure = Figure(figsize=(side + 0.6, side))
    axes = figure.add_subplot()
    mesh = axes.pcolormesh(np.ma.masked_invalid(values), cmap=HEAT, vmin=0, edgecolors="white", linewidth=0.5)
    places = np.arange(len(names)) + 0.5
    axes.set_xticks(places, names, rotation=90)
    axes.set_yticks(places, names)
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
    frequent = sorted(counts.index, key=lambda one: (-counts[one], one))
    others = frame[frame["label"].isin(frequent[_MOST_NAMED:])]
    if len(others):
        axes.plot(
            others["x"], others["y"], ".", color=GREY, markersize=2, label=f"{len(frequent) - _MOST_NAMED} others"
        )
    for place, one in enumerate(frequent[:_MOST_NAMED]):
        own = frame[frame["label"] == one]
        colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place // len(_COLOURS)]
        name = label(names.get(int(one), str(one)), 18)
        axes.plot(own["x"], own["y"], marker, color=colour, markersize=2.5, alpha=0.7, markeredgewidth=0, label=name)
    axes.set(xlabel="first direction", ylabel="second direction", xticks=[], yticks=[])
    legend = figure.legend(loc="outside right upper", fontsize=8, markerscale=2.5)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    return figure
