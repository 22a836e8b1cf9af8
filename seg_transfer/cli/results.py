"""The commands that read results: evaluate, report, metrics."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from seg_transfer.cli.options import AsJson, Debug
from seg_transfer.console import plain_console

_logger = logging.getLogger(__name__)


def evaluate(
    run_folder: Annotated[Path | None, typer.Argument(help="Run folder of a study.", show_default=False)] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="Instead of a run folder, published pairs: segmentation (272; needs no naming), architectures (171 of "
            "classification, by fine-tuned accuracy) or architectures_frozen (by that of a linear head).",
        ),
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare the rankings by every metric with those by fine-tuned performance."""
    from seg_transfer.evaluation import evaluate as evaluate_pairs
    from seg_transfer.evaluation import fine_tuning_noise, metric_columns
    from seg_transfer.reports.tables import evaluation_tables, noise_tables, ranking_tables, records, render
    from seg_transfer.store.published import PAIRS, published_pairs
    from seg_transfer.store.results import read_pairs
    from seg_transfer.store.run_results import read_trials

    incomplete: Sequence[str] = ()
    if published:
        # What follows --published is a name: the option itself takes no value, so that it can stand alone.
        name = str(run_folder or "segmentation")
        if name not in PAIRS:
            raise typer.BadParameter(f"{name}: --published goes with {', '.join(PAIRS)}, and not with a run folder")
        pairs, performance = published_pairs(name)
    elif run_folder is None:
        raise typer.BadParameter("name either a run folder or --published")
    else:
        (pairs, incomplete), performance = read_pairs(run_folder), "mIoU"
    if incomplete:
        _logger.warning(
            "left out, because scores or performance are missing or of other settings: %s", ", ".join(incomplete)
        )
    columns = metric_columns(pairs)
    measures = evaluate_pairs(pairs, metrics=columns)
    if as_json:
        typer.echo(json.dumps(records(measures), indent=1))
        return
    trials = None if published or run_folder is None else read_trials(run_folder)
    noise = [] if trials is None else noise_tables(fine_tuning_noise(trials))
    rankings = ranking_tables(pairs, trials, metrics=columns, performance=performance)
    render([*rankings, *evaluation_tables(measures), *noise], plain_console())


def metrics(as_json: AsJson = False, debug: Debug = False) -> None:
    """List the transferability metrics: what each needs, its range and cost, and where it comes from."""
    from seg_transfer.metrics import METRICS
    from seg_transfer.reports.tables import metric_records, metric_tables, render

    if as_json:
        typer.echo(json.dumps(metric_records(METRICS), indent=1))
        return
    render(metric_tables(METRICS), plain_console())


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
