"""The parts of the content keys of a result file, stored in its metadata, which show why a key has changed."""

from __future__ import annotations

import json
from collections.abc import Mapping

KEY_PARTS = "key_parts"
_COMMON = ""

Parts = dict[str, str]


def parts_entry(parts: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Make the metadata entry for the parts of the keys of a file's rows.

    Args:
        parts: Row -> parts of its key; rows without parts are left out.

    Returns:
        The entry, in which parts that all rows share are written once; {} where no row has parts.
    """
    known = {row: dict(of_row) for row, of_row in parts.items() if of_row}
    if not known:
        return {}
    common = dict(set.intersection(*(set(of_row.items()) for of_row in known.values())))
    own = {row: {name: text for name, text in of_row.items() if name not in common} for row, of_row in known.items()}
    return {KEY_PARTS: json.dumps({_COMMON: common, **own}, sort_keys=True)}


def parts_in(entry: str) -> dict[str, Parts]:
    """Read an entry of `parts_entry`: row -> parts of its key; {} where there is none."""
    try:
        rows = json.loads(entry)
        common = rows.pop(_COMMON)
        return {row: {**common, **own} for row, own in rows.items()}
    except (ValueError, AttributeError, KeyError, TypeError):
        return {}
