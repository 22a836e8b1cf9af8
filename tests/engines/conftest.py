import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from seg_transfer.console import console_logging
from seg_transfer.resources import shipped
from seg_transfer.study.run import Run, open_run

BLANKS = "it's 100% of a b"


@pytest.fixture(autouse=True)
def shown() -> Iterator[None]:
    """What is logged stands on stdout and stderr, as in a command."""
    with console_logging():
        yield


@pytest.fixture
def run(tmp_path: Path, small_world: Path) -> Run:
    """Two sources are trained by the study, one is brought along; its paths have blanks, quotes and percent signs."""
    folder = tmp_path / BLANKS
    folder.mkdir()
    schedule = {"schedule": str(shipped("configs/schedules/fine_tuning.yaml"))}
    study = {
        "name": "tiny",
        "manifests": [str(small_world / "manifests")],
        "sources": ["day_street", "cells_dark", {"name": "own", "dataset": "elsewhere", "config": "source.json"}],
        "targets": ["day_street", "cells_dark"],
        "model": str(shipped("configs/models/hrnetv2_tiny.py")),
        "source_training": schedule,
        "fine_tuning": {**schedule, "seeds": [0, 1]},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return open_run(folder / "study.yaml", small_world, folder / "run")


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is first on PATH, for stand-ins of commands."""
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder
