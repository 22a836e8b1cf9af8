"""Searching for files in a folder in which other processes create and remove files."""

import os
from pathlib import Path


def found_below(folder: Path, name: str) -> list[Path]:
    """List the files with a name; ignores folders that vanish meanwhile, for which Path.rglob raises an error."""
    return [Path(parent) / name for parent, _, files in os.walk(folder) if name in files]
