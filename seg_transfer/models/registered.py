"""Names in model configs: only those in mmsegmentation's registries.

A registry of mmengine imports a name that it does not have: it would run ``subprocess.run`` if a config names that as a
type.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

from seg_transfer.errors import ConfigError
from seg_transfer.models.compat import import_mmseg

# Networks that must open files and import classes of their config's choice.
_REFUSED = {"VPD"}
_RULE = (
    "only what mmsegmentation's registries hold is built; choose such a name, import what registers yours in a .py "
    "config, or bring the network by a factory: both are announced before they are run"
)
_NAMES = ("type", "_scope_")
# Scopes whose names need no prefix: a network is built in the scope of mmseg, whose registry falls back to mmengine's.
_PLAIN = {"mmseg", "mmengine"}


def registered(model: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Replace every ``type`` in a model config, at every depth, by the name under which its class is registered.

    Dotted names, as lazily imported configs have them, are replaced too; nothing is imported.

    Args:
        model: The ``model`` entry of an mmseg config.
        origin: Where it is from, for messages.

    Raises:
        ConfigError: A type is not registered; the message begins with `origin`, the file that the config is from.
    """
    whole: dict[str, Any] = _renamed(model, "model", partial(_registered_name, origin, *_registered_names(origin)))
    return whole


def with_registered_names(model: Any) -> Any:
    """As `registered`, but a type that is not registered stays as it is."""
    known, classes = _registered_names("model config")
    return _renamed(model, "model", lambda name, _field: _found(known, classes, name) or name)


def _renamed(value: Any, field: str, rename: Callable[[Any, str], Any]) -> Any:
    if isinstance(value, list | tuple):
        return [_renamed(item, f"{field}.{place}", rename) for place, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    return {
        key: (rename if key in _NAMES else partial(_renamed, rename=rename))(item, f"{field}.{key}")
        for key, item in value.items()
    }


def _registered_name(origin: str, known: set[str], classes: dict[tuple[str, str], str], name: Any, field: str) -> str:
    found = _found(known, classes, name)
    if found is None or found.rpartition(".")[2] in _REFUSED:
        raise ConfigError(f"{origin}: field {field}: {name!r:.80}: {_RULE}")
    return found


def _found(known: set[str], classes: dict[tuple[str, str], str], name: Any) -> str | None:
    if not isinstance(name, str) or name in known:
        return name if isinstance(name, str) else None
    return classes.get((name.partition(".")[0], name.rpartition(".")[2]))


def _registered_names(origin: str) -> tuple[set[str], dict[tuple[str, str], str]]:
    """Every name in the registries that are loaded; and the name of each class, by its package and its own name."""
    import_mmseg(origin)
    import mmengine.registry

    known: set[str] = set()
    classes: dict[tuple[str, str], str] = {}
    for root in (mmengine.registry.MODELS, mmengine.registry.TASK_UTILS, mmengine.registry.WEIGHT_INITIALIZERS):
        for registry in (root, *root.children.values()):
            for name, registered_class in registry.module_dict.items():
                with_scope = f"{registry.scope}.{name}"
                known |= {with_scope, registry.scope, *([name] if registry.scope in _PLAIN else [])}
                package = str(getattr(registered_class, "__module__", "")).partition(".")[0]
                own_name = str(getattr(registered_class, "__qualname__", ""))
                classes.setdefault((package, own_name), name if registry.scope in _PLAIN else with_scope)
    return known, classes


@contextlib.contextmanager
def only_registered() -> Iterator[None]:
    """Within the context registries find only what they have, and import nothing."""
    import_mmseg()
    registry: Any = import_module("mmengine.registry.registry")
    before = registry.get_object_from_string, registry.import_module
    registry.get_object_from_string, registry.import_module = _nothing, _loaded
    try:
        yield
    finally:
        registry.get_object_from_string, registry.import_module = before


def _nothing(_name: str) -> None:
    return None


def _loaded(name: str) -> ModuleType:
    if name not in sys.modules:
        raise ImportError(f"{name} is not loaded")
    return sys.modules[name]
