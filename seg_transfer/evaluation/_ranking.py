"""The answer to "which model should be fine-tuned?": the sources of one target, ranked by their scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from seg_transfer.errors import IncompleteError
from seg_transfer.evaluation._confidence import confidences
from seg_transfer.evaluation._plain import plain_rows
from seg_transfer.evaluation._ranking_remarks import LINEAR_HEAD
from seg_transfer.evaluation._ranking_text import ranking_html, ranking_sentences, ranking_text
from seg_transfer.metrics import METRICS
from seg_transfer.metrics._rank_mean import PARTS
from seg_transfer.observations.uncertainty import FirstPlace, first_place, first_place_by_mean_rank

ScoreRow = Mapping[str, Any]
"""A row of a score file: score, standard_error, replicates, seconds, n_images, n_observations."""
FACTS = ("family", "parameters", "gflops", "license", "revision")
"""Facts about a source that stand beside its score, and decide nothing."""


@dataclass(frozen=True, repr=False)
class Ranking:
    """Sources of one target, best first.

    ``print(ranking)`` shows it as text, and a notebook as HTML.

    Attributes:
        target: Name of the dataset.
        metric: The metric that decides the order.
        table: One row per source: rank, source, score, standard_error, difference to the best and its paired
            standard error (difference_error), tied (for first), probability (of being the best, in [0, 1]), confidence
            (share of the cases in which a lead like that of the best over this source meant a higher mIoU in published
            studies; for the best, its lead over the second; NaN where unknown), all of these within the family; then
            ``<metric>`` and ``<metric>_error`` for every part of a combined metric, probe_miou (what a linear head on
            its features reaches without fine-tuning on images that it was not fitted on, in [0, 1]) and
            probe_miou_error, NaN where unknown, seconds of scoring it, and what is known about the source: its family
            (architecture, width and strides of its features), the number of its network's parameters, gflops (billions
            of floating-point operations per image of 512 x 512 pixels, or of the one size that it takes), the license
            of its weights, and the commit (revision) of the Hub's repository that they come from; missing where
            unknown.
        skipped: Source that is not ranked -> the reason.
        n_images: Number of images of the target that were used.
        n_pixels: Number of pixels of these images that were used.
        of_images: Number of images the target has; more than n_images where a budget stopped early.
        seconds: Wall time of the whole ranking in seconds.
        run_folder: Folder that holds the scores; None where they were not kept.
        stability: Rankings on fewer images and other pixel samples, one per row; None where not requested.
        failed: The error of the sources or metrics that failed; None where nothing failed.
    """

    target: str
    metric: str
    table: pd.DataFrame
    skipped: Mapping[str, str]
    n_images: int
    n_pixels: int
    of_images: int
    seconds: float = 0.0
    run_folder: Path | None = None
    stability: pd.DataFrame | None = None
    failed: IncompleteError | None = field(default=None, compare=False)

    @property
    def families(self) -> tuple[Ranking, ...]:
        """The ranking of every family of networks by itself; only this one where fewer than two families are known."""
        return tuple(replace(self, table=members) for members in _by_family(self.table))

    @property
    def best(self) -> str:
        """The source to fine-tune; of several families, the best of the first, whose place is hardly tested."""
        return str(self.table["source"].iloc[0])

    @property
    def best_of_families(self) -> tuple[str, ...]:
        """The best source of every family."""
        return tuple(family.best for family in self.families)

    @property
    def tied(self) -> tuple[str, ...]:
        """The sources tied for first in their family, including the best."""
        return tuple(self.table.loc[self.table["tied"], "source"])

    @property
    def scores(self) -> dict[str, float]:
        """Source -> score by the metric that decides the order."""
        return {str(name): float(score) for name, score in zip(self.table["source"], self.table["score"], strict=True)}

    @property
    def parts(self) -> tuple[str, ...]:
        """The metrics that a combined metric such as rank_mean consists of; () for any other metric."""
        return () if self.metric in parts_of(self.metric) else parts_of(self.metric)

    @property
    def first_by(self) -> dict[str, str]:
        """Part of a combined metric -> the source that it puts first: the best where it is among equals.

        {} of any other metric, and of several families.
        """
        parts = self.parts if len(self.families) == 1 else ()
        return {part: str(self.table["source"].iloc[self.table[part].argmax()]) for part in parts}

    def __str__(self) -> str:
        """The ranking as a text table, followed by sentences that explain it."""
        return ranking_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The ranking as HTML for a notebook."""
        return ranking_html(self)

    def as_dict(self) -> dict[str, Any]:
        """The ranking as plain data for JSON."""
        return {
            "target": self.target,
            "metric": self.metric,
            "best": self.best,
            "best_of_families": list(self.best_of_families),
            "tied": list(self.tied),
            "first_by": self.first_by,
            "ranking": plain_rows(self.table),
            "skipped": dict(self.skipped),
            "n_images": self.n_images,
            "of_images": self.of_images,
            "n_pixels": self.n_pixels,
            "seconds": self.seconds,
            "sentences": ranking_sentences(self),
            "run_folder": str(self.run_folder) if self.run_folder else None,
            "stability": None if self.stability is None else plain_rows(self.stability),
        }


