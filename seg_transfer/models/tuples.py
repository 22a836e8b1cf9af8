"""Tuples in model configs, which plain JSON and YAML data do not have.

Some constructors of mmsegmentation insist on a tuple where they get several numbers, such as MobileNetV3's
``out_indices``. Each of them has a tuple as that parameter's default, which is how it is recognized here: the config
itself stays plain data, and its content key does not depend on the kind of sequence.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def with_tuples(config: Any, find_class: Callable[[str], type | None]) -> Any:
    """Return the same config with a tuple for every list whose parameter has a tuple as its default.

    Args:
        config: Mappings, at any depth, whose ``type`` names a class and whose other items are its arguments.
        find_class: Returns the class of a ``type``; None where there is none.

    Example:
        >>> class Backbone:
        ...     def __init__(self, depth=(1, 2), kernel=3): ...
        >>> with_tuples({"type": "Backbone", "depth": [4, 5], "kernel": [3, 3]}, {"Backbone": Backbone}.get)
        {'type': 'Backbone', 'depth': (4, 5), 'kernel': [3, 3]}
    """
    if isinstance(config, list | tuple):
        return type(config)(with_tuples(item, find_class) for item in config)
    if not isinstance(config, Mapping):
        return config
    name = config.get("type")
    expected = _tuple_parameters(find_class(name)) if isinstance(name, str) else set()
    items = {key: with_tuples(value, find_class) for key, value in config.items()}
    return {key: tuple(value) if key in expected and isinstance(value, list) else value for key, value in items.items()}


def _tuple_parameters(cls: type | None) -> set[str]:
    """Return the names of the constructor's parameters whose default is a tuple, base classes' included."""
    defaults: dict[str, object] = {}
    # A subclass passes what it does not know on to its base class.
    constructors = [vars(part).get("__init__") for part in inspect.getmro(cls)] if inspect.isclass(cls) else []
    for constructor in filter(inspect.isfunction, constructors):
        for parameter in inspect.signature(constructor).parameters.values():
            defaults.setdefault(parameter.name, parameter.default)
    return {name for name, default in defaults.items() if isinstance(default, tuple)}
