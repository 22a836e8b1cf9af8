"""What the tests of `explain` share: one target, two sources, and keeping the weights."""

from pathlib import Path
from typing import Any

TARGET = "cells_dark"
SOURCES = ("day_street", "dusk_street")
FOLDER = Path("explanations/day_street", TARGET)
ONE = ("--source", "day_street", "--target", TARGET)


def keep_weights(workspace: Any, **fields: Any) -> None:
    """Make the study keep the weights of fine-tunings, and change other fine-tuning fields."""
    workspace.change(fine_tuning=workspace.study_fields()["fine_tuning"] | {"keep_weights": True} | fields)


def checked(workspace: Any, invoke: Any) -> Any:
    """Run `plan --check` on a workspace."""
    return invoke("plan", *workspace.place(), "--check")
