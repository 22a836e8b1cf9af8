"""Files that come with the software: configs and data manifests, in a checkout or in an installed wheel."""

from pathlib import Path

from seg_transfer.errors import ResultsError

_PACKAGE = Path(__file__).resolve().parent


def shipped(relative: str) -> Path:
    """Path of a shipped file or folder, given as in a checkout: "data_manifests/camvid.yaml".

    A wheel carries them inside the package, in `_shipped`; a checkout has them beside it.
    Raises ResultsError if it is absent.

    >>> shipped("data_manifests/published").name
    'published'
    """
    installed = _PACKAGE / "_shipped"
    path = (installed if installed.is_dir() else _PACKAGE.parent) / relative
    if not path.exists():
        raise ResultsError(f"{path}: this shipped file is missing; reinstall seg_transfer")
    return path
