"""The answer to "which model should be fine-tuned?": a ranking of sources, and how it is shown."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seg_transfer.console import plain_console
from seg_transfer.errors import IncompleteError
from seg_transfer.metrics import METRICS
from seg_transfer.metrics._rank_mean import PARTS
from seg_transfer.observations.uncertainty import FirstPlace, first_place, first_place_by_mean_rank

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

RANKING_FILE = "ranking.json"
"""Where a run folder keeps the answer."""

Rows = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True, repr=False)
class Ranking:
    """Sources of one target, best first.

    Attributes:
        target: Name of the dataset.
        metric: That decides the order.
        table: One row per source: rank, source, score, standard_error, difference to the best and its paired
            standard error, tied (for first), probability (of being the best), then ``<metric>`` and ``<metric>_error``
            of every metric that was computed, and seconds.
        skipped: Why, by the names of sources that are not ranked.
        n_images, n_pixels: The target's images and pixels that were looked at.
        of_images: How many images the target has; more than n_images where a budget was enough.
        seconds: Wall time of the whole.
        run_folder: Where the scores are kept; None where they are not.
        stability: Rankings on fewer images and other pixels, one a row; None where not asked for.
        failed: What failed; None where nothing did.
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
    def best(self) -> str:
        """The source to fine-tune."""
        return str(self.table["source"].iloc[0])

    @property
    def tied(self) -> tuple[str, ...]:
        """The sources tied for first, the best among them."""
        return tuple(self.table.loc[self.table["tied"], "source"])

    @property
    def scores(self) -> dict[str, float]:
        """The score of every source by the metric that decides."""
        return {str(name): float(score) for name, score in zip(self.table["source"], self.table["score"], strict=True)}

    def __str__(self) -> str:
        """The ranking as a table in text, and what to make of it."""
        return as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        return as_html(self)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        from seg_transfer.reports.tables import records

        return {
            "target": self.target,
            "metric": self.metric,
            "best": self.best,
            "tied": list(self.tied),
            "ranking": records(self.table),
            "skipped": dict(self.skipped),
            "n_images": self.n_images,
            "of_images": self.of_images,
            "n_pixels": self.n_pixels,
            "seconds": self.seconds,
            "run_folder": str(self.run_folder) if self.run_folder else None,
            "stability": None if self.stability is None else records(self.stability),
        }


def ranking_of(target: str, metric: str, rows: Rows, skipped: Mapping[str, str], alpha: float = 0.05) -> Ranking:
    """Rank sources by their stored scores.

    Args:
        target: Name of the dataset.
        metric: That decides.
        rows: Of every source, by metric, the row of its file of scores; every source has those that decide.
        skipped: Why, by the names of sources that are not ranked.
        alpha: As in `seg_transfer.observations.uncertainty`.
    """
    import pandas as pd

    names, parts = list(rows), parts_of(metric)
    place = first_place_of(metric, {part: [rows[name][part] for name in names] for part in parts}, alpha)
    table = pd.DataFrame(
        {
            "source": names,
            "score": place.score,
            "standard_error": place.standard_error,
            "difference": place.difference,
            "difference_error": place.difference_error,
            "tied": place.tied,
            "probability": place.probability,
        }
    )
    for part in parts if metric not in parts else ():
        table[part] = [rows[name][part]["score"] for name in names]
        table[f"{part}_error"] = [_number(rows[name][part]["standard_error"]) for name in names]
    table["seconds"] = [max(rows[name][part]["seconds"] for part in parts) for name in names]
    table = table.sort_values(["score", "source"], ascending=[False, True], ignore_index=True)
    table.insert(0, "rank", table["score"].rank(ascending=False, method="min").astype(int))
    one = rows[names[0]][parts[0]]
    return Ranking(target, metric, table, dict(skipped), one["n_images"], one["n_observations"], one["n_images"])


def parts_of(metric: str) -> tuple[str, ...]:
    """The metrics that are scored for one that decides."""
    return PARTS if "scores" in METRICS[metric].needs else (metric,)


def first_place_of(metric: str, rows: Mapping[str, Sequence[Mapping[str, Any]]], alpha: float = 0.05) -> FirstPlace:
    """Who is first of n sources, from the n rows of scores of every metric that is scored for the one that decides."""
    scores = {part: [row["score"] for row in of_part] for part, of_part in rows.items()}
    replicates = {part: _replicates(of_part) for part, of_part in rows.items()}
    if metric in rows:
        return first_place(scores[metric], replicates[metric], alpha=alpha)
    return first_place_by_mean_rank(scores, replicates, alpha=alpha)


def _replicates(rows: Sequence[Mapping[str, Any]]) -> Any:
    """(n, m), NaN where one is missing; None where a source has none."""
    found = [row["replicates"] if isinstance(row["replicates"], Sequence) else () for row in rows]
    if not found[0] or len({len(one) for one in found}) > 1:
        return None
    return np.array(found, dtype=np.float64)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def answer(ranking: Ranking) -> list[str]:
    """The ranking in sentences: what to fine-tune, how sure, what it cost, what was skipped."""
    return [_what(ranking), _how_sure(ranking), _cost(ranking), *_skipped(ranking)]


def _what(ranking: Ranking) -> str:
    by = ranking.metric
    if by not in parts_of(by):
        by = f"{by} (the mean rank by {' and '.join(PARTS)})"
    return f"Fine-tune {ranking.best}: first of {len(ranking.table)} for {ranking.target} by {by}."


def _how_sure(ranking: Ranking) -> str:
    first, others = ranking.table.iloc[0], [name for name in ranking.tied if name != ranking.best]
    if len(ranking.table) == 1:
        return "It is the only one that could be ranked."
    if math.isnan(first["probability"]):
        return "How sure that is, is not known: this metric has no standard error, or there are too few images."
    sure = f"It is the best with probability {first['probability']:.2f}"
    if not others:
        return f"{sure}; no other source is tied with it."
    return f"{sure}; tied with it: {', '.join(others)}.{_what_would_tell(ranking)}"


def _what_would_tell(ranking: Ranking) -> str:
    """How many images would set the nearest rival apart: standard errors fall with the root of their number."""
    rivals = ranking.table[ranking.table["tied"] & (ranking.table["difference"] > 0)]
    if rivals.empty:
        return ""
    needed = ranking.n_images * (1.96 * rivals["difference_error"] / rivals["difference"]) ** 2
    if needed.max() > 100 * ranking.n_images:
        return " No number of images that is worth labelling would tell them apart: take either."
    return f" About {math.ceil(needed.max())} images would tell them apart."


def _cost(ranking: Ranking) -> str:
    looked = f"{ranking.n_images} images, {ranking.n_pixels} pixels, {ranking.seconds:.0f} s."
    if ranking.n_images < ranking.of_images:
        return f"{looked} These were enough: {ranking.of_images - ranking.n_images} more were not looked at."
    return looked


def _skipped(ranking: Ranking) -> list[str]:
    return [f"Skipped {name}: {reason}." for name, reason in ranking.skipped.items()]


def ranking_tables(ranking: Ranking) -> list[Table]:
    """The ranking, and its stability where that was asked for, as tables for a terminal."""
    from seg_transfer.reports.tables import plain_table

    columns, body = _cells(ranking)
    table = plain_table(f"Sources for {ranking.target}", columns, body, "source")
    if ranking.stability is None:
        return [table]
    return [table, plain_table("Fewer images, other pixels", *_stability_cells(ranking.stability), "best")]


def _cells(ranking: Ranking) -> tuple[list[str], list[list[str]]]:
    parts = [part for part in parts_of(ranking.metric) if part in ranking.table]
    columns = ["rank", "source", *(["mean rank", *parts] if parts else [ranking.metric]), "best with", "tied", "s"]
    body = []
    for row in ranking.table.to_dict("records"):
        if parts:
            shown = [f"{-row['score']:.1f}", *(with_error(row[part], row[f"{part}_error"]) for part in parts)]
        else:
            shown = [with_error(row["score"], row["standard_error"])]
        chance = "n/a" if math.isnan(row["probability"]) else f"{row['probability']:.2f}"
        tied, seconds = "yes" if row["tied"] else "", f"{row['seconds']:.1f}"
        body.append([str(row["rank"]), str(row["source"]), *shown, chance, tied, seconds])
    return columns, body


def with_error(value: float, error: float) -> str:
    """A number to the digits that its standard error leaves it.

    >>> with_error(-12.34567, 0.0212), with_error(-1234.5, math.nan), with_error(3.0, 0.0)
    ('-12.346 ± 0.021', '-1234.5', '3 ± 0')
    """
    if math.isnan(error) or error <= 0:
        return f"{value:.5g}" + (" ± 0" if error == 0 else "")
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _stability_cells(stability: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    columns = ["images", "pixel sample", "best", "tau_w to all images", "tied for first"]
    body = []
    for row in stability.to_dict("records"):
        tau = _number(row["tau_w_to_full"])
        shown = "n/a" if math.isnan(tau) else f"{tau:.3f}"
        body.append([str(row["n_images"]), str(row["seed"]), str(row["winner"]), shown, str(row["n_tied"])])
    return columns, body


def as_text(ranking: Ranking, width: int = 100) -> str:
    """The ranking as plain text."""
    file = io.StringIO()
    console = plain_console(file, width)
    for table in ranking_tables(ranking):
        console.print(table)
    for line in answer(ranking):
        console.print(line, highlight=False)
    return file.getvalue().rstrip()


def as_html(ranking: Ranking) -> str:
    """The ranking as an HTML fragment; names are escaped."""
    parts = [f"<p>{html.escape(line)}</p>" for line in answer(ranking)]
    shown = [_cells(ranking)] + ([_stability_cells(ranking.stability)] if ranking.stability is not None else [])
    for columns, body in shown:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in body)
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
    return "".join(parts)
