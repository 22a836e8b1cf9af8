"""Names in model configs are restricted to those in mmsegmentation's registries.

A registry of mmengine imports names that it does not have: it would call ``subprocess.run`` if a config named that as a
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
from seg_transfer.models.compat import bring_timm, import_mmseg

# Networks that open files and import classes that their config chooses.
_REFUSED = {"VPD"}
_RULE = (
    "only classes in mmsegmentation's registries are built; choose a registered name, import the module that registers "
    "yours in a .py config, or provide the network by a factory: both are announced before they run"
)
# Packages whose classes the published configs of mmsegmentation name.
_RELATED = {"mmdet", "mmpretrain"}
_NAMES = ("type", "_scope_")
# Scopes whose names need no prefix: networks are built in the scope mmseg, whose registry falls back to mmengine's.
_PLAIN = {"mmseg", "mmengine"}


def registered(model: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Replace every ``type`` in a model config, at every depth, by the name under which its class is registered.

    This includes dotted names, which lazily imported configs have; nothing is imported, except timm for a backbone of
    timm.

    Args:
        model: The ``model`` entry of an mmseg config.
        origin: Where the config comes from, for messages.

    Raises:
        ConfigError: A type is not registered; the message begins with `origin`.
    """
    renamed: dict[str, Any] = _rename(model, "model", partial(_registered_name, origin, *_registered_names(origin)))
    return renamed


def with_registered_names(model: Any) -> Any:
    """Do the same as `registered`, but keep types that are not registered."""
    known, classes = _registered_names("model config")
    return _rename(model, "model", lambda name, _field: _look_up(known, classes, name) or name)


def _rename(value: Any, field: str, new_name: Callable[[Any, str], Any]) -> Any:
    """Replace the names in a config at every depth; ``new_name`` takes a name and the field it is in."""
    if isinstance(value, list | tuple):
        return [_rename(item, f"{field}.{index}", new_name) for index, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    return {
        key: (new_name if key in _NAMES else partial(_rename, new_name=new_name))(item, f"{field}.{key}")
        for key, item in value.items()
    }


def _registered_name(origin: str, known: set[str], classes: dict[tuple[str, str], str], name: Any, field: str) -> str:
    registered_as = _look_up(known, classes, name)
    if registered_as is None or registered_as.rpartition(".")[2] in _REFUSED:
        scope = name.partition(".")[0] if isinstance(name, str) else ""
        rule = f"needs {scope}; pip install {scope}, whose classes are then registered" if scope in _RELATED else _RULE
        raise ConfigError(f"{origin}: field {field}: {name!r:.80}: {rule}")
    if registered_as == "TIMMBackbone":
        bring_timm(f"{origin}: field {field}")
    return registered_as


def _look_up(known: set[str], classes: dict[tuple[str, str], str], name: Any) -> str | None:
    if not isinstance(name, str) or name in known:
        return name if isinstance(name, str) else None
    return classes.get((name.partition(".")[0], name.rpartition(".")[2]))


def _registered_names(origin: str) -> tuple[set[str], dict[tuple[str, str], str]]:
    """Return all names in the loaded registries, and the registered name of each class by package and class name."""
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
                class_name = str(getattr(registered_class, "__qualname__", ""))
                classes.setdefault((package, class_name), name if registry.scope in _PLAIN else with_scope)
    return known, classes


@contextlib.contextmanager
def only_registered() -> Iterator[None]:
    """Within the context, registries find only what they contain, and import nothing."""
    import_mmseg()
    registry: Any = import_module("mmengine.registry.registry")
    before = registry.get_object_from_string, registry.import_module
    registry.get_object_from_string, registry.import_module = _find_nothing, _only_loaded
    try:
        yield
    finally:
        registry.get_object_from_string, registry.import_module = before


def _find_nothing(_name: str) -> None:
    return None


def _only_loaded(name: str) -> ModuleType:
    if name not in sys.modules:
        raise ImportError(f"{name} is not loaded")
    return sys.modules[name]
