"""A job: the items of a stage to compute, the settings, and the number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from seg_transfer.resources import find
from seg_transfer.stages.base import SINGLE_SHARD, Item, Selection, Stage
from seg_transfer.study.run import Run

# Passed to processes whose parent has already warned about the code that they run.
TRUSTED = "--trust-config"


@dataclass(frozen=True)
class Job:
    """A stage of a study that an engine runs.

    Attributes:
        study_file: Where the study was read from, for processes that read it again.
        settings: Of the stage's `settings_type`; None where they do not matter.
        threads: CPU threads of each process; 0 leaves the default.
        processes: So many work on one item together.
        processes_without_gpu: So many share the items on a machine that has no GPU.
        debug: Also show the traceback of every item that fails.
    """

    stage: Stage
    run: Run
    study_file: Path
    selection: Selection = field(default_factory=Selection)
    settings: Any = None
    threads: int = 0
    processes: int = 1
    processes_without_gpu: int = 1
    debug: bool = False

    @property
    def items(self) -> list[Item]:
        """The selected items, including finished ones."""
        return self.stage.selected(self.run, self.selection)

    def resolved(self) -> Job:
        """The same job with absolute paths, for processes with other working directories."""
        run = replace(self.run, data_root=self.run.data_root.resolve(), folder=self.run.folder.resolve())
        return replace(self, run=run, study_file=find("study", self.study_file).resolve())

    def command_line(self, engine: str = "") -> list[str]:
        """Return the arguments of `seg-transfer` that run this job in another process.

        Paths are as they were given: hashes of files are cached under these paths, and messages name them.
        """
        return [
            self.stage.command,
            *location_args(self.study_file, self.run),
            *(["--engine", engine] if engine else []),
            *_selection_args(self.selection),
            *(["--threads", str(self.threads)] if self.threads else []),
            *_settings_args(self.settings),
        ]


def location_args(study_file: Path, run: Run) -> list[str]:
    """Return the arguments that locate the study, the data and the run folder."""
    return [str(study_file), "--data-root", str(run.data_root), "--run-folder", str(run.folder)]


def _selection_args(selection: Selection) -> Iterator[str]:
    for source in selection.sources:
        yield from ("--source", source)
    for target in selection.targets:
        yield from ("--target", target)
    if selection.shard != SINGLE_SHARD:
        index, n_shards = selection.shard
        yield from ("--shard", f"{index}/{n_shards}")


def _settings_args(settings: Any) -> Iterator[str]:
    for setting in fields(settings) if settings is not None else ():
        value, name = getattr(settings, setting.name), setting.name.replace("_", "-")
        if value == setting.default:
            continue
        if isinstance(value, bool):
            yield f"--{name}" if value else f"--no-{name}"
        else:
            yield from (f"--{name}", str(value))
