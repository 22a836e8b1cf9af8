"""Whether a run folder is complete: every item of its study done, every file in it valid."""

from __future__ import annotations

from collections.abc import Iterator

from seg_transfer.stages import STAGES
from seg_transfer.stages.plan import PlanItem, plan_items
from seg_transfer.store.atomic import entries, is_temporary
from seg_transfer.study.run import CachedRun, Run, snapshot


def problems(run: Run) -> list[str]:
    """Return every problem with a run folder, one line each; reads all bytes again."""
    inspected = snapshot(run, ignore_memo=True)
    file_problems = list(dict.fromkeys(_file_problems(inspected)))
    # A damaged file is reported once, and not again for every item that depends on it.
    unfinished = [
        item
        for item in plan_items(inspected)
        if item.status.state != "done" and not set(item.status.reasons) & set(file_problems)
    ]
    return [*file_problems, *map(_line, unfinished)]


def _line(item: PlanItem) -> str:
    status = item.status
    reasons = f" ({', '.join(status.reasons)})" if status.reasons else ""
    return f"{item.stage} {item.name}: {status.state}{reasons}; run seg-transfer {STAGES[item.stage].command}"


def _file_problems(run: CachedRun) -> Iterator[str]:
    for stage in STAGES.values():
        yield from stage.problems(run)
    for path in sorted(filter(is_temporary, entries(run.folder))):
        yield f"{path}: left over from a killed process, or still in use; wait, or run any stage, which removes it"
