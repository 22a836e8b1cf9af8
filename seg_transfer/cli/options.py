"""The options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="Study file.", show_default=False)]
DataRoot = Annotated[
    Path, typer.Option(envvar="SEG_TRANSFER_DATA", help="Folder that the roots of the manifests are relative to.")
]
RunFolder = Annotated[Path | None, typer.Option(help="Where results lie; runs/NAME-OF-STUDY by default.")]
Sources = Annotated[list[str] | None, typer.Option("--source", help="Only this source; repeatable.")]
Targets = Annotated[list[str] | None, typer.Option("--target", help="Only this target; repeatable.")]
Engine = Annotated[
    str,
    typer.Option(help="local: in processes of its own, one per GPU; here: in this process; ray: on a Ray cluster."),
]
ShardText = Annotated[
    str,
    typer.Option("--shard", metavar="I/N", help="Only every N-th target, source or fine-tuning, from the I-th (0)."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what is missing and what it will cost, then stop.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Images of one size per forward pass; 8 on CUDA, 1 on the CPU by default.")
]
MemoryGb = Annotated[float, typer.Option(min=0, help="For decoded images and loaded networks.")]
Threads = Annotated[
    int, typer.Option(min=0, help="CPU threads for the arithmetic; 0: the default, shared out to several processes.")
]
Workers = Annotated[int, typer.Option(min=0, help="Processes that read training images beside the training.")]
Processes = Annotated[
    int,
    typer.Option(min=1, help="Processes that share the batches of each training, one per GPU (local and ray)."),
]
TrustConfig = Annotated[bool, typer.Option("--trust-config", help="Do not warn that model configs are code.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
DryRunAsJson = Annotated[bool, typer.Option("--json", help="With --dry-run: print JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
