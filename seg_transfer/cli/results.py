"""The commands that read results: evaluate, report, metrics."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from seg_transfer.cli.options import AsJson, Debug
from seg_transfer.console import plain_console

_logger = logging.getLogger(__name__)


def evaluate(
    run_folder: Annotated[
        Path | None, typer.Argument(metavar="RUN_FOLDER", help="Run folder of a study.", show_default=False)
    ] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="Use published pairs instead of a run folder: segmentation (272 pairs, the default), architectures "
            "(171 classification pairs, by fine-tuned accuracy), architectures_frozen (by linear-head accuracy), or "
            "a study of this project, such as real7.",
        ),
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare the rankings by every metric with the ranking by fine-tuned performance."""
    from seg_transfer.reports.evaluation import evaluation_of_published, evaluation_of_run, json_rows, terminal_tables
    from seg_transfer.reports.tables import render

    if published:
        evaluation = evaluation_of_published(_published_name(run_folder))
    elif run_folder is None:
        raise typer.BadParameter("name either a run folder or --published")
    else:
        evaluation = evaluation_of_run(run_folder)
    if evaluation.left_out:
        left_out = ", ".join(evaluation.left_out)
        _logger.warning("left out because scores or performance are missing or belong to other settings: %s", left_out)
    if as_json:
        typer.echo(json.dumps(json_rows(evaluation), indent=1))
        return
    render(terminal_tables(evaluation), plain_console())


def metrics(as_json: AsJson = False, debug: Debug = False) -> None:
    """List the transferability metrics with their inputs, ranges, costs and references."""
    from seg_transfer.metrics import METRICS
    from seg_transfer.reports.tables import metric_rows, metric_tables, render

    if as_json:
        typer.echo(json.dumps(metric_rows(METRICS), indent=1))
        return
    render(metric_tables(METRICS), plain_console())


def report(
    run_folder: Annotated[
        Path | None,
        typer.Argument(metavar="RUN_FOLDER", help="Run folder of a study or of rank.", show_default=False),
    ] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="Use published pairs instead of a run folder; the names are those of evaluate --published.",
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report; RUN_FOLDER/report, or report, by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the written files as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Write a report: one self-contained HTML page, its figures, and its tables as Parquet, CSV and Markdown."""
    from seg_transfer.reports.report import report_published, report_run

    if published:
        written = report_published(out or Path("report"), _published_name(run_folder))
    elif run_folder is None:
        raise typer.BadParameter("name either a run folder or --published")
    else:
        written = report_run(run_folder, out)
    if as_json:
        typer.echo(json.dumps([str(file) for file in written], indent=1))
        return
    typer.echo(f"{written[0]}: open it in a browser; {len(written) - 1} figures and tables are in the same folder")


def _published_name(argument: Path | None) -> str:
    """Return the name of published pairs, which takes the place of the run folder; --published can also stand alone."""
    from seg_transfer.store.published import published_names

    name = str(argument or "segmentation")
    if name not in published_names():
        raise typer.BadParameter(f"{name}: --published takes {', '.join(published_names())}, not a run folder")
    return name
