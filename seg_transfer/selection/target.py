"""The target of a ranking: a manifest, or folders of images and label maps."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from seg_transfer.data.inspection import Answers, Inspection, inspect_folders, parse_answers
from seg_transfer.data.inspection.report import summary_lines
from seg_transfer.data.manifest import DatasetManifest, load_manifest
from seg_transfer.errors import ConfigError, printable

Target = str | Path | Mapping[str, object] | DatasetManifest
_FOLDERS = ("images", "labels", "names")
_logger = logging.getLogger(__name__)


def target_manifest(target: Target, data_root: Path, limit: int | None = None) -> tuple[DatasetManifest, Path]:
    """Return the manifest of a target, and the data root that it is relative to.

    Args:
        target: A manifest or its file; or ``{"images": folder, "labels": folder}``, where ``names``, a file of class
            names, and fields of `seg_transfer.data.inspection.Answers` may be added.
        data_root: Folder that the root of a manifest is relative to.
        limit: Number of images that will be used; 150 by default.

    Raises:
        ConfigError: A manifest breaks a rule, or a key of the mapping is unknown.
        DataError: Folders are missing, or cannot be read in any way.
        DoubtfulError: Folders can be read in more than one way; the message has the answer for each.
    """
    if isinstance(target, DatasetManifest):
        return target, data_root
    if not isinstance(target, Mapping):
        return load_manifest(Path(target)), data_root
    found = _inspect(target, limit)
    found.require_certain()
    for line in summary_lines(found):
        _logger.info("%s", printable(line))
    return found.manifest, found.root


def _inspect(target: Mapping[str, object], limit: int | None) -> Inspection:
    """Look at a target that is given as folders: ``images``, ``labels``, perhaps ``names``, and fields of `Answers`."""
    keys = (*_FOLDERS, *(field.name for field in fields(Answers)))
    for key in target:
        if key not in keys:
            raise ConfigError(f"target: key {key!r} is unknown; choose among {', '.join(keys)}")
    for key in ("images", "labels"):
        if not target.get(key):
            raise ConfigError(f"target: key {key!r} is missing; name the folder of {key}")
    names = Path(str(target["names"])) if target.get("names") else None
    stated = {name: value for name, value in target.items() if name not in _FOLDERS}
    return inspect_folders(
        Path(str(target["images"])), Path(str(target["labels"])), names, parse_answers(stated), limit=limit
    )
