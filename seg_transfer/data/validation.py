"""Validates plain data against a pydantic model; error messages are one line with field, value and rule."""

from collections.abc import Mapping
from pathlib import Path
from reprlib import Repr
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from seg_transfer.data.plain import read_yaml
from seg_transfer.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)

_ADVICE = {
    "extra_forbidden": "unknown field; remove it or correct its spelling",
    "missing": "is missing; add it",
    "string_type": "must be text; put it in quotes",
}
_SHORT_REPR = Repr()  # limits the length, whatever the file contains
_SHORT_REPR.maxlevel = 2
_SHORT_REPR.maxstring = _SHORT_REPR.maxother = 60


def load_yaml(path: Path, model: type[Model], changes: Mapping[str, Any] | None = None) -> Model:
    """Read a YAML file of plain data into a pydantic model.

    Args:
        path: The file.
        model: Class of the model.
        changes: Fields that replace those of the file.

    Raises:
        ConfigError: The file cannot be read, or a field breaks a rule; the message is one line.
    """
    data = read_yaml(path)
    if not isinstance(data, Mapping):
        raise ConfigError(f"{path}: the file must be a mapping 'field: value', not {type(data).__name__}; correct it")
    changed = {**data, **(changes or {})}
    try:
        return model.model_validate(changed)
    except ValidationError as error:
        raise ConfigError(f"{path}: {one_line(error, changed)}") from error


def one_line(error: ValidationError, data: object) -> str:
    """Describe the first error in `data` as "field: value: rule; what to do", and the number of further errors."""
    first, *others = error.errors(include_url=False)
    more = f" (and {len(others)} more)" if others else ""
    return _explain(first, data) + more


def _explain(error: ErrorDetails, data: object) -> str:
    field, value, kind = _field(error, data), error["input"], error["type"]
    if kind == "missing":
        return f"{field} {_ADVICE[kind]}"
    if kind != "value_error":
        return f"{field}: {_SHORT_REPR.repr(value)}: {_ADVICE.get(kind) or error['msg'] + '; correct it'}"
    rule = error["msg"].removeprefix("Value error, ")
    if not isinstance(value, Mapping):
        return f"{field}: {_SHORT_REPR.repr(value)}: {rule}"
    # The rule of a whole block already names the field.
    return rule if rule.startswith(field) else f"{field}: {rule}"


def _field(error: ErrorDetails, data: object) -> str:
    """Return the dotted path of a field, without the names that pydantic adds for unions and dictionary keys."""
    parts = []
    for position, part in enumerate(error["loc"], start=1):
        in_mapping = isinstance(data, Mapping) and part in data
        in_list = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if in_mapping or in_list:
            data = data[part]  # type: ignore[index]
            parts.append(str(part))
        elif error["type"] == "missing" and position == len(error["loc"]):
            parts.append(str(part))
    return ".".join(parts)
