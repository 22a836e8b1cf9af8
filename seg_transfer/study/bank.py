"""Model banks: sources from a YAML file, a folder of models, one model, or an entry given in Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from seg_transfer.data.manifest import SCRATCH
from seg_transfer.data.validation import load_yaml, one_line
from seg_transfer.errors import ConfigError, as_failure
from seg_transfer.models.entry import SourceEntry, absolute_paths
from seg_transfer.models.sources import fields_in_folder, folder_hints, marker_fields, parse_entry
from seg_transfer.store.source_card import FILE_NAME

Where = str | Path | Mapping[str, Any] | SourceEntry

_YAML = {".yaml", ".yml"}


class Skipped(NamedTuple):
    """A member of a folder that cannot be used, and why."""

    name: str
    reason: str


class _BankFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: list[dict[str, Any]] = Field(min_length=1)


def read_sources(*where: Where) -> tuple[list[SourceEntry], list[Skipped]]:
    """Read the sources of a model bank.

    Args:
        where: Each is one of

            * a YAML file with ``sources:``, a list of entries as in a study (paths relative to the file);
            * a folder with a model of a kind that is recognized there, such as a ``source.json`` or a transformers
              ``config.json``, or a folder of such folders; the folder names the source;
            * a ``source.json``;
            * ``CONFIG:WEIGHTS``, an mmseg config and its checkpoint, named after the file of the weights;
            * a `SourceEntry`, or a mapping with its fields (paths relative to the working directory).

            Where no ``dataset`` is given, it is that of the ``source.json``, or else the source's name.

    Returns:
        The entries in the order given, those of a folder by name; and the members of folders that cannot be used.

    Raises:
        ConfigError: Nothing is found, an entry breaks a rule, or two sources have one name.
        CheckpointError: A ``source.json`` that was named is damaged.
    """
    entries: list[SourceEntry] = []
    skipped: list[Skipped] = []
    for one in where:
        for found in _found(one):
            (entries if isinstance(found, SourceEntry) else skipped).append(found)  # type: ignore[arg-type]
    names = [entry.name for entry in entries]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate:
        raise ConfigError(f"source {duplicate!r} appears twice; name each source once, a YAML bank can rename one")
    if not entries:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in skipped)
        raise ConfigError(f"no source can be used{f' ({reasons})' if reasons else ''}; name one at least")
    return entries, skipped


def _found(where: Where) -> Iterator[SourceEntry | Skipped]:
    if isinstance(where, SourceEntry):
        yield type(where).model_validate(absolute_paths(where.model_dump(), Path.cwd()))
    elif isinstance(where, Mapping):
        yield _entry(where, Path.cwd(), f"source {where.get('name', '')!r}")
    elif (path := Path(where)).is_dir():
        yield from _in_folder(path.resolve())
    elif path.name == FILE_NAME:
        yield _of_card(path.resolve())
    elif path.suffix in _YAML and (path.is_file() or ":" not in str(where)):
        yield from _in_yaml(path)
    else:
        yield _pair(str(where))


def _in_yaml(file: Path) -> Iterator[SourceEntry]:
    for index, fields in enumerate(load_yaml(file, _BankFile).sources):
        yield _entry(fields, file.resolve().parent, f"{file}: sources.{index}")


def _entry(fields: Mapping[str, Any], folder: Path, origin: str) -> SourceEntry:
    """An entry with absolute paths; a missing dataset is the one that the model itself names, or the entry's name."""
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
    """The source that a folder is, or those of its sub-folders."""
    fields = fields_in_folder(folder)
    if fields is not None:
        yield _named_after(folder, fields)
        return
    members = [found for path in sorted(folder.iterdir()) if path.is_dir() and (found := _member(path))]
    if not members:
        raise ConfigError(f"{folder}: holds no source; name a folder whose sub-folders hold {folder_hints()}")
    yield from members


def _member(folder: Path) -> SourceEntry | Skipped | None:
    """The source in a sub-folder, or why it cannot be used; None where the folder holds none."""
    try:
        fields = fields_in_folder(folder)
        return None if fields is None else _named_after(folder, fields)
    except Exception as error:  # one bad member stops no other
        return Skipped(folder.name, " ".join(str(as_failure(error)).split()))


def _of_card(card: Path) -> SourceEntry:
    # A card that does not exist is an error of its own, whatever else its folder holds.
    fields = fields_in_folder(card.parent) if card.is_file() else None
    return _named_after(card.parent, fields or {"config": card})


def _named_after(folder: Path, fields: Mapping[str, Any]) -> SourceEntry:
    return _entry({"name": folder.name, **fields}, folder, str(folder))


def _pair(text: str) -> SourceEntry:
    config, _, weights = text.rpartition(":")
    if not config or not weights:
        raise ConfigError(
            f"{text}: no such folder or file; name a YAML bank, a folder of models, a {FILE_NAME}, or CONFIG:WEIGHTS"
        )
    fields = {"name": Path(weights).stem, "config": config, "checkpoint": weights}
    return _entry(fields, Path.cwd(), text)
