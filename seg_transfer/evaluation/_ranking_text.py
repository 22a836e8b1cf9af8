"""A ranking of sources in words, as plain text, and as HTML for notebooks."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from seg_transfer.evaluation._ranking_numbers import in_millions, three_digits, with_error
from seg_transfer.evaluation._ranking_remarks import (
    LINEAR_HEAD,
    architectures,
    disagreement,
    linear_head,
    why_default,
)

if TYPE_CHECKING:
    from seg_transfer.evaluation._ranking import Ranking


@dataclass(frozen=True)
class TextTable:
    """A table whose cells are text.

    Attributes:
        title: Caption.
        columns: Headings.
        rows: Rows of cells, one cell per column.
        names: Heading of the column that holds names, which may be long.
        optional: Headings of columns that may be left out where the table is too wide, the least important first.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: str
    optional: Sequence[str] = ()


def ranking_sentences(ranking: Ranking) -> list[str]:
    """Describe a ranking in sentences: the source to fine-tune, why, how certain that is, the costs, skipped sources.

    Args:
        ranking: The ranked sources of a target.

    Returns:
        Entries of one or two sentences.

    Example:
        >>> from seg_transfer.evaluation import ranking_of
        >>> row = {"standard_error": None, "replicates": None, "seconds": 1.0, "n_images": 40, "n_observations": 4000}
        >>> rows = {"a": {"gbc": {**row, "score": -9.0}}, "b": {"gbc": {**row, "score": -3.0}}}
        >>> ranking_sentences(ranking_of("city", "gbc", rows, {}))[0]
        'Fine-tune b: first of 2 for city by gbc.'
    """
    answer = _of_families(ranking) if len(ranking.families) > 1 else _of_one_list(ranking)
    return [
        *answer,
        *linear_head(ranking),
        _cost(ranking),
        *(f"Skipped {name}: {reason}." for name, reason in ranking.skipped.items()),
    ]


def _of_one_list(ranking: Ranking) -> Iterator[str]:
    yield _advice(ranking)
    yield from why_default(ranking)
    yield _certainty(ranking)
    yield from _confidence(ranking)
    yield from disagreement(ranking)
    yield from architectures(ranking)
    yield from _network(ranking)


def _of_families(ranking: Ranking) -> Iterator[str]:
    """Yield the best of every family, and how certain each is: scores do not tell which of them is the best."""
    best, *others = ranking.best_of_families
    yield (
        f"Fine-tune {best}, or the best of another family ({', '.join(others)}): each is the first of its family of "
        f"networks for {ranking.target} by {_by(ranking)}. Between families, only fine-tuning tells which is the best."
    )
    yield from why_default(ranking)
    alone = []
    for family in ranking.families:
        name = family.table["family"].iloc[0]
        of = _UNKNOWN_FAMILY if pd.isna(name) else name
        if len(family.table) > 1:
            said = [_certainty(family), *_confidence(family), *disagreement(family)]
            yield f"{family.best}, of {len(family.table)} ({of}): {' '.join(said)}"
        else:
            alone.append(f"{family.best} ({of})")
    if alone:
        yield f"Without others of their family: {', '.join(alone)}."


def ranking_text_tables(ranking: Ranking) -> list[TextTable]:
    """Format the ranking as a text table, and its stability, where computed, as another.

    Args:
        ranking: The ranked sources of a target.

    Returns:
        One or two tables.

    Example:
        >>> from seg_transfer.evaluation import ranking_of
        >>> row = {"standard_error": None, "replicates": None, "seconds": 1.0, "n_images": 40, "n_observations": 4000}
        >>> rows = {"a": {"gbc": {**row, "score": -9.0}}, "b": {"gbc": {**row, "score": -3.0}}}
        >>> ranking_text_tables(ranking_of("city", "gbc", rows, {}))[0].rows[0]
        ['1', 'b', '-3', 'n/a', 'yes', '1.0']
    """
    columns, rows = _ranking_cells(ranking)
    optional = [heading for heading in ("license", "GFLOPs", "parameters", "linear mIoU") if heading in columns]
    tables = [TextTable(f"Sources for {ranking.target}", columns, rows, "source", optional)]
    if ranking.stability is not None:
        columns, rows = _stability_cells(ranking.stability)
        tables.append(TextTable("Fewer images, other pixel samples", columns, rows, "best"))
    return tables


def ranking_text(ranking: Ranking) -> str:
    """Format the ranking as plain text: its tables, then its sentences."""
    tables = ["\n".join(_aligned(table)) for table in ranking_text_tables(ranking)]
    return "\n\n".join([*tables, "\n".join(ranking_sentences(ranking))])


def ranking_html(ranking: Ranking) -> str:
    """Format the ranking as an HTML fragment; names are escaped."""
    parts = [f"<p>{html.escape(line)}</p>" for line in ranking_sentences(ranking)]
    for table in ranking_text_tables(ranking):
        head = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
        )
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
    return "".join(parts)


def _aligned(table: TextTable) -> Iterator[str]:
    """Yield the lines of a table, with the cells of a column aligned."""
    lines = [table.columns, *table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.columns))]
    yield table.title
    for number, line in enumerate(lines):
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        if number == 0:
            yield "  ".join("-" * width for width in widths)


def _advice(ranking: Ranking) -> str:
    return f"Fine-tune {ranking.best}: first of {len(ranking.table)} for {ranking.target} by {_by(ranking)}."


