"""Shows how well metrics rank as tables that fit a terminal with 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd
from rich.table import Table

from seg_transfer.evaluation import GROUP_AND_ITEM
from seg_transfer.reports.performance import POINTS
from seg_transfer.reports.tables import TITLES, interval, number, text_cell, text_table


def evaluation_tables(frame: pd.DataFrame, performance: str = "mIoU") -> list[Table]:
    """Make two tables per scenario: how well metrics, controls and the ceiling rank; and their gaps to the best.

    Args:
        frame: From `seg_transfer.evaluation.evaluate`.
        performance: Meaning of the column miou, such as "accuracy".
    """
    return [
        table
        for scenario, rows in frame.groupby("scenario", sort=False)
        for table in (_ranking_measures(str(scenario), rows, performance), _gaps(str(scenario), rows, performance))
    ]


def robustness_tables(summary: pd.DataFrame, sentences: Sequence[str]) -> list[Table]:
    """Make a table of whether verdicts on the ranking of sources hold for other sources; no table without rows.

    Args:
        summary: From `seg_transfer.evaluation.robustness_summary`.
        sentences: What follows from it; they stand below the table.
    """
    if summary.empty:
        return []
    table = text_table("Fixed target: tau_w with other sources", sentences)
    columns = {"tau_w": "tau_w", "tau_w_without_largest": "without\nlargest", "tau_w_equal_size": "equal\nsize"}
    known = [name for name in columns if summary[name].notna().any()]
    _add_columns(table, "metric", *(columns[name] for name in known), "one left out", "first in")
    for row in summary.to_dict("records"):
        low, high = row["tau_w_min"], row["tau_w_max"]
        left_out = "n/a" if math.isnan(low) else f"{low:.2f} to {high:.2f}"
        first = f"{row['n_first']} of {row['n_left_out']}" if row["kind"] == "metric" else ""  # among metrics
        _add_row(table, [row["metric"], *(number(row[name]) for name in known), left_out, first])
    return [table]


def noise_tables(frame: pd.DataFrame) -> list[Table]:
    """Make a table from a frame of `fine_tuning_noise`; no table if the frame has no rows."""
    if frame.empty:
        return []
    first = frame.iloc[0]
    table = text_table(
        f"Fine-tuning noise: seeds of a pair differ by {first['sd']:.4f} mIoU (standard deviation)",
        [
            f"Ranked by one of {first['n_seeds']} fine-tunings per pair, compared with the mean of the others: a "
            "metric that reaches these values ranks as well as fine-tuning everything once.",
            "distinguished: rivals whose means differ by more than 1.96 standard errors of seeds.",
        ],
    )
    _add_columns(table, "scenario", "groups", "distinguished", "top-1", "tau_w", "95 % interval")
    for row in frame.to_dict("records"):
        cells = [row["scenario"].replace("_", " "), str(row["n_groups"]), number(row["fraction_distinguishable"])]
        _add_row(table, [*cells, number(row["top1"]), number(row["tau_w"]), interval(row, "tau_w")])
    return [table]


def _ranking_measures(scenario: str, rows: pd.DataFrame, performance: str) -> Table:
    notes = [f"regret: {performance} points (100 x) from the chosen item up to the best."]
    if (rows["kind"] == "ceiling").any():
        notes.append("one_fine_tuning: ranked by one fine-tuning per pair, compared with the mean of the others.")
    notes += _notes(scenario, rows)
    table = text_table(f"{TITLES[scenario]}, mean over {rows['n_groups'].max()} groups", notes)
    _add_columns(table, "metric", "top-1", "tau_w", "95 % interval", "regret", "Rel@1", "Kendall")
    for kind, members in rows.groupby("kind", sort=False):
        if kind != "metric":
            table.add_section()
        for row in members.to_dict("records"):
            cells = [row["metric"], number(row["top1"]), number(row["tau_w"]), interval(row, "tau_w")]
            _add_row(table, [*cells, _points(row["regret"]), number(row["rel_at_1"]), number(row["kendall"])])
    return table


def _gaps(scenario: str, rows: pd.DataFrame, performance: str) -> Table:
    has_ceiling = bool(rows["tau_w_share"].notna().any())
    notes = [f"fidelity: correlation of score gaps with {performance} gaps over all pairs of rivals."]
    if has_ceiling:
        notes.insert(0, "share: tau_w over that of the ceiling, one_fine_tuning; metrics can exceed it.")
    table = text_table(f"{TITLES[scenario]}, gaps" + (" and ceilings" if has_ceiling else ""), notes)
    share = ["share"] if has_ceiling else []
    _add_columns(table, "metric", "regret", "95 % interval", *share, "fidelity", "95 % interval")
    for kind, members in rows.groupby("kind", sort=False):
        if kind != "metric":
            table.add_section()
        for row in members.to_dict("records"):
            cells = [row["metric"], _points(row["regret"]), interval(row, "regret", POINTS)]
            cells += [_two_digits(row["tau_w_share"])] if has_ceiling else []
            _add_row(table, [*cells, number(row["fidelity"]), interval(row, "fidelity")])
    return table


def _notes(scenario: str, rows: pd.DataFrame) -> list[str]:
    metrics = rows.loc[rows["kind"] == "metric"]
    notes = []
    for control in rows.loc[rows["kind"] == "control", "metric"]:
        beaten = [
            name for name, by in zip(metrics["metric"], metrics["beaten_by"], strict=True) if control in (by or ())
        ]
        if beaten:
            every = len(beaten) == len(metrics) > 1
            notes.append(f"Beaten in tau_w by {control}: {'every metric' if every else ', '.join(beaten)}.")
    for row in rows.to_dict("records"):
        if row["n_tau_undefined"]:
            notes.append(
                f"{row['metric']}: tau_w is undefined in {row['n_tau_undefined']} of {row['n_groups']} groups."
            )
    too_small = rows["n_too_small"].max()
    if too_small:
        group, item = GROUP_AND_ITEM[scenario]
        notes.append(f"Left out: {group}s with fewer than two {item}s: {too_small}.")
    return notes


def _points(value: float) -> str:
    return _two_digits(POINTS * value)


def _two_digits(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.2f}"


def _add_columns(table: Table, first: str, *others: str) -> None:
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)


def _add_row(table: Table, cells: Iterable[str]) -> None:
    table.add_row(*map(text_cell, cells))
