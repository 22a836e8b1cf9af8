"""Looking for files in a folder in which other processes make and remove some."""

import os
from pathlib import Path


def found_below(folder: Path, name: str) -> list[Path]:
    """The files of that name; a folder that vanishes meanwhile, of which Path.rglob makes an error, has none."""
    return [Path(place) / name for place, _, files in os.walk(folder) if name in files]
