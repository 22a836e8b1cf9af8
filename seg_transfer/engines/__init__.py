"""Engines: how the items of a stage are worked on. They know items and leases, and no stage by name.

A new engine is a module here with a function ``run(job)``, and one line in `ENGINES`. Slurm is another kind: it takes a
job's command line to a cluster and returns (see `engines.slurm`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from seg_transfer.errors import ConfigError

if TYPE_CHECKING:
    from seg_transfer.engines.job import Job

# Name -> what it is, for help and messages. The module of that name is imported when it is used.
ENGINES: Mapping[str, str] = MappingProxyType(
    {
        "local": "in processes of its own, one per GPU",
        "here": "in this process",
        "ray": "on a Ray cluster",
    }
)


def engine_named(name: str) -> Callable[[Job], None]:
    """The engine of that name; raises ConfigError for an unknown one."""
    if name not in ENGINES:
        raise ConfigError(f"--engine {name}: unknown; choose {', '.join(ENGINES)}")
    engine: Callable[[Job], None] = import_module(f"{__name__}.{name}").run
    return engine
