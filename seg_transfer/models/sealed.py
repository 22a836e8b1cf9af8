"""Building networks from untrusted configs without access to processes, the network or other files.

A config is data, but the libraries that build networks from it can do many things with its values: load files, download
weights, import modules, start programs. This module blocks all of this, whatever a config contains.

It is not a sandbox for code: only code of the installed libraries runs in it, and none of unknown origin.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

_PROCESSES = ("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "pty.")
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostby", "socket.sendto", "urllib.")

_LIBRARIES = (
    "torch",
    "torchvision",
    "mmengine",
    "mmcv",
    "mmseg",
    "transformers",
    "timm",
    "segmentation_models_pytorch",
)

_is_sealed: ContextVar[bool] = ContextVar("is_sealed", default=False)


@contextlib.contextmanager
def sealed() -> Iterator[None]:
    """Within the context, this thread cannot start processes, use the network, or open files except installed ones.

    An attempt raises PermissionError, which the library may turn into its own error.
    """
    _watch()
    installation()  # computed before sealing, because it opens files
    token = _is_sealed.set(True)
    try:
        yield
    finally:
        _is_sealed.reset(token)


@cache
def _watch() -> None:
    """Add an audit hook, which Python calls before each such event. It cannot be removed, so add it only once."""
    sys.addaudithook(_refuse)


@cache
def installation() -> tuple[str, ...]:
    """Return the folders of Python and of the libraries, each with a trailing separator."""
    folders = [sys.prefix, sys.base_prefix, *filter(_has_distributions, sys.path), *map(_folder_of, _LIBRARIES)]
    return tuple({os.path.realpath(folder) + os.sep for folder in folders if folder})


def _has_distributions(folder: str) -> bool:
    """Return whether pip installed anything in a folder, such as the user's site folder or one on PYTHONPATH."""
    return bool(folder) and any(Path(folder).glob("*.dist-info"))


def _folder_of(library: str) -> str:
    """Return the folder of a library, which may be a checkout; "" if it is not installed."""
    try:
        spec = importlib.util.find_spec(library)
    except ValueError:  # a module without a spec
        return ""
    return str(Path(spec.origin).parent) if spec is not None and spec.origin is not None else ""


def _refuse(event: str, details: tuple[Any, ...]) -> None:
    if not _is_sealed.get():
        return
    if event.startswith(_PROCESSES):
        raise PermissionError("a config must not start a process")
    if event.startswith(_NETWORK):
        raise PermissionError("a config must not download anything")
    if event == "open" and not _may_open(*details):
        raise PermissionError(f"a config must not open the file {os.fsdecode(details[0])}")


def _may_open(path: object, _mode: str | None, flags: int) -> bool:
    """Return whether a file is part of the installation, already open, or new, such as a temporary one."""
    if not isinstance(path, str | bytes | os.PathLike) or flags & os.O_EXCL:
        return True
    return os.path.realpath(os.fsdecode(path)).startswith(installation())
