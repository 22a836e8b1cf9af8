"""Lists the files of a folder that people made: what may be an image or a label map, and what is skipped, and why."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from seg_transfer.errors import DataError

IMAGE_SUFFIXES = frozenset(
    (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
LABEL_SUFFIXES = IMAGE_SUFFIXES | {".npy", ".npz"}
# Left by file managers, editors and archivers beside files that people made.
_HIDDEN_NAMES = frozenset(("thumbs.db", "desktop.ini", "__macosx", "$recycle.bin"))


@dataclass(frozen=True)
class Listing:
    """The files of a folder.

    Attributes:
        files: Files with a suffix that was asked for, as sorted POSIX paths relative to the folder.
        linked: Folders among them, or above them, that are links.
        skipped: Reason -> all other files, and folders that were not searched.
    """

    files: tuple[str, ...]
    linked: tuple[str, ...] = ()
    skipped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def list_files(folder: Path, suffixes: Collection[str]) -> Listing:
    """List the files of a folder and of all folders below, also through links.

    Args:
        folder: The folder.
        suffixes: Suffixes of the wanted files, in lower case.

    Raises:
        DataError: A folder cannot be read, or a name has a backslash.
    """
    files: list[str] = []
    skipped: dict[str, list[str]] = defaultdict(list)
    linked: list[str] = []
    for path, reason, is_link in _entries(folder):
        name = path.relative_to(folder).as_posix()
        if is_link:
            linked.append(name)
        elif reason:
            skipped[reason].append(name)
        elif PurePosixPath(name).suffix.lower() in suffixes:
            files.append(name)
        else:
            skipped["no image"].append(name)
    for name in (*files, *linked, *skipped.get("hidden", ())):
        if "\\" in name:
            # No manifest can name it, because other systems read it as a path; archives made there name files so.
            raise DataError(f"{folder / name}: has a backslash in its name; rename it")
    return Listing(tuple(sorted(files)), tuple(sorted(linked)), {why: tuple(sorted(skipped[why])) for why in skipped})


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is skipped without a look.

    Example:
        >>> is_hidden(".DS_Store"), is_hidden("Thumbs.db"), is_hidden("road.png")
        (True, True, False)
    """
    return name.startswith(".") or name.lower() in _HIDDEN_NAMES


def is_below(path: str, folder: str) -> bool:
    """Whether a path lies in a folder, or is the folder; both are absolute, or relative to the same."""
    return f"{path}/".startswith(f"{folder}/")


def _entries(folder: Path, above: tuple[str, ...] = ()) -> Iterator[tuple[Path, str, bool]]:
    """Yield every file, with the reason to skip it, and every folder that is a link, except to a folder above it."""
    above = (*above, os.path.realpath(folder))
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); change its permissions") from error
    for entry in found:
        path = folder / entry.name
        if is_hidden(entry.name):
            yield path, "hidden", False
        elif not path.is_dir():  # a link to itself is an error for DirEntry.is_dir
            yield path, "" if path.is_file() else "no file, or a broken link", False
        elif not entry.is_symlink():
            yield from _entries(path, above)
        elif _contains_any(os.path.realpath(path), above):
            yield path, "link to a folder above", False
        else:
            yield path, "", True
            yield from _entries(path, above)


def _contains_any(folder: str, others: Collection[str]) -> bool:
    """Whether one of the others is the folder or lies in it: links to such a folder have no end."""
    return any(is_below(other, folder.rstrip("/")) for other in others)
