"""Atomic writing of files: a file exists completely or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from seg_transfer.store.processes import IDENTITY, identity, is_running

_TEMPORARY = re.compile(rf"\..+\.({IDENTITY})\.[0-9a-f]{{32}}\.part", re.DOTALL)
_SECONDS_OF_A_DAY = 86400


@contextlib.contextmanager
def replaced_atomically(file: Path, *, keep_existing: bool = False) -> Iterator[Path]:
    """Write a file atomically: on success, the temporary file becomes `file`; on failure, it is removed.

    Content and folder entry are flushed to disk before the block ends, so neither a killed process nor a machine crash
    leaves an incomplete file under the final name.

    Args:
        file: The file to write; its folder is created.
        keep_existing: Whether a file that another process has written in the meantime stays, for content that is the
            same whoever writes it.

    Yields:
        A temporary path in the same folder, to write to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replaced_atomically(Path(folder) / "a.txt") as temporary:
        ...         _ = temporary.write_text("complete")
        ...     sorted(p.name for p in Path(folder).iterdir())
        ['a.txt']
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(file)
    try:
        yield temporary
        _flush(temporary, os.O_RDWR)
        if not (keep_existing and file.exists()):
            temporary.replace(file)
            _flush(file.parent, os.O_RDONLY)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with replaced_atomically(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def create_folder(folder: Path) -> None:
    """Create a folder and its parents, even while other processes remove empty parents."""
    while not folder.is_dir():
        with contextlib.suppress(FileNotFoundError):  # a parent was removed after this process had found or created it
            folder.mkdir(parents=True, exist_ok=True)


def temporary_path(path: Path) -> Path:
    """Return a path in the same folder that no other process uses and whose name identifies this process."""
    return path.with_name(f".{path.name}.{identity()}.{uuid.uuid4().hex}.part")


def is_temporary(path: Path) -> bool:
    """Whether a file or folder was named by `temporary_path`."""
    return _TEMPORARY.fullmatch(path.name) is not None


def sweep(folder: Path) -> int:
    """Remove temporary files and folders that killed processes left behind.

    Files of running processes are kept. If it is unknown whether the process runs, as on another machine or in another
    container, files less than a day old are kept.

    Args:
        folder: The folder to search, recursively.

    Returns:
        The number of files and folders removed.
    """
    left_over = [path for path in entries(folder) if _is_abandoned(path)]
    for path in left_over:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(left_over)


def entries(folder: Path) -> Iterator[Path]:
    """Yield all files and folders below a folder. Unlike Path.rglob, this tolerates concurrent removal."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in (*folders, *files))


def _is_abandoned(path: Path) -> bool:
    temporary = _TEMPORARY.fullmatch(path.name)
    if temporary is None:
        return False
    running = is_running(temporary[1])
    if running is not None:
        return not running
    try:
        return time.time() - path.stat().st_mtime > _SECONDS_OF_A_DAY
    except FileNotFoundError:  # finished or removed by its owner in the meantime
        return False


def _flush(path: Path, mode: int) -> None:
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
