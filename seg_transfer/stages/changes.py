"""Text descriptions of the differences between a stored content key and the current one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from seg_transfer.store.content_key import DIGEST, Key

# Maps the name of a key's part to a name for readers.
PartName = Callable[[str], str]

EARLIER_VERSION = "settings or data (written by an earlier version)"
NOT_RECORDED = "not recorded"
_SAME_PARTS = "its content key, although all its parts are the same (written by another version, or damaged)"


def changes(stored: Mapping[str, str], key: Key, name_of: PartName) -> tuple[str, ...]:
    """Describe what differs, such as "schedule.steps: 700 -> 800"; for digests, only their names are given."""
    if not stored:
        return (EARLIER_VERSION,)
    names = changed_parts(stored, key)
    lines = (_change(name_of(name), stored.get(name, NOT_RECORDED), key.parts.get(name, "absent")) for name in names)
    return tuple(dict.fromkeys(lines)) or (_SAME_PARTS,)


def changed_parts(stored: Mapping[str, str], key: Key) -> list[str]:
    """List the parts that are not the same in a stored key and the current one."""
    return [name for name in {**key.parts, **stored} if stored.get(name) != key.parts.get(name)]


def _change(name: str, stored: str, current: str) -> str:
    return name if DIGEST in stored or DIGEST in current else f"{name}: {stored} -> {current}"
