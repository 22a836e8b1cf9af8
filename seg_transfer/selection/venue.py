"""Where racers run: an engine, and the study of the race that its processes read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seg_transfer.engines import get_engine
from seg_transfer.engines.job import Job
from seg_transfer.errors import IncompleteError, SegTransferError
from seg_transfer.stages import STAGES
from seg_transfer.stages.base import Selection
from seg_transfer.stages.race import RaceSettings
from seg_transfer.stages.train import TrainSettings
from seg_transfer.study.run import Run


@dataclass(frozen=True)
class Venue:
    """Where racers run, and which of them failed.

    Attributes:
        run: The study of the race, which has one target.
        study_file: Where other processes read it from.
        engine: One of `seg_transfer.engines.ENGINES`.
        threads: CPU threads of each process; 0 leaves the default.
        workers: Number of processes that read training images beside each training.
        debug: Also show the traceback of every racer that fails.
        failures: Source -> why it left the race; filled while racers run.
    """

    run: Run
    study_file: Path
    engine: str = "here"
    threads: int = 0
    workers: int = 0
    debug: bool = False
    failures: dict[str, IncompleteError] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """Name of the target."""
        return self.run.study.targets[0]

    def train(self, racers: Sequence[str], steps: int) -> None:
        """Train racers up to a step and judge them; those that fail are noted, and stop nobody else."""
        settings = RaceSettings(until=steps, workers=self.workers)
        try:
            self._do("race", racers, settings)
        except IncompleteError as error:
            for name in racers:
                reasons = {label: why for label, why in error.reasons.items() if label.startswith(f"{name} -> ")}
                if reasons:
                    self.failures[name] = IncompleteError(str(error), error.exit_code, reasons)

    def finish(self, source: str) -> None:
        """Fine-tune a source to the end on all labeled images; raises IncompleteError if that fails."""
        self._do("finish", [source], TrainSettings(workers=self.workers))

    def _do(self, stage: str, sources: Sequence[str], settings: Any) -> None:
        selection = Selection(tuple(sources), (self.target,))
        job = Job(STAGES[stage], self.run, self.study_file, selection, settings, self.threads, debug=self.debug)
        if _is_missing(job):
            get_engine(self.engine)(job)


def _is_missing(job: Job) -> bool:
    """Whether a job has anything to do, or its status is unknown; if not, no process needs to start."""
    try:
        return bool(job.stage.missing(job.run, job.items, job.settings))
    except SegTransferError:  # the engine will report the problem
        return True
