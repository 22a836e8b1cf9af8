"""The target of a ranking: a manifest, or folders of images and label maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from seg_transfer.data.inspection import Inspection, inspect_folders, parse_answers
from seg_transfer.data.manifest import DatasetManifest, load_manifest
from seg_transfer.errors import ConfigError

Target = str | Path | Mapping[str, object] | DatasetManifest
_FOLDERS = ("images", "labels", "names")


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
    return found.manifest, found.root


def _inspect(target: Mapping[str, object], limit: int | None) -> Inspection:
    """Look at a target that is given as folders: ``images``, ``labels``, perhaps ``names``, and fields of `Answers`."""
    if not {"images", "labels"} <= set(target):
        raise ConfigError(f"target {dict(target)!r}: must have the folders images and labels; add them")
    names = Path(str(target["names"])) if target.get("names") else None
    stated = {name: value for name, value in target.items() if name not in _FOLDERS}
    return inspect_folders(
        Path(str(target["images"])), Path(str(target["labels"])), names, parse_answers(stated), limit=limit
    )
