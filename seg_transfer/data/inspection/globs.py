"""Globs by which a manifest names the files of a folder, and leaves hidden ones out."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from seg_transfer.data.inspection.listing import Listing
from seg_transfer.data.inspection.places import paths_in, relative_to


def globs_for(root: Path, folder: Path, listing: Listing, used: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return globs for the files of a folder by their suffixes; ``**`` does not pass through links."""
    relative = relative_to(root, folder)
    suffixes = sorted({PurePosixPath(file).suffix for file in (listing.files if used is None else used)})
    folders = [relative, *paths_in(relative, listing.linked)]
    return tuple(glob_of(each, "**", f"*{suffix}") for each in folders for suffix in suffixes)


def globs_for_hidden(root: Path, folder: Path, listing: Listing) -> tuple[str, ...]:
    """Return globs for hidden files, and for files in hidden folders; ``**`` does not pass through links."""
    relative, hidden = relative_to(root, folder), listing.skipped.get("hidden", ())
    folders = [name for name in hidden if (folder / name).is_dir()]
    return (
        *(glob_of(each, "**", ".*") for each in ((relative, *paths_in(relative, listing.linked)) if hidden else ())),
        *(glob_of(path, "**", "*") for path in paths_in(relative, folders)),
    )


def glob_of(path: str, *more: str) -> str:
    """Return the glob of a path, whatever signs it has, and of more parts below it."""
    return "/".join([*([glob.escape(path)] if path else []), *more])
