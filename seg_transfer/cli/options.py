"""Options that several commands share, and the options of stage settings, which are named after their fields."""

from __future__ import annotations

from dataclasses import Field
from pathlib import Path
from typing import Annotated, Any

import typer

from seg_transfer.engines import ENGINES

StudyFile = Annotated[
    Path, typer.Argument(metavar="STUDY", help="Study file, or the name of a shipped study.", show_default=False)
]
DataRoot = Annotated[
    Path, typer.Option(envvar="SEG_TRANSFER_DATA", help="Folder that the manifests' roots are relative to.")
]
RunFolder = Annotated[Path | None, typer.Option(help="Folder of the results; runs/NAME-OF-STUDY by default.")]
Sources = Annotated[list[str] | None, typer.Option("--source", help="Only this source; repeatable.")]
Targets = Annotated[list[str] | None, typer.Option("--target", help="Only this target; repeatable.")]
EngineName = Annotated[
    str, typer.Option("--engine", help="; ".join(f"{name}: {where}" for name, where in ENGINES.items()) + ".")
]
ShardText = Annotated[
    str,
    typer.Option(
        "--shard", metavar="I/N", help="Only every N-th target, source or fine-tuning, from the I-th; 0/N is the first."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the missing items and their estimated cost, then stop.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[
    int, typer.Option(min=0, help="CPU threads for computation; 0: the default, divided among the processes.")
]
Processes = Annotated[
    int,
    typer.Option(min=1, help="Processes that split each training's batches, one per GPU (engines local and ray)."),
]
TrustConfig = Annotated[bool, typer.Option("--trust-config", help="Do not warn that model configs are code.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
DryRunAsJson = Annotated[bool, typer.Option("--json", help="With --dry-run: print JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

# Field of a stage's settings -> its command line option.
SETTINGS: dict[str, Any] = {
    "device": typer.Option(help="auto, cpu, cuda or cuda:N."),
    "batch_size": typer.Option(min=1, help="Images of one size per forward pass; 8 on CUDA, 1 on the CPU by default."),
    "memory_gb": typer.Option(min=0, help="For decoded images, loaded networks and pairs not scored yet."),
    "workers": typer.Option(min=0, help="Processes that read training images beside the training."),
    "until": typer.Option(min=0, help="The step to stop and be judged at; 0: the end of the schedule."),
    "umap": typer.Option("--umap", help="Draw maps by UMAP instead of by PCA; needs the extra umap."),
}


def setting_option(setting: Field[Any], kind: Any) -> Any:
    """Return the annotation of the option for a field of a stage's settings; `kind` is the field's type."""
    return Annotated[kind, SETTINGS[setting.name]]
