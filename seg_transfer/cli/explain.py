"""The output of the ``seg-transfer explain`` command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from seg_transfer.console import plain_console
from seg_transfer.errors import SegTransferError

if TYPE_CHECKING:
    from seg_transfer.engines.job import Job
    from seg_transfer.stages.base import Item


def show_explanations(job: Job, as_json: bool) -> None:
    """Print the finished explanations of a job."""
    from seg_transfer.reports.explanations import explanation_dict, explanation_tables, read_explanations
    from seg_transfer.reports.tables import render

    pairs = [(item.source, item.target) for item in job.items if _is_finished(job, item)]
    explanations = read_explanations(job.run.folder, pairs)
    if as_json:
        typer.echo(json.dumps(explanation_dict(explanations), indent=1))
        return
    render(explanation_tables(explanations), plain_console())


def _is_finished(job: Job, item: Item) -> bool:
    try:
        return not job.stage.missing(job.run, [item], job.settings)
    except SegTransferError:  # its failure was logged
        return False
