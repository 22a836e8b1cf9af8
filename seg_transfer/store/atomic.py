"""Files that exist whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from seg_transfer.store.processes import IDENTITY, identity, lives

_TEMPORARY = re.compile(rf"\..+\.({IDENTITY})\.[0-9a-f]{{32}}\.part", re.DOTALL)
_SECONDS_OF_A_DAY = 86400


@contextlib.contextmanager
def replaced_atomically(file: Path) -> Iterator[Path]:
    """Give a temporary path in the folder of `file`; on success it becomes `file`, on failure it is removed.

    The content and the folder entry are flushed to disk before the block's end returns, so that neither a killed
    process nor a lost machine leaves a torn file under the final name.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replaced_atomically(Path(folder) / "a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     sorted(p.name for p in Path(folder).iterdir())
    ['a.txt']
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(file)
    try:
        yield temporary
        _flush(temporary, os.O_RDWR)
        temporary.replace(file)
        _flush(file.parent, os.O_RDONLY)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with replaced_atomically(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def temporary_path(path: Path) -> Path:
    """A path beside another that no other process uses, and whose name says which process it is of."""
    return path.with_name(f".{path.name}.{identity()}.{uuid.uuid4().hex}.part")


def is_temporary(path: Path) -> bool:
    """Whether a file or folder has a name that `temporary_path` gave it."""
    return _TEMPORARY.fullmatch(path.name) is not None


def sweep(folder: Path) -> int:
    """Remove the temporary files and folders that killed processes left under `folder`; returns how many.

    A file of a process that is alive stays; where that cannot be told, as on another machine or in another container,
    a file that is not a day old.
    """
    left_over = [path for path in entries(folder) if _is_abandoned(path)]
    for path in left_over:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(left_over)


def entries(folder: Path) -> Iterator[Path]:
    """All files and folders below a folder. Others may remove some meanwhile, where Path.rglob would fail."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in (*folders, *files))


def _is_abandoned(path: Path) -> bool:
    temporary = _TEMPORARY.fullmatch(path.name)
    if temporary is None:
        return False
    alive = lives(temporary[1])
    if alive is not None:
        return not alive
    try:
        return time.time() - path.stat().st_mtime > _SECONDS_OF_A_DAY
    except FileNotFoundError:  # finished or swept by its owner meanwhile
        return False


def _flush(path: Path, mode: int) -> None:
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
