"""What the tests of `explain` name and change: one target, two sources, kept weights."""

from pathlib import Path
from typing import Any

TARGET = "cells_dark"
SOURCES = ("day_street", "dusk_street")
FOLDER = Path("explanations/day_street", TARGET)
ONE = ("--source", "day_street", "--target", TARGET)


def keep_weights(workspace: Any, **fields: Any) -> None:
    """Keep the weights of fine-tunings, and change other fields of them."""
    workspace.change(fine_tuning=workspace.study_fields()["fine_tuning"] | {"keep_weights": True} | fields)


def checked(workspace: Any, invoke: Any) -> Any:
    """How `plan --check` ends."""
    return invoke("plan", *workspace.place(), "--check")
