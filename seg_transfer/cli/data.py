"""The commands about data: demo, which creates a small synthetic world, and audit."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from seg_transfer.cli.options import AsJson, DataRoot, Debug, Threads

_logger = logging.getLogger(__name__)


def demo(
    folder: Annotated[Path, typer.Option(help="Folder for the world and the results.")] = Path("runs/demo"),
    threads: Threads = 0,
    debug: Debug = False,
) -> None:
    """Create a small world with a known answer, and run a whole study on it: train, score, fine-tune, evaluate."""
    from seg_transfer.cli.results import evaluate
    from seg_transfer.cli.stages import stage_command
    from seg_transfer.demo.study import write_demo
    from seg_transfer.engines.local import available_cores
    from seg_transfer.stages import STAGES

    study, world = write_demo(folder)
    for stage in (STAGES[name] for name in ("train", "score", "finetune")):
        _logger.info("$ seg-transfer %s %s --data-root %s --run-folder %s", stage.command, study, world, folder / "run")
        # Steps of so small a network leave a second thread idle, but not a second process; four use 2 GB of memory.
        processes = min(4, threads or available_cores())
        stage_command(stage)(
            study=study, data_root=world, run_folder=folder / "run", threads=1, processes_without_gpu=processes
        )
    evaluate(folder / "run")
    typer.echo(
        f"Everything is in {folder}; you can run any of the commands above again, finished items are not repeated."
    )


def audit(
    manifest: Annotated[
        Path,
        typer.Argument(metavar="MANIFEST", help="Dataset manifest, or the name of a shipped one.", show_default=False),
    ],
    data_root: DataRoot = Path(),
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read every image and label of a dataset, and print statistics, problems, and what is doubtful."""
    from seg_transfer.data.audit import audit as audit_dataset
    from seg_transfer.data.audit import audit_dict, audit_lines
    from seg_transfer.data.manifest import load_manifest
    from seg_transfer.errors import DataError, printable

    report = audit_dataset(load_manifest(manifest), data_root)
    lines = json.dumps(audit_dict(report), indent=1) if as_json else "\n".join(map(printable, audit_lines(report)))
    typer.echo(lines)
    if report.problems:
        raise DataError(f"{manifest}: {len(report.problems)} problem(s), listed above; fix them and audit again")
