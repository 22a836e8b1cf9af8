"""Paths below the folder that holds both images and label maps."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from seg_transfer.data.fields import stays_inside
from seg_transfer.data.inspection.listing import Listing, is_below, list_files
from seg_transfer.errors import DataError


def all_skipped(root: Path, *listings: tuple[Path, Listing]) -> dict[str, tuple[str, ...]]:
    """Merge what several listings skipped; what one skips, another may use."""
    used = {path for folder, listing in listings for path in paths_in(relative_to(root, folder), listing.files)}
    skipped: dict[str, set[str]] = {}
    for folder, listing in listings:
        for reason, files in listing.skipped.items():
            skipped.setdefault(reason, set()).update(paths_in(relative_to(root, folder), files))
    return {reason: tuple(sorted(files - used)) for reason, files in skipped.items() if files - used}


def common_root(*folders: Path) -> Path:
    """Return the innermost folder that holds all of these, without links in its path."""
    return Path(os.path.commonpath([folder.resolve() for folder in folders]))


def as_given(root: Path, *given: Path) -> Path:
    """Return the root relative to the working directory if that is how the paths below it were given."""
    relative = os.path.relpath(root)
    is_below = not relative.startswith("..") or any(path.parts[:1] == ("..",) for path in given)
    return Path(relative) if is_below and not any(path.is_absolute() for path in given) else root


def beside(folder: Path, inner: Path, suffixes: Collection[str]) -> Path:
    """Return the folder below this one that holds all its files outside ``inner``; itself, unless there is such a one.

    With label maps in ``data/labels`` and images in ``data/images``, people give ``data`` for one of both.
    """
    if folder.resolve() == inner.resolve() or not inner.resolve().is_relative_to(folder.resolve()):
        return folder
    within = relative_to(folder.resolve(), inner)
    parents = {file.rpartition("/")[0] for file in list_files(folder, suffixes).files if not is_below(file, within)}
    common = os.path.commonpath(parents) if parents and "" not in parents else ""
    return folder if not common or is_below(within, common) else folder / common


def relative_to(root: Path, path: Path) -> str:
    """Return a path as manifests have it; empty for the root itself. Raises DataError if no manifest can have it."""
    relative = path.resolve().relative_to(root).as_posix()
    if not stays_inside(relative):
        raise DataError(
            f"{path}: no manifest can name it, because of a backslash, or a letter and ':' at its beginning; rename it"
        )
    return "" if relative == "." else relative


def paths_in(folder: str, files: Iterable[str]) -> list[str]:
    """Return the files of a folder relative to what the folder is relative to."""
    return [f"{folder}/{file}" if folder else file for file in files]
