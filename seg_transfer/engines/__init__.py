"""Engines decide where the items of a stage are computed. They know items and leases, but no stage by name.

To add an engine, add a module here with a function ``run(job)``, and one line in `ENGINES`. Slurm works differently: it
submits a job's command line to a cluster and returns (see `engines.slurm`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from seg_transfer.errors import ConfigError

if TYPE_CHECKING:
    from seg_transfer.engines.job import Job

# Name of an engine -> where it runs, for help texts. The module of the same name is imported when it is used.
ENGINES: Mapping[str, str] = MappingProxyType(
    {
        "local": "in separate processes, one per GPU",
        "here": "in this process",
        "ray": "on a Ray cluster",
    }
)


def get_engine(name: str) -> Callable[[Job], None]:
    """Return the engine with this name; raise ConfigError if there is none."""
    if name not in ENGINES:
        raise ConfigError(f"--engine {name}: unknown; choose {', '.join(ENGINES)}")
    engine: Callable[[Job], None] = import_module(f"{__name__}.{name}").run
    return engine
