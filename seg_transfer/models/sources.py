"""Sources of every kind: reading an entry, finding the model in a folder, and naming kinds and code in messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, TypeAdapter

from seg_transfer.models import adapters
from seg_transfer.models.configs import code_configs_among
from seg_transfer.models.entry import SourceEntry


def parse_entry(value: object) -> SourceEntry:
    """Validate one entry of ``sources`` as the kind of model that its marker field names.

    An entry without a marker field is a source that the study trains. A null field counts as left out.

    Args:
        value: A mapping with the fields of an entry, or an entry, which is returned unchanged.

    Raises:
        pydantic.ValidationError: A field is wrong, missing, or belongs to another kind.
    """
    return _ADAPTER.validate_python(value)


def code_of(sources: Iterable[SourceEntry], *configs: Path | None) -> list[str]:
    """List the Python code from outside this package that loading these sources and model configs runs."""
    entries = list(sources)
    code_configs = code_configs_among({path for path in configs if path is not None})
    entry_code = (
        code for kind in adapters.ADAPTERS for entry in entries if entry.kind == kind for code in entry.code()
    )
    return list(dict.fromkeys([*map(str, code_configs), *entry_code]))


def marker_fields() -> str:
    """List the fields that mark an entry as an existing model, for messages."""
    return _join([adapter.marker for adapter in adapters.ADAPTERS.values()], "and")


def folder_hints() -> str:
    """List what a folder with a model contains, for messages."""
    return _join([adapter.folder_hint for adapter in adapters.ADAPTERS.values() if adapter.folder_hint], "or")


def fields_in_folder(folder: Path) -> dict[str, Any] | None:
    """Return the fields of an entry, except its name, for the model in a folder; None if it has no model.

    Raises:
        ConfigError: The description of the model is unreadable.
        CheckpointError: The weights of the model are missing.
    """
    by_kind = (adapter.fields_in_folder(folder) for adapter in adapters.ADAPTERS.values())
    return next((fields for fields in by_kind if fields is not None), None)


def _validate_as_kind(value: object) -> object:
    """Return the entry that a mapping describes; anything else is returned unchanged."""
    if not isinstance(value, Mapping):
        return value
    adapter = _adapter_of(value)
    all_fields = {field for kind in adapters.ADAPTERS.values() for field in kind.model_fields}
    foreign_fields = all_fields - adapter.model_fields.keys()
    for field in value:
        if _is_given(value, field) and (field in foreign_fields or field in adapter.unsupported_fields()):
            raise _refusal(value, _misplaced(adapter, field))
    own_fields = adapter.model_fields.keys() - SourceEntry.model_fields.keys()
    for field, info in adapter.model_fields.items():
        if field in own_fields and info.is_required() and value.get(field) is None:
            raise _refusal(value, f": field {field} is missing; a {adapter.kind} source needs it")
    left_out = {field for field in value if field in foreign_fields or (field in own_fields and value[field] is None)}
    return adapter.model_validate({field: item for field, item in value.items() if field not in left_out})


def _adapter_of(value: Mapping[str, Any]) -> type[SourceEntry]:
    marked = [adapter for adapter in adapters.ADAPTERS.values() if value.get(adapter.marker) is not None]
    if len(marked) > 1:
        markers = " and ".join(adapter.marker for adapter in marked)
        raise _refusal(value, f" has {markers}, which mark different kinds of model; keep one")
    return marked[0] if marked else SourceEntry


def _is_given(value: Mapping[str, Any], field: str) -> bool:
    return value[field] is not None and value[field] is not False


def _misplaced(adapter: type[SourceEntry], field: str) -> str:
    if adapter.marker:
        return f": field {field} has no meaning for a {adapter.kind} source; remove it"
    hints = (kind.stray_fields.get(field) for kind in adapters.ADAPTERS.values())
    hint = next((text for text in hints if text), None)
    return f" {hint}" if hint else f": field {field} has no meaning without one of {marker_fields()}; remove it"


def _refusal(value: Mapping[str, Any], rule: str) -> ValueError:
    """Return the error for an entry that breaks a rule; a wrong name or dataset is reported first."""
    common = {field: value[field] for field in ("name", "dataset") if field in value}
    return ValueError(f"source {SourceEntry.model_validate(common).name!r}{rule}")


def _join(words: Sequence[str], conjunction: str) -> str:
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last


AnySource = Annotated[SerializeAsAny[SourceEntry], BeforeValidator(_validate_as_kind)]
"""An entry of any kind, as a field of a pydantic model."""
_ADAPTER: TypeAdapter[SourceEntry] = TypeAdapter(AnySource)
