"""Explanations of pairs, as tables for a terminal and as plain data for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from seg_transfer.metrics import ClassOverlaps, GbcDifference, deciding_classes
from seg_transfer.store.explanations import overlaps_of, read_explanation

Frames = Mapping[str, pd.DataFrame]
MAX_SHOWN = 5


@dataclass(frozen=True)
class ExplainedPair:
    """The explanation of one pair.

    Attributes:
        source: Name of the source.
        target: Name of the target.
        frames: Frames from `seg_transfer.store.explanations.read_explanation`.
    """

    source: str
    target: str
    frames: Frames

    @property
    def overlaps(self) -> ClassOverlaps:
        """The overlaps of the target's classes."""
        return overlaps_of(self.frames)

    def name(self, index: int) -> str:
        """Return the name of the class with this index."""
        classes = self.frames["classes"]
        return str(classes.loc[classes["class_index"] == index, "name"].iloc[0])


def read_explanations(folder: Path, pairs: Iterable[tuple[str, str]]) -> list[ExplainedPair]:
    """Read the explanations of pairs from a run folder; pairs without one are left out.

    Args:
        folder: The run folder.
        pairs: Names of sources and targets.

    Raises:
        ResultsError: A file is damaged.
    """
    explanations = [(source, target, read_explanation(folder, source, target)) for source, target in pairs]
    return [ExplainedPair(source, target, frames) for source, target, frames in explanations if frames is not None]


def explanation_tables(pairs: Sequence[ExplainedPair]) -> list[Table]:
    """Make tables of the classes that overlap most in each pair, and that decide between the two best sources."""
    tables = [_overlap_table(pair) for pair in pairs]
    return tables + [_difference_table(*best) for best in _best_two_by_target(pairs)]


def explanation_dict(pairs: Sequence[ExplainedPair]) -> dict[str, Any]:
    """Convert the explanations to plain data for JSON.

    Returns:
        "pairs": every pair with its classes and all overlaps; "differences": for every target with several sources, the
        difference in GBC between the two best, and the contribution of every class.
    """
    return {
        "pairs": [_pair_dict(pair) for pair in pairs],
        "differences": [_difference_dict(*best) for best in _best_two_by_target(pairs)],
    }


def _best_two_by_target(pairs: Sequence[ExplainedPair]) -> Iterator[tuple[ExplainedPair, ExplainedPair]]:
    """Yield, for every target with several sources, the two with the highest GBC, the best first."""
    for _, members in groupby(sorted(pairs, key=lambda pair: pair.target), key=lambda pair: pair.target):
        ranked = sorted(members, key=lambda pair: pair.overlaps.gbc, reverse=True)
        if len(ranked) > 1:
            yield ranked[0], ranked[1]


def _overlap_table(pair: ExplainedPair) -> Table:
    table = _plain_table(f"{pair.source} -> {pair.target}: GBC {pair.overlaps.gbc:.4g}", "classes that overlap most")
    table.add_column("overlap", justify="right")
    most = pair.frames["overlaps"].nlargest(MAX_SHOWN, "overlap")
    for first, second, overlap in zip(most["class_a"], most["class_b"], most["overlap"], strict=True):
        table.add_row(Text(f"{pair.name(first)} / {pair.name(second)}"), f"{overlap:.4f}")
    return table


def _difference_table(first: ExplainedPair, second: ExplainedPair) -> Table:
    difference = deciding_classes(first.overlaps, second.overlaps)
    title = f"{first.target}: GBC of {first.source} above that of {second.source} by {difference.total:.4g}"
    table = _plain_table(title, "classes that decide")
    table.add_column("part", justify="right")
    order = np.argsort(-np.abs(difference.of_classes), kind="stable")[:MAX_SHOWN]
    for position in order:
        table.add_row(Text(first.name(int(difference.classes[position]))), f"{difference.of_classes[position]:+.4f}")
    return table


def _plain_table(title: str, column: str) -> Table:
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, min_width=60)
    table.add_column(column, overflow="fold")
    return table


def _pair_dict(pair: ExplainedPair) -> dict[str, Any]:
    overlaps = pair.frames["overlaps"].sort_values("overlap", ascending=False, kind="stable")
    return {
        "source": pair.source,
        "target": pair.target,
        "gbc": pair.overlaps.gbc,
        "classes": pair.frames["classes"].to_dict("records"),
        "overlaps": overlaps.to_dict("records"),
        **{name: frame.attrs for name, frame in pair.frames.items() if name.startswith("map")},
    }


def _difference_dict(first: ExplainedPair, second: ExplainedPair) -> dict[str, Any]:
    difference: GbcDifference = deciding_classes(first.overlaps, second.overlaps)
    parts = zip(difference.classes.tolist(), difference.of_classes.tolist(), strict=True)
    return {
        "target": first.target,
        "first": first.source,
        "second": second.source,
        "difference": difference.total,
        "classes": [{"class_index": index, "name": first.name(index), "part": part} for index, part in parts],
    }