def ranking_of(
    target: str,
    metric: str,
    rows: Mapping[str, Mapping[str, ScoreRow]],
    skipped: Mapping[str, str],
    alpha: float = 0.05,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    slope: float | None = None,
) -> Ranking:
    """Rank the sources of a target by their stored scores.

    Args:
        target: Name of the dataset.
        metric: The metric that decides the order, one of `seg_transfer.metrics.METRICS`.
        rows: Source -> metric -> row of its score file. Every source must have all metrics of `parts_of`, and may have
            probe_miou.
        skipped: Source that is not ranked -> the reason.
        alpha: Level of the two-sided test that decides which sources are tied for first.
        facts: Source -> some of `FACTS`, as far as they are known.
        slope: What a lead by this metric has meant for mIoU (`fit_slope`); None where that is unknown.

    Returns:
        The ranking, best first; sources with equal scores share a rank and are in alphabetical order. Sources of
        several families are ranked family by family; their order is that of the best of each in a list of all.

    Example:
        >>> row = {"standard_error": None, "replicates": None, "seconds": 1.0, "n_images": 40, "n_observations": 4000}
        >>> rows = {"a": {"gbc": {**row, "score": -9.0}}, "b": {"gbc": {**row, "score": -3.0}}}
        >>> ranking_of("city", "gbc", rows, {}).best
        'b'
    """
    every = _ordered_table(metric, rows, alpha, facts or {}, slope)
    families = [{name: rows[name] for name in members["source"]} for members in _by_family(every)]
    tables = [_ordered_table(metric, members, alpha, facts or {}, slope) for members in families]
    table = every if len(tables) == 1 else pd.concat(tables, ignore_index=True)
    row = next(iter(rows.values()))[parts_of(metric)[0]]
    return Ranking(target, metric, table, dict(skipped), row["n_images"], row["n_observations"], row["n_images"])


def _by_family(table: pd.DataFrame) -> list[pd.DataFrame]:
    """Divide the table of a ranking by family, in the order of the first of each; sources of unknown family are one."""
    if table["family"].nunique() < 2:
        return [table]
    return [members.reset_index(drop=True) for _, members in table.groupby(table["family"].fillna(""), sort=False)]


def _ordered_table(
    metric: str,
    rows: Mapping[str, Mapping[str, ScoreRow]],
    alpha: float,
    facts: Mapping[str, Mapping[str, Any]],
    slope: float | None,
) -> pd.DataFrame:
    """Return the table of sources that stand in one list, best first."""
    table = _unordered_table(metric, rows, alpha, facts)
    table = table.sort_values(["score", "source"], ascending=[False, True], ignore_index=True)
    table.insert(0, "rank", table["score"].rank(ascending=False, method="min").astype(int))
    table["confidence"] = confidences(table["score"].to_numpy(np.float64), slope)
    return table


