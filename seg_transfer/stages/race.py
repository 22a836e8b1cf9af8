"""The stage that races sources: each is fine-tuned up to a step on one fold's images, and judged by those held out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seg_transfer.stages.base import IsHeld, Item, Stage, Status, Work, pair_items
from seg_transfer.stages.files import duplicates, table_problems
from seg_transfer.stages.finetune import tuning_schedule
from seg_transfer.stages.race_keys import racer_label, row_at
from seg_transfer.store.tables import RACE
from seg_transfer.study.run import CachedRun, Run, fine_tuning_of, snapshot

if TYPE_CHECKING:
    import pyarrow as pa

    from seg_transfer.stages.probe import Probe


@dataclass(frozen=True)
class RaceSettings:
    """How far racers run.

    Attributes:
        until: The step to stop and be judged at; 0 for the end of the schedule.
        workers: Number of extra processes that read training images.
    """

    until: int = 0
    workers: int = 0


class RaceStage(Stage):
    """Writes ``race/<source>/<target>/<fold>.parquet``, one row per step at which the racer was judged."""

    name = "race"
    shard_noun = "racer"
    settings_type = RaceSettings
    planned = False
    is_compared = True

    def is_wanted(self, run: Run) -> bool:
        """Whether the study holds images out, and says how sources are fine-tuned."""
        return run.study.hold_out is not None and run.study.fine_tuning is not None

    def items(self, run: Run, sources: Sequence[str] = (), targets: Sequence[str] = ()) -> list[Item]:
        """Return every source of every target once per fold, with the first seed of the study's fine-tunings."""
        seed, inspected = fine_tuning_of(run).seeds[0], snapshot(run)
        return [
            Item(pair.source, pair.target, seed, fold)
            for pair in pair_items(run, sources, targets)
            for fold in range(len(inspected.folds(pair.target)))
        ]

    def label(self, item: Item) -> str:
        """Return the name of the item in messages."""
        return racer_label(item)

    def task_name(self, item: Item) -> str:
        """Return the label: on a cluster, the folds run side by side."""
        return self.label(item)

    def status(self, run: CachedRun, item: Item) -> Status:
        """Say whether the racer has been judged at the end of the schedule."""
        return self._status_at(run, item, 0)

    def missing(self, run: Run, items: Iterable[Item], settings: Any = None) -> dict[Item, tuple[str, ...]]:
        """Return the racers that have not been judged at the step of the settings."""
        inspected = run if isinstance(run, CachedRun) else snapshot(run)
        until = settings.until if settings else 0
        return {item: () for item in items if self._status_at(inspected, item, until).state != "done"}

    def _status_at(self, run: Run, item: Item, until: int) -> Status:
        row = row_at(run, item, until or tuning_schedule(run, item).steps)
        return Status("missing") if row is None else Status("done", seconds=row["seconds"])

    def problems(self, run: CachedRun) -> Iterator[str]:
        """Yield the problems of all files of racers in the folder."""
        for file in sorted((run.folder / "race").glob("*/*/*.parquet")):
            yield from table_problems(file, RACE, _problems)

    def estimate(self, run: Run, item: Item, parts: Sequence[str], probe: Probe) -> float:
        """Estimate all steps of the schedule."""
        network = probe.source(run.study.source(item.source))
        schedule = tuning_schedule(run, item)
        return schedule.steps * probe.step(network, item.target, schedule)

    def start(self, run: Run, items: Sequence[Item], settings: RaceSettings) -> Work:
        """Prepare to train the racers up to the step of the settings; each goes on from its last checkpoint."""
        from seg_transfer.stages.racing import race

        def run_to(item: Item, is_held: IsHeld) -> None:
            # The images as they are when the training begins, as for their key.
            race(snapshot(run), item, settings.until, is_held, settings.workers)

        return run_to


def _problems(table: pa.Table) -> Iterator[str]:
    rows = table.to_pylist()
    yield from duplicates("steps", rows)
    for row in rows:
        if row["miou"] is None or not 0 <= row["miou"] <= 1:
            yield f"step {row['steps']} has the mIoU {row['miou']}; it must be a fraction in [0, 1]"


STAGE = RaceStage()
