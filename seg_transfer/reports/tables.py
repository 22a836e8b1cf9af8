"""Shows evaluation measures and rankings as tables that fit a terminal with 80 columns."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seg_transfer.evaluation import GROUP_AND_ITEM, SCENARIOS, SCRATCH, rankings, scratch_report
from seg_transfer.metrics import Metric

_TERMINAL = 80  # columns
TITLES = {"fixed_target": "Fixed target: ranking sources", "fixed_source": "Fixed source: ranking targets"}

_NEEDS = {
    "features": "features",
    "source_probs": "probabilities",
    "image_index": "images",
    "image_embeddings": "image embeddings",
    "source_images": "source images",
    "class_pixels": "class pixels",
    "scores": "scores",
}
_SE = {"yes": "yes", "on request": "ask", "no": "no"}
_METRICS_LEGEND = (
    "N observations with D features (a metric may use only n and d of them); C target classes, C_s source classes; "
    "M target images, M_s source images.",
    'Standard error, SE: yes, or "ask": ten times the cost of the score, score_all(..., standard_errors="all").',
    "Metrics with an extra, such as ot, need pip install 'seg_transfer[ot]'. Without it, a study skips them.",
)


def ranking_tables(
    pairs: pd.DataFrame,
    fine_tunings: pd.DataFrame | None = None,
    *,
    metrics: Sequence[str] | None = None,
    scenarios: Sequence[str] = SCENARIOS,
    performance: str = "mIoU",
) -> list[Table]:
    """Make one table per scenario, with a section per group: the best item, the items that metrics choose, and scratch.

    Args:
        pairs: As in `seg_transfer.evaluation.evaluate`.
        fine_tunings: One row per fine-tuning, as in `seg_transfer.evaluation.scratch_report`; None if unknown.
        metrics: As in `seg_transfer.evaluation.evaluate`.
        scenarios: The scenarios to show.
        performance: Meaning of the column miou, such as "accuracy".
    """
    return [_ranking_table(pairs, metrics, fine_tunings, scenario, performance) for scenario in scenarios]


def metric_tables(metrics: Mapping[str, Metric]) -> list[Table]:
    """Make tables of the inputs, ranges, costs and references of the metrics."""
    table = text_table("Transferability metrics: higher is better", list(_METRICS_LEGEND))
    references = text_table("References", [])
    for name in ("metric", "needs", "SE", "range", "cost"):
        table.add_column(name, overflow="fold", no_wrap=name in ("metric", "needs", "SE"))
    for name in ("metric", "reference"):
        references.add_column(name, overflow="fold", no_wrap=name == "metric")
    for row in metric_rows(metrics):
        needs = ",\n".join([text for field, text in _NEEDS.items() if field in row["needs"]] + _extra(row["extra"]))
        table.add_row(*map(text_cell, (row["name"], needs, _SE[row["standard_error"]], row["range"], row["cost"])))
        package = [] if row["package"] == "seg_transfer" else [f"package {row['package']}"]
        references.add_row(*map(text_cell, (row["name"], "; ".join(filter(None, [row["reference"], *package])))))
    return [table, references]


def metric_rows(metrics: Mapping[str, Metric]) -> list[dict[str, Any]]:
    """Convert the metrics to plain data for JSON; ``needs`` holds names of `Observations` fields, or "scores"."""
    return [
        {
            "name": metric.name,
            "needs": sorted(metric.needs),
            "standard_error": _standard_error(metric),
            "range": metric.range,
            "cost": metric.cost,
            "reference": metric.reference,
            "settings": dict(metric.settings),
            "extra": metric.extra,
            "version": metric.version,
            "package": metric.package,
        }
        for metric in metrics.values()
    ]


def _standard_error(metric: Metric) -> str:
    if "scores" in metric.needs:
        return "no"
    return "yes" if metric.additive else "on request"


def _extra(name: str) -> list[str]:
    return [f"extra {name}"] if name else []


def render(tables: Iterable[Table], console: Console) -> None:
    """Print the tables one after another."""
    for table in tables:
        console.print(table)
        console.print()


def _ranking_table(
    pairs: pd.DataFrame,
    metrics: Sequence[str] | None,
    fine_tunings: pd.DataFrame | None,
    scenario: str,
    performance: str,
) -> Table:
    group, item = GROUP_AND_ITEM[scenario]
    long = rankings(pairs, scenario, metrics=metrics)
    scratch = scratch_report(pairs, fine_tunings) if scenario == "fixed_target" else pd.DataFrame()
    from_scratch = {} if scratch.empty else dict(zip(scratch["target"], scratch["scratch_miou"], strict=True))
    unbeaten = [] if scratch.empty else scratch.loc[~scratch["beats_scratch"].astype(bool), "target"].tolist()
    margin = " by more than the noise of seeds" if not scratch.empty and (scratch["margin"] > 0).any() else ""
    notes = [f"No source beats scratch{margin}, so a ranking means little: {', '.join(unbeaten)}."] if unbeaten else []

    table = text_table(f"{TITLES[scenario]}, best and chosen items", notes)
    table.add_column(group, overflow="fold")
    table.add_column(item, overflow="fold")
    table.add_column(performance, justify="right", no_wrap=True)
    table.add_column("of best", justify="right", no_wrap=True)
    table.add_column("chosen by", overflow="fold", ratio=1)
    for name, members in long.groupby("group"):
        table.add_section()
        label = str(name)
        for chosen, miou, relative, by in _choices(members, from_scratch.get(name)):
            table.add_row(*map(text_cell, (label, chosen, number(miou), number(relative), by)))
            label = ""
    return table


def _choices(members: pd.DataFrame, scratch: float | None) -> list[tuple[str, float, float, str]]:
    """Return (item, mIoU, share of the best mIoU, metrics that choose it) for the best and chosen items, best first."""
    best = members["miou"].max()
    rows = []
    for item, lines in members.groupby("item"):
        miou, is_best = lines["miou"].iloc[0], lines["miou_rank"].iloc[0] == 1
        by = [*(["best"] if is_best else []), *lines.loc[lines["score_rank"] == 1, "metric"]]
        if by:
            rows.append((str(item), miou, _share(miou, best), ", ".join(by)))
    if scratch is not None:
        rows.append((SCRATCH, scratch, _share(scratch, best), "no source"))
    return sorted(rows, key=lambda row: -row[1])


def _share(miou: float, best: float) -> float:
    return miou / best if best > 0 else math.nan


def plain_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], names: str, width: int = _TERMINAL
) -> Table:
    """Make a table of text cells; where it is wider than the terminal, headings break at spaces.

    Args:
        title: Title of the table.
        columns: Headings.
        rows: Cells of each row.
        names: Heading of the column to fold if the terminal is too narrow.
        width: Columns of the terminal.
    """
    table, cells = text_table(title, []), [list(row) for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    is_wide = sum(widths) + 2 * len(columns) + 1 > width  # a blank and a border after every column
    for column in columns:
        heading = column.replace(" ", "\n") if is_wide else column
        table.add_column(heading, overflow="fold", no_wrap=column != names)
    for row in cells:
        table.add_row(*map(text_cell, row))
    return table


def text_table(title: str, notes: Sequence[str]) -> Table:
    """Make an empty table of text cells, with notes below it."""
    caption = Text("\n".join(notes)) if notes else None
    table = Table(title=Text(title), caption=caption, box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.title_justify = table.caption_justify = "left"
    return table


def text_cell(text: str) -> Text:
    """Make a cell that is not read as markup, because a dataset may be named "[red]"."""
    return Text(str(text))


def number(value: float) -> str:
    """Format a number with three digits; "n/a" for NaN."""
    return "n/a" if math.isnan(value) else f"{value:.3f}"


def interval(row: Mapping[Any, Any], measure: str, scale: float = 1) -> str:
    """Format the interval of a measure, multiplied by a scale; "n/a" for NaN."""
    low, high = row[f"{measure}_low"], row[f"{measure}_high"]
    return "n/a" if math.isnan(low) else f"{scale * low:.2f} to {scale * high:.2f}"
