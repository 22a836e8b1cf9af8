"""Chooses among the trained sources of a workspace for one of its targets."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

TARGET = "day_street"
SCHEDULE = {
    "steps": 8,
    "batch_size": 2,
    "learning_rate": 0.05,
    "scale_range": [0.75, 1.5],
    "checkpoint_every": 1,
    "mixed_precision": False,
}
TIMES = {"seconds", "minutes", "created_utc", "step_seconds", "trained_steps"}


def words(workspace: Any, *options: object, sources: Path | None = None) -> list[str]:
    schedule = workspace.run.parent / "schedule.yaml"
    schedule.write_text(yaml.safe_dump(SCHEDULE))
    place = ["--target", workspace.world / f"manifests/{TARGET}.yaml", "--data-root", workspace.world]
    where = ["--run-folder", folder(workspace), "--schedule", schedule, "--threads", "1"]
    return [str(word) for word in ("choose", sources or workspace.run / "sources", *place, *where, *options)]


def race_words(workspace: Any, engine: str, source: str = "dusk_street") -> list[str]:
    """The command that takes one racer to the end of the schedule, in the study of the race."""
    where = ["--data-root", workspace.world, "--run-folder", folder(workspace), "--source", source]
    how = ["--until", SCHEDULE["steps"], "--engine", engine, "--threads", "1"]
    return [str(word) for word in ("race-sources", folder(workspace) / "choose.yaml", *where, *how)]


def folder(workspace: Any) -> Path:
    return Path(workspace.run / "chosen")


def rows(workspace: Any) -> list[dict[str, Any]]:
    """All rows of the race, in the order of racers, folds and steps."""
    files = sorted((folder(workspace) / "race").glob("*/*/*.parquet"))
    return [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]


def ends(workspace: Any, source: str = "dusk_street") -> list[dict[str, Any]]:
    """What a racer reached at the end of the schedule, on every fold, without times."""
    at_end = [row for row in rows(workspace) if (row["source"], row["steps"]) == (source, SCHEDULE["steps"])]
    return [without_times(row) for row in at_end]


def trained_steps(workspace: Any) -> dict[tuple[str, int], list[int]]:
    """Racer and fold -> the steps that were trained up to each judgment."""
    steps = defaultdict(list)
    for row in rows(workspace):
        steps[row["source"], row["fold"]].append(row["trained_steps"])
    return dict(steps)


def without_times(value: Any) -> Any:
    """The same without all that differs between two runs that are the same."""
    if isinstance(value, dict):
        return {name: without_times(item) for name, item in value.items() if name not in TIMES}
    if isinstance(value, list):
        return [without_times(item) for item in value if not (isinstance(item, str) and "minutes of computing" in item)]
    return value


def answer(ended: Any) -> dict[str, Any]:
    """The JSON that a command printed which must have succeeded."""
    assert ended.code == 0, ended.err
    return dict(json.loads(ended.out))
