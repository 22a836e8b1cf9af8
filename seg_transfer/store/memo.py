"""Persistent cache of values derived from files, valid until the file system reports that the files changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_transfer.store.atomic import write_text

# On a file system with a coarse clock, two versions of a file written in quick succession have the same time.
_CLOCK_RESOLUTION_NS = 2_000_000_000


def version_of(file: Path) -> str:
    """Return size, modification time (ns), inode and change time (ns) of a file, as text.

    A replacement with equal size and time has a different inode; a file that is overwritten and given its old
    modification time has a different change time, which no program can set.
    """
    status = file.stat()
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ino} {status.st_ctime_ns}"


def digests(files: Sequence[Path], folder: Path | None, digest: Callable[[Path], str]) -> list[str]:
    """Compute the digest of every file, or read it from a cache if the file has not changed.

    Args:
        files: The files.
        folder: Folder of the cache, with one file per set of files; None disables the cache. If several processes
            write the same cache file, the last one wins, and the digests of the others are computed again.
        digest: Computes the digest of a file.

    Returns:
        The digests, in the order of the files.
    """
    if folder is None:
        return [digest(file) for file in files]
    paths = [str(file.absolute()) for file in files]
    cache, began = folder / f"{name_of(paths)}.json", time.time_ns()
    known = load_cached(cache)
    entries: dict[str, list[str]] = {}
    for path, file in zip(paths, files, strict=True):
        version = version_of(file)  # before the bytes are read, so that the recorded version is never too new
        match known.get(path):
            case [str(old), str(kept)] if old == version:
                entries[path] = [version, kept]
            case _:
                entries[path] = [version, digest(file)]
    settled = {path: entry for path, entry in entries.items() if is_settled(entry[0], began)}
    if settled != known:
        save_cached(cache, settled)
    return [entries[path][1] for path in paths]


def name_of(parts: Iterable[str]) -> str:
    """Return a short file name that is a hash of these texts."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def is_settled(version: str, began: int) -> bool:
    """Whether a file was last changed well before a time, so that the next change gives it a different version.

    Args:
        version: Version of the file, from `version_of`.
        began: The time, in ns since the epoch.
    """
    _, modified, _, changed = map(int, version.split())
    return max(modified, changed) < began - _CLOCK_RESOLUTION_NS


def load_cached(file: Path) -> dict[str, Any]:
    """Read data written by `save_cached`; {} if there is no readable file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def save_cached(file: Path, content: Mapping[str, Any]) -> None:
    """Save plain data for other processes; errors are ignored, because the data can be computed again."""
    with contextlib.suppress(OSError):
        write_text(file, json.dumps(content))
