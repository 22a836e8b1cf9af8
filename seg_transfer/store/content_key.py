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

from seg_transfer.data.manifest import SCRATCH, DatasetManifest
from seg_transfer.data.record import Record
from seg_transfer.store.memo import digests, is_settled, version_of

SCHEMA_VERSION = 1
_VERSION = "schema_version"
# Fields of a source that decide its scores or its fine-tunings, beside its weights.
_FIELDS_OF_SOURCES = {"scores": ("features",), "performance": ("features", "learning_rate")}
# Fields of a manifest that do not affect any number.
_FIELDS_WITHOUT_EFFECT = {"title", "domain", "licence", "citation", "root", "obtain", "notes", "trust_mtime"}
# Longer values of parts are replaced with a digest.
_MAX_VALUE_LENGTH = 60
DIGEST = "sha256:"


class Key(str):
    """A content key that knows the values it was computed from.

    Attributes:
        parts: Dotted name of every part -> its value, or ``sha256:`` and a digest where the value is long.
    """

    parts: dict[str, str]

    def __new__(cls, value: str, parts: Mapping[str, str] | None = None) -> Self:
        """Create a key; without parts, it appears as a single value among the parts of other keys."""
        key = super().__new__(cls, value)
        key.parts = dict(parts or {})
        return key


def content_key(**parts: object) -> Key:
    """Compute the sha256, in hex, of named parts and the schema version.

    Args:
        parts: JSON-serializable values; their order is irrelevant.

    Example:
        >>> content_key(seed=1, metric="gbc") == content_key(metric="gbc", seed=1) != content_key(metric="gbc", seed=2)
        True
        >>> content_key(start=content_key(weights=None), schedule={"steps": 700}).parts
        {'start.weights': 'null', 'schedule.steps': '700', 'schema_version': '1'}
    """
    versioned = {**parts, _VERSION: SCHEMA_VERSION}
    return Key(_sha256(versioned), dict(chain.from_iterable(_named(name, value) for name, value in versioned.items())))


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _named(name: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield the names and values of a part; a nested key or a mapping yields each of its parts."""
    if isinstance(value, Key) and value.parts:
        yield from ((f"{name}.{part}", text) for part, text in value.parts.items() if part != _VERSION)
    elif isinstance(value, Mapping) and value:
        yield from ((f"{name}.{field}", _shown(item)) for field, item in value.items())
    elif isinstance(value, list) and any(isinstance(item, Key) for item in value):
        yield from chain.from_iterable(_named(f"{name}.{index}", item) for index, item in enumerate(value))
    else:
        yield name, _shown(value)


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{DIGEST}{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def manifest_key(manifest: DatasetManifest) -> Key:
    """Return the key of all fields of a manifest that can change a number."""
    decisive = manifest.model_dump(mode="json", exclude=_FIELDS_WITHOUT_EFFECT)
    return Key(content_key(manifest=decisive), {field: _shown(value) for field, value in decisive.items()})


def settings_key(kind: str, resolved: Mapping[str, Any], target: str, source: str = "") -> Key:
    """Return the key of the settings of a study that decide the results on a target.

    Each result file holds this key, so that results of other settings are recognized without access to the data.

    Args:
        kind: "scores" or "performance".
        resolved: The resolved study.
        target: Name of the target.
        source: Name of the source, for its own settings. Sources without any share their keys.
    """
    study, manifest = resolved["study"], resolved["manifests"][target]
    names = {"scores": ("normalisation", "sampling", "keep_features"), "performance": ("normalisation",)}[kind]
    named = [entry for entry in study.get("sources", []) if entry["name"] == source]
    # The control from scratch is the study's own model, which may be an entry.
    entries = [study["model"]] if source == SCRATCH and isinstance(study.get("model"), Mapping) else named
    # Added later: keys of studies that hold nothing out stay as they were.
    names += ("hold_out",) if study.get("hold_out") else ()
    # Likewise of those that compute features in float32.
    names += ("precision",) if kind == "scores" and study.get("precision", "float32") != "float32" else ()
    own = {name: entry[name] for entry in entries for name in _FIELDS_OF_SOURCES[kind] if entry.get(name) is not None}
    return content_key(
        **({"source": own} if own else {}),
        kind=kind,
        manifest={name: value for name, value in manifest.items() if name not in _FIELDS_WITHOUT_EFFECT},
        study={name: study.get(name) for name in names},
        schedule=resolved.get("fine_tuning_schedule") if kind == "performance" else None,
    )


def records_key(records: Iterable[Record], *, trust_mtime: bool, memo: Path | None = None) -> Key:
    """Return the key of the contents of all images and labels.

    A file that several records share is read once. The categories of segments are included once; the image and label
    map of tiles, with the position of each tile.

    Args:
        records: The records, in order.
        trust_mtime: Use sizes and modification times of files instead of their bytes.
        memo: Folder that caches the hashes of unchanged files; None disables the cache.
    """
    all_records = list(records)
    shared = sorted({record.companion for record in all_records if record.companion is not None})
    files = list(dict.fromkeys([file for record in all_records for file in (record.image, record.label)] + shared))
    values = [*map(_size_and_time, files)] if trust_mtime else digests(files, memo, _sha256_of_file)
    digest_of = dict(zip(files, values, strict=True))
    # The key has no parts, because thousands of files should count as one part of another key.
    parts: dict[str, object] = {
        "records": [
            [record.image_id, digest_of[record.image], digest_of[record.label], *_place(record)]
            for record in all_records
        ]
    }
    if shared:
        parts["segments"] = [digest_of[file] for file in shared]
    return Key(_sha256({**parts, _VERSION: SCHEMA_VERSION}))


def _place(record: Record) -> list[object]:
    """Return what says which part of its files a record is; [] if it is all of them."""
    window = [] if record.window is None else [list(record.window)]
    places = {"row": record.row, "entry": record.entry}
    return [*window, *({name: position} for name, position in places.items() if position is not None)]


def sha256_of_file(file: Path, memo: Path | None = None) -> str:
    """Compute the sha256, in hex, of a file; `memo` is as in `records_key`."""
    return digests([file], memo, _sha256_of_file)[0]


def _size_and_time(file: Path) -> str:
    """Return the size and modification time of a file, which a copy may preserve."""
    status = file.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


# File and version -> sha256. A process reads each version of a file once.
_SHA256_CACHE: dict[tuple[Path, str], str] = {}


def _sha256_of_file(file: Path) -> str:
    began, version = time.time_ns(), version_of(file)
    if (file, version) in _SHA256_CACHE:
        return _SHA256_CACHE[file, version]
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if is_settled(version, began):
        _SHA256_CACHE[file, version] = digest
    return digest
