"""Whether a run folder is complete: every item of its study done, every file in it valid."""

from __future__ import annotations

from collections.abc import Iterator

from seg_transfer.stages import STAGES
from seg_transfer.stages.plan import PlanItem, plan_items
from seg_transfer.store.atomic import entries, is_temporary
from seg_transfer.study.run import CachedRun, Run, snapshot


def problems(run: Run) -> list[str]:
    """Everything that is wrong with a run folder, one line each; all bytes are read again."""
    inspected = snapshot(run, ignore_memo=True)
    of_files = list(dict.fromkeys(_file_problems(inspected)))
    # A damaged file is named once, not again by every item that rests on it.
    of_items = [
        item
        for item in plan_items(inspected)
        if item.status.state != "done" and not set(item.status.reasons) & set(of_files)
    ]
    return [*of_files, *map(_line, of_items)]


def _line(item: PlanItem) -> str:
    status = item.status
    reasons = f" ({', '.join(status.reasons)})" if status.reasons else ""
    return f"{item.stage} {item.name}: {status.state}{reasons}; run seg-transfer {STAGES[item.stage].command}"


def _file_problems(run: CachedRun) -> Iterator[str]:
    for stage in STAGES.values():
        yield from stage.problems(run)
    for path in sorted(filter(is_temporary, entries(run.folder))):
        yield f"{path}: left by a process that was killed, or still in use; wait, or run any stage, which removes it"
