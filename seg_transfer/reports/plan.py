"""The plan of a study, as tables and as plain data: its done, missing and stale items, and the remaining cost."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seg_transfer.stages import STAGES
from seg_transfer.stages.changes import NOT_RECORDED
from seg_transfer.stages.plan import PlanItem, absent_datasets, plan_items
from seg_transfer.study.run import Run, snapshot

# The stages that make a study complete.
_PLANNED = [stage for stage in STAGES.values() if stage.planned]
_STATES = ("done", "missing", "stale")
_UNKNOWN = "unknown"
_MAX_GROUPS = 12
_MAX_NAMES = 6


@dataclass(frozen=True)
class StudyPlan:
    """The state of all items of a study.

    Attributes:
        items: All items of the study, ordered by stage.
        folder: The run folder.
        absent: Incomplete dataset of the study -> what is missing and how to get it.
    """

    items: Sequence[PlanItem]
    folder: Path
    absent: Mapping[str, str]


def plan_study(run: Run) -> StudyPlan:
    """Determine which items of a study are done, missing or stale; computes nothing."""
    return StudyPlan(plan_items(snapshot(run)), run.folder, absent_datasets(run))


def plan_dict(plan: StudyPlan) -> dict[str, Any]:
    """Convert the plan to plain data for JSON.

    Returns:
        "summary", one dictionary per stage; "items"; "disk", the bytes that the run folder uses and the free bytes; and
        "absent_datasets", dataset -> what is missing.
    """
    return {
        "summary": summary(plan.items),
        "items": [_item_dict(item) for item in plan.items],
        "disk": disk(plan.folder),
        "absent_datasets": dict(plan.absent),
    }


def summary(items: Sequence[PlanItem]) -> list[dict[str, Any]]:
    """Count the items of every stage by state, and estimate the GPU-hours that remain.

    Returns:
        One dictionary per stage: kind (its name), done, missing, stale, mean_seconds and hours. The mean is over
        done items, or over stale items if none is done. Mean and hours are None if nothing was measured. Hours
        are 0 for stages that use no GPU.
    """
    rows = []
    for stage in _PLANNED:
        stage_items = [item for item in items if item.stage == stage.name]
        count = Counter[str](item.status.state for item in stage_items)
        seconds = _measured(stage_items, "done") or _measured(stage_items, "stale") or _measured(stage_items, "missing")
        mean, left = fmean(seconds) if seconds else None, count["missing"] + count["stale"]
        hours = 0.0 if left == 0 or not stage.uses_gpu else None if mean is None else left * mean / 3600
        states = {state: count[state] for state in _STATES}
        rows.append({"kind": stage.name, **states, "mean_seconds": mean, "hours": hours})
    return rows


def disk(folder: Path) -> dict[str, Any]:
    """Return the bytes in every subfolder of a run folder, and the free bytes on its disk."""
    folders = sorted(path for path in folder.glob("*") if path.is_dir())
    used = {path.name: sum(_size(file) for file in path.rglob("*")) for path in folders}
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return {"used": used, "free": shutil.disk_usage(existing).free}


def render_plan(plan: StudyPlan, console: Console) -> None:
    """Print the summary, groups of missing and stale items, the absent datasets, and the disk usage."""
    items, rows = plan.items, summary(plan.items)
    console.print(_summary_table(rows))
    if any(row["hours"] is None for row in rows):
        console.print(
            f"{_UNKNOWN} until an item is finished; run the stage with --dry-run for an estimate", soft_wrap=True
        )
    for stage in _PLANNED:
        unfinished = [item for item in items if item.stage == stage.name and item.status.state != "done"]
        for line in _group_lines(unfinished):
            console.print(Text(line), soft_wrap=True)
    for mixed in _mixed_arithmetic(plan.items):
        console.print(mixed, soft_wrap=True)
    if plan.absent:
        console.print(f"absent: {len(plan.absent)} dataset(s) of the study", soft_wrap=True)
    for name, reason in plan.absent.items():
        console.print(Text(f"  {name}: {reason}"), soft_wrap=True)
    space = disk(plan.folder)
    used = ", ".join(f"{name} {_readable(size)}" for name, size in space["used"].items()) or "nothing"
    console.print(Text(f"disk: {used}; {_readable(space['free'])} free"), soft_wrap=True)


def _mixed_arithmetic(items: Sequence[PlanItem]) -> Iterator[str]:
    """Yield a line per stage whose compared results were computed in different arithmetic."""
    for stage in _PLANNED:
        done = [item.status for item in items if item.stage == stage.name and item.status.state == "done"]
        count = Counter(status.arithmetic or NOT_RECORDED for status in done)
        if stage.is_compared and len(count) > 1:
            kinds = ", ".join(f"{name} ({n})" for name, n in sorted(count.items()))
            yield f"{stage.shard_noun}s were computed in different arithmetic, which changes mIoU: {kinds}"


def _measured(items: Sequence[PlanItem], state: str) -> list[float]:
    return [item.status.seconds for item in items if item.status.state == state and item.status.seconds is not None]


def _item_dict(item: PlanItem) -> dict[str, Any]:
    status = {field: getattr(item.status, field) for field in ("state", "reasons", "seconds", "arithmetic")}
    return {"kind": item.stage, "name": item.name, "source": item.source, "target": item.target, **status}


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:  # another process has removed it
        return 0


def _summary_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage")
    for name in (*_STATES, "mean s", "GPU-hours left"):
        table.add_column(name, justify="right")
    for row in rows:
        mean = "" if row["mean_seconds"] is None else f"{row['mean_seconds']:.1f}"
        hours = _UNKNOWN if row["hours"] is None else f"{row['hours']:.2f}"
        table.add_row(row["kind"], *(str(row[state]) for state in _STATES), mean, hours)
    return table


def _group_lines(items: Sequence[PlanItem]) -> Iterator[str]:
    """Yield one line per state and reasons, the largest groups first."""
    groups: dict[tuple[str, tuple[str, ...]], list[PlanItem]] = {}
    for item in items:
        groups.setdefault((item.status.state, item.status.reasons), []).append(item)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    for (state, reasons), members in ordered[:_MAX_GROUPS]:
        reason = f" ({_shortened(reasons)})" if reasons else ""
        yield f"{state}{reason}: {_members(members)}"
    if len(ordered) > _MAX_GROUPS:
        rest = sum(len(members) for _, members in ordered[_MAX_GROUPS:])
        yield f"... and {rest} more {items[0].stage} items for {len(ordered) - _MAX_GROUPS} other reasons: see --json"


def _members(items: Sequence[PlanItem]) -> str:
    """Return the names of a few items; for many items, return their number on each target."""
    if len(items) <= _MAX_NAMES or not (items[0].source and items[0].target):
        return _shortened([item.name for item in items])
    targets = Counter(item.target for item in items)
    counts = [f"{name} ({count})" for name, count in targets.items()]
    return f"{len(items)} {items[0].stage} items on {_shortened(counts)}"


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def _readable(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
