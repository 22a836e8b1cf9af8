"""Frames as plain data for JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Convert the rows of a frame to dictionaries that `json.dumps` accepts.

    Args:
        frame: Any frame of numbers, text, and lists of these.

    Returns:
        One dictionary per row, with the frame's column names as keys. NumPy scalars become Python numbers; NaN,
        infinity and missing values become None.

    Example:
        >>> plain_rows(pd.DataFrame({"metric": ["gbc"], "tau_w": [float("nan")], "n_groups": [17]}))
        [{'metric': 'gbc', 'tau_w': None, 'n_groups': 17}]
    """
    return [{str(name): _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value
