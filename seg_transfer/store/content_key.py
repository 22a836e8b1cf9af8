"""Content keys: equal keys mean that a stored result is the one a new computation would give.

``README.md`` beside this file lists all keys and their parts.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Self

from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.records import Record
from seg_transfer.store.memo import digests, is_settled, version_of

SCHEMA_VERSION = 1
_VERSION = "schema_version"
# What a manifest says about people and places decides no number.
_NOT_DECISIVE = {"title", "domain", "licence", "citation", "root", "obtain", "notes", "trust_mtime"}
# Longer values of parts are told apart by a digest.
_LONGEST_VALUE = 60
DIGEST = "sha256:"


class Key(str):
    """A content key that can say what it was made of.

    Attributes:
        parts: Dotted name of every part -> its value, or ``sha256:`` and a digest where that would be long.
    """

    parts: dict[str, str]

    def __new__(cls, value: str, parts: Mapping[str, str] | None = None) -> Self:
        """A key of this value; without parts it is one value among the parts of other keys."""
        key = super().__new__(cls, value)
        key.parts = dict(parts or {})
        return key


def content_key(**parts: object) -> Key:
    """Hex sha256 over named, JSON-serialisable parts and the schema version; the order of the names is irrelevant.

    >>> content_key(seed=1, metric="gbc") == content_key(metric="gbc", seed=1) != content_key(metric="gbc", seed=2)
    True
    >>> content_key(start=content_key(weights=None), schedule={"steps": 700}).parts
    {'start.weights': 'null', 'schedule.steps': '700', 'schema_version': '1'}
    """
    every = {**parts, _VERSION: SCHEMA_VERSION}
    return Key(_sha256(every), dict(chain.from_iterable(_named(name, value) for name, value in every.items())))


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _named(name: str, value: object) -> Iterator[tuple[str, str]]:
    """A part of a key under its name: the parts of a key within it, and the fields of a mapping, under their own."""
    if isinstance(value, Key) and value.parts:
        yield from ((f"{name}.{part}", text) for part, text in value.parts.items() if part != _VERSION)
    elif isinstance(value, Mapping) and value:
        yield from ((f"{name}.{field}", _shown(item)) for field, item in value.items())
    elif isinstance(value, list) and any(isinstance(item, Key) for item in value):
        yield from chain.from_iterable(_named(f"{name}.{place}", item) for place, item in enumerate(value))
    else:
        yield name, _shown(value)


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{DIGEST}{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def manifest_key(manifest: DatasetManifest) -> Key:
    """Key of everything in a manifest that can change a number."""
    decisive = manifest.model_dump(mode="json", exclude=_NOT_DECISIVE)
    return Key(content_key(manifest=decisive), {field: _shown(value) for field, value in decisive.items()})


def settings_key(kind: str, resolved: Mapping[str, Any], target: str) -> Key:
    """Key of the settings in a resolved study that decide a target's "scores" or "performance"; reads no data.

    It stands in each result file, so that results of other settings are told from those of the study without the data
    at hand.
    """
    study, manifest = resolved["study"], resolved["manifests"][target]
    names = {"scores": ("normalisation", "sampling", "keep_features"), "performance": ("normalisation",)}[kind]
    return content_key(
        kind=kind,
        manifest={name: value for name, value in manifest.items() if name not in _NOT_DECISIVE},
        study={name: study.get(name) for name in names},
        schedule=resolved.get("fine_tuning_schedule") if kind == "performance" else None,
    )


def records_key(records: Iterable[Record], *, trust_mtime: bool, memo: Path | None = None) -> Key:
    """Key of the bytes of all images and labels; with `trust_mtime`, of their sizes and modification times instead.

    What records share, the categories of their segments, counts once, and whole: another category of a segment that no
    record shows changes the key too. `memo` is a folder in which the hashes of files that do not change are kept.
    """
    every = list(records)
    shared = sorted({record.segments for record in every if record.segments is not None})
    files = [file for record in every for file in (record.image, record.label)] + shared
    of_file = iter([*map(_size_and_time, files)] if trust_mtime else digests(files, memo, _sha256_of_file))
    # Without parts: thousands of files are one part of a key.
    parts: dict[str, object] = {"records": [[record.image_id, next(of_file), next(of_file)] for record in every]}
    if shared:
        parts["segments"] = list(of_file)
    return Key(_sha256({**parts, _VERSION: SCHEMA_VERSION}))


def sha256_of_file(file: Path, memo: Path | None = None) -> str:
    """Hex sha256 of a file's bytes; `memo` as for `records_key`."""
    return digests([file], memo, _sha256_of_file)[0]


def _size_and_time(file: Path) -> str:
    """What stays the same of a file that is copied with its time."""
    status = file.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


# File and version -> hex sha256: each version of a file is read once in a process.
_KNOWN: dict[tuple[Path, str], str] = {}


def _sha256_of_file(file: Path) -> str:
    began, version = time.time_ns(), version_of(file)
    if (file, version) in _KNOWN:
        return _KNOWN[file, version]
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if is_settled(version, began):
        _KNOWN[file, version] = found
    return found
