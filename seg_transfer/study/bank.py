"""Banks of sources: a YAML file, a folder of models, one model, or an entry given in Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from seg_transfer.data.manifest import SCRATCH, load_yaml, one_line
from seg_transfer.errors import CheckpointError, ConfigError, as_failure
from seg_transfer.models.entry import SourceEntry, absolute
from seg_transfer.models.transformers_folder import CONFIG, read_folder
from seg_transfer.store.source_card import FILE_NAME, read_source_card

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
    """Find sources, wherever they are said to be.

    Args:
        where: Each is one of
            a YAML file with ``sources:``, a list of entries as in a study (paths relative to the file);
            a folder, in which each sub-folder with a ``source.json`` or a transformers ``config.json`` is a source of
            its name, or which is such a folder itself;
            a ``source.json``;
            ``CONFIG:WEIGHTS``, an mmseg config and its checkpoint, named after the file of the weights;
            a `SourceEntry`, or a mapping with its fields (paths relative to the working directory).
            Where no ``dataset`` is given, it is that of the ``source.json``, or else the source's name.

    Returns:
        The entries, in the order given (of a folder: of their names), and the members of folders that cannot be used.

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
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled:
        raise ConfigError(f"source {doubled!r} is there twice; name each source once, a YAML bank can rename one")
    if not entries:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in skipped)
        raise ConfigError(f"no source can be used{f' ({reasons})' if reasons else ''}; name one at least")
    return entries, skipped


def _found(where: Where) -> Iterator[SourceEntry | Skipped]:
    if isinstance(where, SourceEntry):
        yield SourceEntry.model_validate(absolute(where.model_dump(), Path.cwd()))
    elif isinstance(where, Mapping):
        yield _entry(where, Path.cwd(), f"source {where.get('name', '')!r}")
    elif (path := Path(where)).is_dir():
        yield from _in_folder(path.resolve())
    elif path.name == FILE_NAME:
        yield _member(path.resolve().parent)
    elif path.suffix in _YAML and (path.is_file() or ":" not in str(where)):
        yield from _in_yaml(path)
    else:
        yield _pair(str(where))


def _in_yaml(file: Path) -> Iterator[SourceEntry]:
    for place, fields in enumerate(load_yaml(file, _BankFile).sources):
        yield _entry(fields, file.resolve().parent, f"{file}: sources.{place}")


def _entry(fields: Mapping[str, Any], folder: Path, origin: str) -> SourceEntry:
    """An entry with absolute paths; its dataset is that of its card, or its name."""
    if "dataset" not in fields and "name" in fields:
        fields = {**fields, "dataset": fields["name"]}
        guessed = True
    else:
        guessed = False
    try:
        entry = SourceEntry.model_validate(absolute(SourceEntry.model_validate(fields).model_dump(), folder))
    except ValidationError as error:
        raise ConfigError(f"{origin}: {one_line(error, fields)}") from error
    if entry.kind == "study":
        raise ConfigError(
            f"{origin}: source {entry.name!r} has none of config, transformers, timm and factory; add one"
        )
    if entry.name == SCRATCH:
        raise ConfigError(f"{origin}: {SCRATCH!r} is reserved for the control; choose another name")
    if guessed and entry.config is not None and entry.config.name == FILE_NAME:
        return entry.model_copy(update={"dataset": read_source_card(entry.config).dataset})
    return entry


def _in_folder(folder: Path) -> Iterator[SourceEntry | Skipped]:
    if _is_source(folder):
        yield _member(folder)
        return
    members = [path for path in sorted(folder.iterdir()) if path.is_dir() and _is_source(path)]
    if not members:
        raise ConfigError(
            f"{folder}: holds no source; name a folder whose sub-folders hold a {FILE_NAME} or a transformers {CONFIG}"
        )
    for member in members:
        try:
            yield _member(member)
        except Exception as error:  # one bad member stops no other
            yield Skipped(member.name, " ".join(str(as_failure(error)).split()))


def _is_source(folder: Path) -> bool:
    return (folder / FILE_NAME).exists() or (folder / CONFIG).exists()


def _member(folder: Path) -> SourceEntry:
    """The source in a folder, named after it. What is in the folder is looked at, but for the weights."""
    card = folder / FILE_NAME
    if not card.exists():
        read_folder(folder)
        return _entry({"name": folder.name, "transformers": folder}, folder, str(folder))
    weights = read_source_card(card).weights_file(folder)
    if not weights.is_file():
        raise CheckpointError(f"{weights}: no such checkpoint file, though {card} names it; copy it there")
    return _entry({"name": folder.name, "config": card}, folder, str(card))


def _pair(text: str) -> SourceEntry:
    config, _, weights = text.rpartition(":")
    if not config or not weights:
        raise ConfigError(
            f"{text}: no such folder or file; name a YAML bank, a folder of models, a {FILE_NAME}, or CONFIG:WEIGHTS"
        )
    fields = {"name": Path(weights).stem, "config": config, "checkpoint": weights}
    return _entry(fields, Path.cwd(), text)
