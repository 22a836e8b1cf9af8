"""The ``seg-transfer report`` command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from seg_transfer.cli.options import Debug


def report(
    run_folder: Annotated[Path | None, typer.Argument(help="Run folder of a study.", show_default=False)] = None,
    published: Annotated[bool, typer.Option("--published", help="Of the 272 published pairs.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Where it is written; RUN_FOLDER/report, or report, by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the written files as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Write a report: one HTML page that needs no network, its figures, and its tables as Parquet, CSV and Markdown."""
    from seg_transfer.reports.material import published_material, run_material
    from seg_transfer.reports.report import write_report

    if published == (run_folder is not None):
        raise typer.BadParameter("name either a run folder or --published")
    material = published_material() if run_folder is None else run_material(run_folder)
    folder = out or (Path("report") if run_folder is None else run_folder / "report")
    written = write_report(material, folder)
    if as_json:
        typer.echo(json.dumps([str(file) for file in written], indent=1))
        return
    typer.echo(f"{written[0]}: open it in a browser; {len(written) - 1} figures and tables are beside it")
