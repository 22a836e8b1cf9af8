"""Building networks from data of unknown origin with the ways out closed.

A config is data, but the libraries that build networks from one do more with its words than one can list: load files,
download weights, import modules, start programs. Here is what they cannot do meanwhile, whatever a config says.

This is no sandbox for code: none of unknown origin runs here, only that of the installed libraries.
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

_LIBRARIES = ("torch", "mmengine", "mmcv", "mmseg", "transformers", "timm")

_is_sealed: ContextVar[bool] = ContextVar("is_sealed", default=False)


@contextlib.contextmanager
def sealed() -> Iterator[None]:
    """Meanwhile this thread starts no process, reaches no network, and opens no file but those of installed modules.

    What tries raises PermissionError, which the library at work may raise again as an error of its own.
    """
    _watch()
    installation()  # looked for before: that opens files
    token = _is_sealed.set(True)
    try:
        yield
    finally:
        _is_sealed.reset(token)


@cache
def _watch() -> None:
    """Python tells an audit hook of each such event before it happens; a hook cannot be removed, so there is one."""
    sys.addaudithook(_refuse)


@cache
def installation() -> tuple[str, ...]:
    """The folders that Python and the libraries lie in, each with a separator behind it."""
    places = [sys.prefix, sys.base_prefix, *filter(_holds_distributions, sys.path), *map(_folder_of, _LIBRARIES)]
    return tuple({os.path.realpath(place) + os.sep for place in places if place})


def _holds_distributions(place: str) -> bool:
    """Whether pip installed something there, as into a user's own folder or one of PYTHONPATH."""
    return bool(place) and any(Path(place).glob("*.dist-info"))


def _folder_of(library: str) -> str:
    """Where a library lies, which may be a checkout; "" without it."""
    try:
        spec = importlib.util.find_spec(library)
    except ValueError:  # a module that does not say where it is from
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
        raise PermissionError(f"a config must not have the file {os.fsdecode(details[0])} opened")


def _may_open(path: object, _mode: str | None, flags: int) -> bool:
    """Whether a file is one of the installation, open already, or new, as temporary ones are: it shows nothing."""
    if not isinstance(path, str | bytes | os.PathLike) or flags & os.O_EXCL:
        return True
    return os.path.realpath(os.fsdecode(path)).startswith(installation())
