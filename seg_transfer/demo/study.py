"""The study of the demo world, whose networks are small enough for a laptop."""

from __future__ import annotations

from pathlib import Path

import yaml

from seg_transfer.demo.domains import DOMAINS
from seg_transfer.demo.world import LOW_SHOT, build_world
from seg_transfer.resources import shipped
from seg_transfer.store.atomic import write_text

_FINE_TUNING = {
    "steps": 60,
    "batch_size": 8,
    "learning_rate": 0.01,
    "warmup_steps": 5,
    "scale_range": [1.0, 1.0],
    "checkpoint_every": 30,
    "mixed_precision": False,  # gives the same numbers on every CPU
}


def write_demo(folder: Path) -> tuple[Path, Path]:
    """Write the demo world, its study file, and how it fine-tunes as a schedule (``fine_tuning.yaml``).

    Args:
        folder: Folder for both.

    Returns:
        The study file and the data root.
    """
    world = folder / "world"
    build_world(world)
    study = folder / "demo.yaml"
    write_text(study, yaml.safe_dump(_study(), sort_keys=False))
    write_text(folder / "fine_tuning.yaml", yaml.safe_dump(_FINE_TUNING, sort_keys=False))
    return study, world


def _study() -> dict[str, object]:
    schedules = shipped("configs/schedules")
    return {
        "name": "demo",
        "manifests": ["world/manifests"],
        "sources": list(DOMAINS),
        "targets": list(DOMAINS),
        "model": str(shipped("configs/models/hrnetv2_tiny.py")),
        "low_shot": LOW_SHOT,
        "source_training": {
            "schedule": str(schedules / "source_training.yaml"),
            "changes": {
                "steps": 400,
                "batch_size": 8,
                "learning_rate": 0.05,
                "warmup_steps": 20,
                "scale_range": [1.0, 1.0],
                "checkpoint_every": 100,
                "mixed_precision": False,  # gives the same numbers on every CPU
            },
        },
        "fine_tuning": {
            "schedule": str(schedules / "fine_tuning.yaml"),
            "changes": _FINE_TUNING,
        },
    }
