"""Model banks: sources read from a YAML file, a folder of models, a single model, or an entry given in Python."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from seg_transfer.data.manifest import SCRATCH
from seg_transfer.data.validation import load_yaml, one_line
from seg_transfer.errors import ConfigError, as_failure
from seg_transfer.models.adapters import ADAPTERS
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.hub import absolute_paths
from seg_transfer.models.sources import fields_in_folder, folder_hints, marker_fields, parse_entry
from seg_transfer.resources import shipped_files
from seg_transfer.store.source_card import FILE_NAME

SourceSpec = str | Path | Mapping[str, Any] | SourceEntry

_YAML = {".yaml", ".yml"}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]")


class Skipped(NamedTuple):
    """A member of a folder that cannot be used, and why."""

    name: str
    reason: str


class _BankFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: list[dict[str, Any]] = Field(min_length=1)


def read_sources(*specs: SourceSpec) -> tuple[list[SourceEntry], list[Skipped]]:
    """Read the sources of a model bank.

    Args:
        specs: Each is one of

            * a YAML file with ``sources:``, a list of entries as in a study (paths are relative to the file);
            * a folder with a model of a kind that is recognized there, such as a ``source.json`` or a transformers
              ``config.json``, or a folder of such folders; the folder names the source;
            * the name of a shipped bank, such as ``small``;
            * a ``source.json``;
            * ``KIND:MODEL``, a model that needs no other field: ``mmseg:NAME`` of mmsegmentation's zoo,
              ``torchvision:NAME``, ``timm:hf-hub:ORG/NAME`` or ``transformers:ORG/NAME``;
            * ``CONFIG:WEIGHTS``, an mmseg config and its checkpoint, named after the weights file;
            * a `SourceEntry`, or a mapping with its fields (paths are relative to the working directory).

            If no ``dataset`` is given, it is taken from the ``source.json``, or else it is the source's name.

    Returns:
        The entries in the given order, and by name within a folder; and the members of folders that cannot be used.

    Raises:
        ConfigError: No source is found, an entry breaks a rule, or two sources have the same name.
        CheckpointError: A ``source.json`` that was named is damaged.
    """
    entries: list[SourceEntry] = []
    skipped: list[Skipped] = []
    for source in chain.from_iterable(map(_sources_in, specs)):
        (entries if isinstance(source, SourceEntry) else skipped).append(source)  # type: ignore[arg-type]
    names = [entry.name for entry in entries]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate:
        raise ConfigError(
            f"source {duplicate!r} appears twice; give every source a different name, for example in a YAML bank"
        )
    if not entries:
        reasons = "; ".join(f"{member.name}: {member.reason}" for member in skipped)
        raise ConfigError(f"no source can be used{f' ({reasons})' if reasons else ''}; name at least one")
    return entries, skipped


def _sources_in(spec: SourceSpec) -> Iterator[SourceEntry | Skipped]:
    if isinstance(spec, SourceEntry):
        yield type(spec).model_validate(absolute_paths(spec.model_dump(), Path.cwd()))
    elif isinstance(spec, Mapping):
        yield _entry(spec, Path.cwd(), f"source {spec.get('name', '')!r}")
    elif (path := Path(spec)).is_dir():
        yield from _in_folder(path.resolve())
    elif path.name == FILE_NAME:
        yield _entry_of_card(path.resolve())
    elif path.suffix in _YAML and (path.is_file() or ":" not in str(spec)):
        yield from _in_yaml(path)
    elif (bank := shipped_files("bank").get(path.as_posix())) is not None:
        yield from _in_yaml(bank)
    elif (fields := _kind_and_model(str(spec))) is not None:
        yield _entry(fields, Path.cwd(), str(spec))
    else:
        yield _config_and_weights(str(spec))


def _in_yaml(file: Path) -> Iterator[SourceEntry]:
    for index, fields in enumerate(load_yaml(file, _BankFile).sources):
        yield _entry(fields, file.resolve().parent, f"{file}: sources.{index}")


def _entry(fields: Mapping[str, Any], folder: Path, origin: str) -> SourceEntry:
    """Parse an entry with absolute paths; a missing dataset is taken from the model, or else from the entry's name."""
    is_guessed = "dataset" not in fields and "name" in fields
    fields = {**fields, "dataset": fields["name"]} if is_guessed else fields
    try:
        entry = parse_entry(absolute_paths(parse_entry(fields).model_dump(), folder))
    except ValidationError as error:
        raise ConfigError(f"{origin}: {one_line(error, fields)}") from error
    if entry.kind == "study":
        raise ConfigError(f"{origin}: source {entry.name!r} has none of {marker_fields()}; add one")
    if entry.name == SCRATCH:
        raise ConfigError(f"{origin}: {SCRATCH!r} is reserved for the control; choose another name")
    known = entry.known_dataset if is_guessed else None
    return entry.model_copy(update={"dataset": known}) if known else entry


def _in_folder(folder: Path) -> Iterator[SourceEntry | Skipped]:
    """Yield the source in a folder, or the sources in its subfolders."""
    fields = fields_in_folder(folder)
    if fields is not None:
        yield _named_after(folder, fields)
        return
    members = [member for path in sorted(folder.iterdir()) if path.is_dir() and (member := _member(path))]
    if not members:
        raise ConfigError(f"{folder}: holds no source; name a folder whose subfolders hold {folder_hints()}")
    yield from members


def _member(folder: Path) -> SourceEntry | Skipped | None:
    """Return the source in a subfolder, or the reason why it cannot be used; None if the folder holds no source."""
    try:
        fields = fields_in_folder(folder)
        return None if fields is None else _named_after(folder, fields)
    except Exception as error:  # one bad member stops no other
        return Skipped(folder.name, " ".join(str(as_failure(error)).split()))


def _entry_of_card(card: Path) -> SourceEntry:
    # A missing card is an error, whatever else its folder holds.
    fields = fields_in_folder(card.parent) if card.is_file() else None
    return _named_after(card.parent, fields or {"config": card})


def _named_after(folder: Path, fields: Mapping[str, Any]) -> SourceEntry:
    return _entry({"name": folder.name, **fields}, folder, str(folder))


def _kind_and_model(text: str) -> dict[str, Any] | None:
    """Return the fields of a model that is named as the field of its entry names it; None for any other text."""
    marker, _, model = text.partition(":")
    if not model or all(adapter.marker != marker for adapter in ADAPTERS.values()):
        return None
    return {"name": _NOT_IN_NAMES.sub("-", re.split("[:/]", model.rstrip("/"))[-1]), marker: model}


def _config_and_weights(text: str) -> SourceEntry:
    config, _, weights = text.rpartition(":")
    if not config or not weights:
        banks = ", ".join(shipped_files("bank"))
        raise ConfigError(
            f"{text}: no such folder or file; name a YAML bank, a folder of models, a {FILE_NAME}, CONFIG:WEIGHTS, "
            f"KIND:MODEL (such as mmseg:NAME or transformers:ORG/NAME), or a shipped bank ({banks})"
        )
    fields = {"name": Path(weights).stem, "config": config, "checkpoint": weights}
    return _entry(fields, Path.cwd(), text)
