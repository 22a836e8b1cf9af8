"""Content keys: equal keys mean that a stored result is the one a new computation would give."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.records import Record

SCHEMA_VERSION = 1
# What a manifest says about people and places decides no number.
_NOT_DECISIVE = {"title", "domain", "licence", "citation", "root", "notes", "trust_mtime"}


def content_key(**parts: object) -> str:
    """Hex sha256 over named, JSON-serialisable parts and the schema version; the order of the names is irrelevant.

    >>> content_key(seed=1, metric="gbc") == content_key(metric="gbc", seed=1) != content_key(metric="gbc", seed=2)
    True
    """
    text = json.dumps({**parts, "schema_version": SCHEMA_VERSION}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def manifest_key(manifest: DatasetManifest) -> str:
    """Key of everything in a manifest that can change a number."""
    return content_key(manifest=manifest.model_dump(mode="json", exclude=_NOT_DECISIVE))


def settings_key(kind: str, resolved: Mapping[str, Any], target: str) -> str:
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


def records_key(records: Iterable[Record], *, trust_mtime: bool) -> str:
    """Key of the bytes of all images and labels; with `trust_mtime`, of their sizes and modification times instead."""
    identity = _size_and_time if trust_mtime else sha256_of_file
    parts = [[record.image_id, identity(record.image), identity(record.label)] for record in records]
    return content_key(records=parts)


def _size_and_time(file: Path) -> str:
    status = file.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def sha256_of_file(file: Path) -> str:
    """Hex sha256 of a file's bytes."""
    return _sha256_of_version(file, _size_and_time(file))


@cache
def _sha256_of_version(file: Path, _version: str) -> str:
    """Each version of a file is read once in a process."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
