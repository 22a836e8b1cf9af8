"""Tables as a terminal shows them, and small pairs to show."""

import io

import numpy as np
import pandas as pd
from rich.console import Console

from seg_transfer.reports.tables import render


def text_of(tables, width=80):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    render(tables, console)
    return console.file.getvalue()


def cells(text, first):
    """The line of a table that starts with this cell."""
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [first])


def small_pairs():
    rows = [
        ("a", "t", 0.50, 1.0, 3.0),
        ("b", "t", 0.40, 2.0, 3.0),
        ("c", "t", 0.25, 0.0, 3.0),
        ("a", "u", 0.30, 2.0, 1.0),
        ("b", "u", 0.60, 1.0, 2.0),
        ("scratch", "t", 0.45, np.nan, np.nan),
        ("scratch", "u", 0.70, np.nan, np.nan),
    ]
    return pd.DataFrame(rows, columns=["source", "target", "miou", "sharp", "flat"])
