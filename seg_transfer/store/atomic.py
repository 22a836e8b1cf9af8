"""Files that exist whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

TEMPORARY_SUFFIX = ".part"
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
    temporary = file.parent / f".{file.name}.{host_name()}.{os.getpid()}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"
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


def sweep(folder: Path) -> int:
    """Remove the temporary files and folders that killed processes left under `folder`; returns how many.

    A file of a process that is alive on this machine stays; of other machines, a file that is not a day old.
    """
    left_over = [path for path in entries(folder) if is_temporary(path) and _is_abandoned(path)]
    for path in left_over:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(left_over)


def is_temporary(path: Path) -> bool:
    """Whether a file or folder is one that its process would have renamed or removed."""
    return path.name.startswith(".") and path.name.endswith(TEMPORARY_SUFFIX)


def entries(folder: Path) -> Iterator[Path]:
    """All files and folders below a folder. Others may remove some meanwhile, where Path.rglob would fail."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in (*folders, *files))


def _is_abandoned(temporary: Path) -> bool:
    host, process = temporary.name.split(".")[-4:-2]
    if host == host_name() and process.isdecimal():
        return not is_alive(int(process))
    try:
        return time.time() - temporary.stat().st_mtime > _SECONDS_OF_A_DAY
    except FileNotFoundError:  # finished or swept by its owner meanwhile
        return False


def is_alive(process: int) -> bool:
    """Whether a process of that number runs on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def host_name() -> str:
    """This machine's name, without dots, as file names carry it."""
    return socket.gethostname().replace(".", "-")


def _flush(path: Path, mode: int) -> None:
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
