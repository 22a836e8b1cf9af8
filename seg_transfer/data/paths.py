"""Checks that the paths of a dataset stay inside its folder: a downloaded dataset must not read other files."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path, PurePosixPath

from seg_transfer.data.fields import stays_inside

Check = Callable[[str], str | None]
FOLLOW_LINKS = "SEG_TRANSFER_FOLLOW_LINKS"
"""Environment variable that a user sets to 1 to follow links out of the folders of datasets."""


def path_checker(root: Path, *, follows_links: bool = False) -> Check:
    """Return a function that returns the problem of a path, or None.

    Args:
        root: Folder of the dataset. It may itself be a link that the user made.
        follows_links: Whether links may lead out of the folder: for folders that the user has named.

    Example:
        >>> path_checker(Path("/data"))("../etc/hosts")
        '../etc/hosts leads out of /data; move the file inside'
    """
    follows_links = follows_links or os.environ.get(FOLLOW_LINKS) == "1"
    inside = root.resolve()

    @cache
    def is_inside(folder: PurePosixPath) -> bool:
        return (root / folder).resolve().is_relative_to(inside)

    def leads_out(path: str) -> bool:
        if not stays_inside(path):
            return True
        if follows_links:
            return False
        # Only the last part of a path can be a link by itself; folders are looked at once.
        return not is_inside(PurePosixPath(path) if (root / path).is_symlink() else PurePosixPath(path).parent)

    def problem(path: str) -> str | None:
        if leads_out(path):
            hint = f", or set {FOLLOW_LINKS}=1 to follow links" if stays_inside(path) else ""
            return f"{path} leads out of {root}; move the file inside{hint}"
        return None if (root / path).is_file() else f"{path} does not exist in {root}; add the file or correct its name"

    return problem