def _unordered_table(
    metric: str,
    rows: Mapping[str, Mapping[str, ScoreRow]],
    alpha: float,
    facts: Mapping[str, Mapping[str, Any]],
) -> pd.DataFrame:
    """Return the table of a ranking in the order of the rows, without ranks, and with confidence still unknown."""
    names, parts = list(rows), parts_of(metric)
    first = first_place_of(metric, {part: [rows[name][part] for name in names] for part in parts}, alpha)
    table = pd.DataFrame(
        {
            "source": names,
            "score": first.score,
            "standard_error": first.standard_error,
            "difference": first.difference,
            "difference_error": first.difference_error,
            "tied": first.tied,
            "probability": first.probability,
            "confidence": math.nan,
        }
    )
    for shown in (*(parts if metric not in parts else ()), LINEAR_HEAD):
        known = [rows[name].get(shown, {}) for name in names]
        table[shown] = [_float_or_nan(row.get("score")) for row in known]
        table[f"{shown}_error"] = [_float_or_nan(row.get("standard_error")) for row in known]
    table["seconds"] = [max(rows[name][part]["seconds"] for part in parts) for name in names]
    for name, values in _fact_columns(names, facts).items():
        table[name] = values
    return table


def _fact_columns(names: Sequence[str], facts: Mapping[str, Mapping[str, Any]]) -> dict[str, pd.Series[Any]]:
    """Return the column of every fact, with missing values where it is unknown."""
    types = {"parameters": "Int64", "gflops": "float64"}
    known = [facts.get(name, {}) for name in names]
    return {fact: pd.Series([one.get(fact) for one in known], dtype=types.get(fact, "object")) for fact in FACTS}


def parts_of(metric: str) -> tuple[str, ...]:
    """List the metrics whose scores a metric is computed from, where it ranks the sources of a target.

    Args:
        metric: One of `seg_transfer.metrics.METRICS`.

    Returns:
        The metric itself, or the parts of a combined metric.

    Example:
        >>> parts_of("gbc"), parts_of("rank_mean")
        (('gbc',), ('gbc', 'logme'))
    """
    return PARTS["fixed_target"] if "scores" in METRICS[metric].needs else (metric,)


def first_place_of(metric: str, rows: Mapping[str, Sequence[ScoreRow]], alpha: float = 0.05) -> FirstPlace:
    """Find the best of n sources, and how certain it is.

    Args:
        metric: The metric that decides the order.
        rows: Metric of `parts_of` -> its n score rows, in the order of the sources.
        alpha: Level of the two-sided test that decides which sources are tied for first.

    Returns:
        The first place; arrays are (n,), in the order of the rows.

    Example:
        >>> rows = [{"score": -9.0, "replicates": None}, {"score": -3.0, "replicates": None}]
        >>> first_place_of("gbc", {"gbc": rows}).best
        1
    """
    scores = {part: [row["score"] for row in part_rows] for part, part_rows in rows.items()}
    replicates = {part: _replicates(part_rows) for part, part_rows in rows.items()}
    if metric in rows:
        return first_place(scores[metric], replicates[metric], alpha=alpha)
    return first_place_by_mean_rank(scores, replicates, alpha=alpha)


def _replicates(rows: Sequence[ScoreRow]) -> npt.NDArray[np.float64] | None:
    """Return replicates (n, m), NaN for missing ones; None where a source has none or their numbers differ."""
    replicates = [row["replicates"] if isinstance(row["replicates"], Sequence) else () for row in rows]
    if not replicates[0] or len({len(values) for values in replicates}) > 1:
        return None
    return np.array(replicates, dtype=np.float64)


def _float_or_nan(value: float | None) -> float:
    return math.nan if value is None else value
