"""The ``seg-transfer explain`` command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seg_transfer.cli.options import (
    AsJson,
    BatchSize,
    DataRoot,
    Debug,
    Device,
    MemoryGb,
    RunFolder,
    Sources,
    StudyFile,
    Threads,
    TrustConfig,
)
from seg_transfer.messages import plain_console, say

if TYPE_CHECKING:
    from seg_transfer.study.run import Pair, Run


def explain(
    study: StudyFile,
    targets: Annotated[list[str], typer.Option("--target", help="This target; repeatable.", show_default=False)],
    data_root: DataRoot = Path(),
    run_folder: RunFolder = None,
    sources: Sources = None,
    umap: Annotated[bool, typer.Option("--umap", help="Draw maps by UMAP instead of by PCA; needs an extra.")] = False,
    device: Device = "auto",
    batch_size: BatchSize = None,
    memory_gb: MemoryGb = 8.0,
    threads: Threads = 0,
    trust_config: TrustConfig = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say which classes of a target overlap in a source, and which of them decide between two sources."""
    from seg_transfer.cli.stages import limited_threads, opened_run
    from seg_transfer.errors import IncompleteError
    from seg_transfer.models.devices import chosen_device
    from seg_transfer.stages import explain as stage

    run = opened_run(study, data_root, run_folder, trust_config=trust_config)
    pairs: list[Pair] = []
    failed: IncompleteError | None = None
    with limited_threads(threads):
        try:
            stage.explain(
                run,
                sources=sources or (),
                targets=targets,
                umap=umap,
                device=chosen_device(device),
                batch_size=batch_size,
                memory_bytes=int(memory_gb * 2**30),
                say=(lambda _line: None) if as_json else say,
                explained=pairs.append,
            )
        except IncompleteError as error:
            failed = error
    _print(run, pairs, as_json)
    if failed is not None:
        raise failed


def _print(run: Run, pairs: list[Pair], as_json: bool) -> None:
    from seg_transfer.reports.explanations import Explained, explanation_dict, explanation_tables
    from seg_transfer.reports.tables import render
    from seg_transfer.store.explanations import read_explanation

    found = [(entry.name, target, read_explanation(run.folder, entry.name, target)) for entry, target in pairs]
    read = [Explained(source, target, frames) for source, target, frames in found if frames is not None]
    if as_json:
        typer.echo(json.dumps(explanation_dict(read), indent=1))
        return
    render(explanation_tables(read), plain_console())
