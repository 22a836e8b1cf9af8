"""Importing mmsegmentation beside mmcv-lite, quietly.

mmsegmentation imports two compiled operators of mmcv unconditionally, although none of the models here use them, and
mmcv-lite ships without compiled operators. While ``mmcv.ops`` is imported, a stand-in takes the place of the missing
extension; it is removed at once, because a module without a spec left in ``sys.modules`` breaks mmengine's Runner.
Where the real operators exist (full mmcv) nothing is replaced.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

_EXTENSION = "mmcv._ext"


class _MissingOperators(types.ModuleType):
    """Stands in for ``mmcv._ext``: has every operator by name, runs none."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_args: object, **_kwargs: object) -> None:
            raise NotImplementedError(f"mmcv operator {name} is compiled code that mmcv-lite lacks: install full mmcv")

        return missing


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the deprecations that mmseg and mmcv raise in their own code on import and when a network is built."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def import_mmseg() -> None:
    """Make ``mmseg.models`` importable and its registry filled. Takes seconds the first time; call it late."""
    with quiet():
        if importlib.util.find_spec(_EXTENSION) is None:
            sys.modules[_EXTENSION] = _MissingOperators(_EXTENSION)
            try:
                importlib.import_module("mmcv.ops")
            finally:
                del sys.modules[_EXTENSION]
        importlib.import_module("mmseg.models")
        logging = importlib.import_module("mmengine.logging")
        # Building a network logs every parameter's initialisation otherwise.
        logging.MMLogger.get_instance("mmengine", log_level="ERROR")
