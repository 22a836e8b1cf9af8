"""What was made of files that are still the same by all that a file system says of them, kept between processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_transfer.store.atomic import write_text

# A file system whose clock is coarse gives two versions of a file that was just written the same time.
_NANOSECONDS_OF_DOUBT = 2_000_000_000


def version_of(file: Path) -> str:
    """Size, time of modification, inode and time of change of a file.

    A file that is replaced by one of the same size and time has another inode, and one that is written over and given
    its old time has another time of change, which no program can set.
    """
    status = file.stat()
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ino} {status.st_ctime_ns}"


def digests(files: Sequence[Path], folder: Path | None, digest: Callable[[Path], str]) -> list[str]:
    """The digest of every file, from `folder` for those that are as they were when it was written; None keeps nothing.

    Each set of files has one file in `folder`. Of several processes that write it, the last one wins: what the others
    knew is only made again.
    """
    if folder is None:
        return [digest(file) for file in files]
    paths = [str(file.absolute()) for file in files]
    place, began = folder / f"{name_of(paths)}.json", time.time_ns()
    known = recall(place)
    found: dict[str, list[str]] = {}
    for path, file in zip(paths, files, strict=True):
        version = version_of(file)  # before its bytes are read: those of a later version never stand beside this one
        match known.get(path):
            case [str(old), str(kept)] if old == version:
                found[path] = [version, kept]
            case _:
                found[path] = [version, digest(file)]
    settled = {path: entry for path, entry in found.items() if is_settled(entry[0], began)}
    if settled != known:
        keep(place, settled)
    return [found[path][1] for path in paths]


def name_of(parts: Iterable[str]) -> str:
    """A short file name for what belongs to these texts."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def is_settled(version: str, began: int) -> bool:
    """Whether a file with this version was last written or changed well before the time `began` (ns), so that the next
    writing must give it another version.
    """
    _, modified, _, changed = map(int, version.split())
    return max(modified, changed) < began - _NANOSECONDS_OF_DOUBT


def recall(place: Path) -> dict[str, Any]:
    """What was kept there; {} when there is nothing readable."""
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def keep(place: Path, content: Mapping[str, Any]) -> None:
    """Keep plain data for other processes, where the disk lets one: it can be made again at any time."""
    with contextlib.suppress(OSError):
        write_text(place, json.dumps(content))
