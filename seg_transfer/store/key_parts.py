"""The parts of a result file's content keys, which its metadata stores to show why a key has changed."""

from __future__ import annotations

import json
from collections.abc import Mapping

KEY_PARTS = "key_parts"
_COMMON = ""

Parts = dict[str, str]


def parts_entry(parts: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Make the metadata entry that holds the key parts of a file's rows.

    Args:
        parts: Row -> parts of its key; rows without parts are left out.

    Returns:
        The entry, in which parts that all rows share are stored once; {} if no row has parts.
    """
    known = {row: dict(row_parts) for row, row_parts in parts.items() if row_parts}
    if not known:
        return {}
    common = dict(set.intersection(*(set(row_parts.items()) for row_parts in known.values())))
    distinct = {
        row: {name: text for name, text in row_parts.items() if name not in common} for row, row_parts in known.items()
    }
    return {KEY_PARTS: json.dumps({_COMMON: common, **distinct}, sort_keys=True)}


def parts_in(entry: str) -> dict[str, Parts]:
    """Read an entry made by `parts_entry`: row -> parts of its key; {} if there is none."""
    try:
        rows = json.loads(entry)
        common = rows.pop(_COMMON)
        return {row: {**common, **distinct} for row, distinct in rows.items()}
    except (ValueError, AttributeError, KeyError, TypeError):
        return {}
