"""Builds networks from untrusted descriptions without access to processes, the network or files of the user."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "segmentation_models_pytorch",
    "mmengine",
    "mmcv",
    "mmseg",
)
_PROCESSES = ("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "pty.")
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostby", "socket.sendto", "urllib.")
_state = {"is_sealed": False}


@contextlib.contextmanager
def sealed() -> Iterator[None]:
    """Within the context, an attempt to do more than to build a network raises PermissionError.

    Only code of installed libraries runs in it: this is no sandbox for other code.
    """
    _watch()
    _state["is_sealed"] = True
    try:
        yield
    finally:
        _state["is_sealed"] = False


@functools.cache
def _watch() -> None:
    """Add an audit hook, once, because it cannot be removed."""
    _installed()
    sys.addaudithook(_refuse)


@functools.cache
def _installed() -> tuple[str, ...]:
    specs = [importlib.util.find_spec(name) for name in _LIBRARIES]
    folders = [str(Path(spec.origin).parent) for spec in specs if spec is not None and spec.origin]
    folders += [folder for folder in sys.path if folder and any(Path(folder).glob("*.dist-info"))]
    return tuple({os.path.realpath(folder) + os.sep for folder in (*folders, sys.prefix, sys.base_prefix)})


def _refuse(event: str, details: tuple[Any, ...]) -> None:
    if not _state["is_sealed"]:
        return
    if event.startswith((*_PROCESSES, *_NETWORK)):
        raise PermissionError(f"source.json must not cause {event}")
    if event == "open" and not _may_open(*details):
        raise PermissionError(f"source.json must not open the file {os.fsdecode(details[0])}")


def _may_open(path: Any, _mode: str | None, flags: int) -> bool:
    """Return whether a file belongs to a library, is open already, or is new, such as a temporary one."""
    is_path = isinstance(path, str | bytes | os.PathLike)
    return not is_path or bool(flags & os.O_EXCL) or os.path.realpath(os.fsdecode(path)).startswith(_installed())


@contextlib.contextmanager
def only_registered() -> Iterator[None]:
    """Within the context, registries of mmengine find only what they contain: else they import any name."""
    registry: Any = importlib.import_module("mmengine.registry.registry")
    before = registry.get_object_from_string, registry.import_module
    registry.get_object_from_string, registry.import_module = lambda _name: None, lambda name: sys.modules[name]
    try:
        yield
    finally:
        registry.get_object_from_string, registry.import_module = before
