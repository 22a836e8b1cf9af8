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
    """Validate one entry of ``sources`` as the kind of model that its marker field says.

    An entry with none of the marker fields is a source that the study trains. A field that is null counts as left out.

    Args:
        value: A mapping with the fields of an entry, or an entry, which is returned as it is.

    Raises:
        pydantic.ValidationError: A field is wrong, missing, or one of another kind.
    """
    return _ADAPTER.validate_python(value)


def code_of(sources: Iterable[SourceEntry], *configs: Path | None) -> list[str]:
    """What of these sources, and of other model configs, is Python code from elsewhere: it is run when it is loaded."""
    entries = list(sources)
    given = code_configs_among({path for path in configs if path is not None})
    of_kinds = (code for kind in adapters.ADAPTERS for entry in entries if entry.kind == kind for code in entry.code())
    return list(dict.fromkeys([*map(str, given), *of_kinds]))


def marker_fields() -> str:
    """The fields of which an entry that exists already has one, for messages."""
    return _listed([adapter.marker for adapter in adapters.ADAPTERS.values()], "and")


def folder_hints() -> str:
    """What a folder with a model holds, for messages."""
    return _listed([adapter.folder_hint for adapter in adapters.ADAPTERS.values() if adapter.folder_hint], "or")


def fields_in_folder(folder: Path) -> dict[str, Any] | None:
    """Fields of an entry, without its name, for the model in a folder; None where there is none.

    Raises:
        ConfigError: There is one, and its description is unreadable.
        CheckpointError: There is one, and its weights are missing.
    """
    found = (adapter.fields_in_folder(folder) for adapter in adapters.ADAPTERS.values())
    return next((fields for fields in found if fields is not None), None)


def _as_its_kind(value: object) -> object:
    """The entry that a mapping describes; anything else as it is."""
    if not isinstance(value, Mapping):
        return value
    adapter = _adapter_of(value)
    others = {field for one in adapters.ADAPTERS.values() for field in one.model_fields} - adapter.model_fields.keys()
    for field in value:
        if _is_given(value, field) and (field in others or _is_unsupported(adapter, field)):
            raise _refusal(value, _misplaced(adapter, field))
    for field, about in adapter.model_fields.items():
        needed = about.is_required() and field not in SourceEntry.model_fields
        if needed and value.get(field) is None:
            raise _refusal(value, f": field {field} is missing; a {adapter.kind} source needs it")
    own = adapter.model_fields.keys() - SourceEntry.model_fields.keys()
    left_out = {field for field in value if field in others or (field in own and value[field] is None)}
    return adapter.model_validate({field: item for field, item in value.items() if field not in left_out})


def _adapter_of(value: Mapping[str, Any]) -> type[SourceEntry]:
    found = [one for one in adapters.ADAPTERS.values() if value.get(one.marker) is not None]
    if len(found) > 1:
        named = " and ".join(one.marker for one in found)
        raise _refusal(value, f" has {named}, which are two kinds of model; keep one")
    return found[0] if found else SourceEntry


def _is_given(value: Mapping[str, Any], field: str) -> bool:
    return value[field] is not None and value[field] is not False


def _is_unsupported(adapter: type[SourceEntry], field: str) -> bool:
    return field == "scores_only" and not adapter.supports_scores_only


def _misplaced(adapter: type[SourceEntry], field: str) -> str:
    if adapter.marker:
        return f": field {field} has no meaning of a {adapter.kind} source; remove it"
    hints = (one.stray_fields.get(field) for one in adapters.ADAPTERS.values())
    hint = next((text for text in hints if text), None)
    return f" {hint}" if hint else f": field {field} has no meaning without one of {marker_fields()}; remove it"


def _refusal(value: Mapping[str, Any], rule: str) -> ValueError:
    """The error for a broken rule of the whole entry; a wrong name is an error before that one."""
    common = {field: value[field] for field in ("name", "dataset") if field in value}
    return ValueError(f"source {SourceEntry.model_validate(common).name!r}{rule}")


def _listed(words: Sequence[str], conjunction: str) -> str:
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last


AnySource = Annotated[SerializeAsAny[SourceEntry], BeforeValidator(_as_its_kind)]
"""An entry of any kind, as a field of a pydantic model."""
_ADAPTER: TypeAdapter[SourceEntry] = TypeAdapter(AnySource)
