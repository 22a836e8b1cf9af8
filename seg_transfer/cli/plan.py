"""The ``seg-transfer plan`` command."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seg_transfer.cli.options import AsJson, DataRoot, Debug, RunFolder, StudyFile, TrustConfig
from seg_transfer.messages import complain, plain_console

if TYPE_CHECKING:
    from seg_transfer.study.run import Run


def plan(
    study: StudyFile,
    data_root: DataRoot = Path(),
    run_folder: RunFolder = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read every file anew; exit code 7 unless all is done and valid.")
    ] = False,
    trust_config: TrustConfig = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List what of a study is done, missing or stale, what made it stale, and what the rest will take. Runs nothing."""
    from seg_transfer.study.run import open_run, still

    run = open_run(study, data_root, run_folder)
    if not trust_config:
        warn_of_code(run)
    if check:
        _check(run, as_json)
        return
    from seg_transfer.reports.plan import plan_dict, render_plan
    from seg_transfer.stages.plan import absent_datasets, plan_items

    items, absent = plan_items(still(run)), absent_datasets(run)
    if as_json:
        typer.echo(json.dumps(plan_dict(items, run.folder, absent), indent=1))
        return
    render_plan(items, run.folder, plain_console(), absent)


def warn_of_code(run: Run) -> None:
    """Name the model configs and factories from elsewhere that are about to be run."""
    warn_of(run.study.code())


def warn_of(codes: Iterable[str]) -> None:
    """Name code from elsewhere that is about to be run."""
    for code in codes:
        complain(f"warning: {code} is Python code and will be run; --trust-config says that you trust it")


def _check(run: Run, as_json: bool) -> None:
    from seg_transfer.errors import ResultsError
    from seg_transfer.stages.check import problems

    found = problems(run)
    for problem in found:
        complain(problem)
    if as_json:
        typer.echo(json.dumps({"problems": found}, indent=1))
    elif not found:
        typer.echo(f"{run.folder}: every item is done and every file is valid")
    if found:
        sys.exit(ResultsError.exit_code)