def _by(ranking: Ranking) -> str:
    if not ranking.parts:
        return ranking.metric
    return f"{ranking.metric} (the mean rank by {' and '.join(ranking.parts)})"


def _certainty(ranking: Ranking) -> str:
    first, others = ranking.table.iloc[0], [name for name in ranking.tied if name != ranking.best]
    if len(ranking.table) == 1:
        return "It is the only source that could be ranked."
    if math.isnan(first["probability"]):
        return "Its certainty is unknown: this metric has no standard error, or there are too few images."
    best = f"It is the best with probability {first['probability']:.2f}"
    if not others:
        return f"{best}; no other source is tied with it."
    return f"{best}; tied with it: {', '.join(others)}.{_images_needed(ranking)}"


def _confidence(ranking: Ranking) -> Iterator[str]:
    """Yield what a lead like that over the second has meant for mIoU; nothing where it is unknown or there is none."""
    first = ranking.table.iloc[0]
    if math.isnan(first["confidence"]) or first["score"] == ranking.table["score"].iloc[1]:
        return
    share = f"{100 * first['confidence']:.0f} %"
    yield f"In published studies, a lead like this over the second meant a higher mIoU in {share} of the cases."


def _images_needed(ranking: Ranking) -> str:
    """Say how many images would separate the closest rival: errors fall with the square root of their number."""
    rivals = ranking.table[ranking.table["tied"] & (ranking.table["source"] != ranking.best)]
    if (rivals["difference"] <= 0).any():  # equal scores: more images could favor either source
        return ""
    needed = ranking.n_images * (1.96 * rivals["difference_error"] / rivals["difference"]) ** 2
    if needed.max() <= ranking.n_images:  # mean ranks move in steps, and can be tied beyond their standard errors
        return ""
    if needed.max() > 100 * ranking.n_images:
        return " No practical number of labeled images would distinguish them: use either."
    return f" About {math.ceil(needed.max())} images would distinguish them."


def _network(ranking: Ranking) -> Iterator[str]:
    """Yield what is known about the network of the first source: tables may have no room for it."""
    first = ranking.table.iloc[0]
    of_network = [fact for fact in _FACTS if _FACTS[fact].words and not pd.isna(first[fact])]
    known = [_FACTS[fact].words.format(_FACTS[fact].show(first[fact])) for fact in of_network]
    if known:
        yield f"{ranking.best}: {', '.join(known)}."


def _cost(ranking: Ranking) -> str:
    used = f"{ranking.n_images} images, {ranking.n_pixels} pixels, {ranking.seconds:.0f} s."
    if ranking.n_images < ranking.of_images:
        return f"{used} These were enough: {ranking.of_images - ranking.n_images} more were not needed."
    return used


def _ranking_cells(ranking: Ranking) -> tuple[list[str], list[list[str]]]:
    parts = [part for part in ranking.parts if part in ranking.table]
    scores = ["mean rank", *parts] if parts else [ranking.metric]
    facts = [fact for fact in _FACTS if _is_shown(ranking, fact)]
    families = ["family"] if len(ranking.families) > 1 else []
    columns = ["rank", "source", *families, *scores, "P(best)", "tied", "s", *(_FACTS[fact].heading for fact in facts)]
    cells = []
    for row in ranking.table.to_dict("records"):
        if parts:
            shown = [f"{-row['score']:.1f}", *(with_error(row[part], row[f"{part}_error"]) for part in parts)]
        else:
            shown = [with_error(row["score"], row["standard_error"])]
        probability = "n/a" if math.isnan(row["probability"]) else f"{row['probability']:.2f}"
        tied, seconds = "yes" if row["tied"] else "", f"{row['seconds']:.1f}"
        known = [_UNKNOWN if pd.isna(row[fact]) else _FACTS[fact].show(row[fact]) for fact in facts]
        family = [_UNKNOWN if pd.isna(row["family"]) else str(row["family"])] if families else []
        cells.append([str(row["rank"]), str(row["source"]), *family, *shown, probability, tied, seconds, *known])
    return columns, cells


def _is_shown(ranking: Ranking, fact: str) -> bool:
    """Return whether a fact has a column: it is known, and not what decides."""
    return fact != ranking.metric and bool(ranking.table[fact].notna().any())


class _Fact(NamedTuple):
    """How a fact about a source is shown: heading, words around the value in a list of facts or "", and the value."""

    heading: str
    words: str
    show: Callable[[Any], str]


# Column of the ranking's table -> how it is shown.
_FACTS = {
    LINEAR_HEAD: _Fact("linear mIoU", "", "{:.2f}".format),
    "parameters": _Fact("parameters", "{} parameters", in_millions),
    "gflops": _Fact("GFLOPs", "{} GFLOPs", three_digits),
    "license": _Fact("license", "license {}", str),
}
_UNKNOWN = "\N{EN DASH}"
_UNKNOWN_FAMILY = "networks of unknown family"


def _stability_cells(stability: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    columns = ["images", "pixel sample", "best", "tau_w to all images", "tied for first"]
    cells = []
    for row in stability.to_dict("records"):
        tau = math.nan if row["tau_w_to_full"] is None else row["tau_w_to_full"]
        shown = "n/a" if math.isnan(tau) else f"{tau:.3f}"
        cells.append([str(row["n_images"]), str(row["seed"]), str(row["winner"]), shown, str(row["n_tied"])])
    return columns, cells
