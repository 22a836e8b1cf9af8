"""Files shipped with the software: configs and data manifests, in a checkout or in an installed wheel."""

from difflib import SequenceMatcher
from pathlib import Path
from typing import Literal

from seg_transfer.errors import ConfigError, ResultsError

Kind = Literal["study", "manifest", "model", "schedule", "bank"]

_PACKAGE = Path(__file__).resolve().parent
# Kind of file -> the shipped folder, and the patterns of the files in it that have names.
_NAMED: dict[Kind, tuple[str, tuple[str, ...]]] = {
    "study": ("configs/studies", ("*.yaml",)),
    "manifest": ("data_manifests", ("*.yaml", "small/*.yaml")),
    "model": ("configs/models", ("*.py",)),
    "schedule": ("configs/schedules", ("*.yaml",)),
    "bank": ("configs/banks", ("*.yaml",)),
}
# Minimum similarity between an unknown name and a known name for the message to suggest the known name.
_MIN_SIMILARITY = 0.7


def shipped(relative: str) -> Path:
    """Return the path of a shipped file or folder, given as in a checkout: "data_manifests/camvid.yaml".

    A wheel contains these files inside the package, in `_shipped`; a checkout has them next to the package.

    Raises:
        ResultsError: The file is missing.

    >>> shipped("data_manifests/published").name
    'published'
    """
    installed = _PACKAGE / "_shipped"
    path = (installed if installed.is_dir() else _PACKAGE.parent) / relative
    if not path.exists():
        raise ResultsError(f"{path}: this shipped file is missing; reinstall seg_transfer")
    return path


def shipped_files(kind: Kind) -> dict[str, Path]:
    """Return all shipped files of a kind by name; the name is the path below the kind's folder, without suffix.

    >>> "paper_272" in shipped_files("study")
    True
    """
    folder, patterns = _NAMED[kind]
    root = shipped(folder)
    files = [file for pattern in patterns for file in sorted(root.glob(pattern))]
    return {file.relative_to(root).with_suffix("").as_posix(): file for file in files}


def resolve_name(kind: Kind, name: str | Path, folder: Path = Path()) -> Path:
    """Resolve a path or the name of a shipped file; any other path is returned unchanged.

    An existing file takes precedence over a shipped file, and a shipped file over a folder: ``camvid`` is a manifest
    even where the dataset's folder has the same name.

    Args:
        kind: Kind of the file.
        name: A path, or a name of `shipped_files`: ``camvid`` is the paper's manifest, ``small/camvid`` the manifest
            of the small version.
        folder: Folder that a relative path is relative to.
    """
    path = folder / name
    return path if path.is_file() else shipped_files(kind).get(Path(name).as_posix(), path)


def find(kind: Kind, name: str | Path) -> Path:
    """Find the file for a path or the name of a shipped file.

    Raises:
        ConfigError: There is no such file; the message lists similar names.

    >>> find("study", "paper_272").name
    'paper_272.yaml'
    """
    path = resolve_name(kind, name)
    if not path.exists():
        raise ConfigError(f"{name}: no such file, and no shipped {kind} of that name; {_suggestion(kind, Path(name))}")
    return path


def _suggestion(kind: Kind, path: Path) -> str:
    """Suggest how to correct an unknown name."""
    known = list(shipped_files(kind))
    similarity = {name: SequenceMatcher(None, path.stem, Path(name).name).ratio() for name in known}
    similar = sorted(
        (name for name in known if similarity[name] >= _MIN_SIMILARITY), key=similarity.__getitem__, reverse=True
    )
    if similar:
        return f"did you mean {' or '.join(similar[:3])}?"
    if path.suffix or len(path.parts) > 1:
        return f"correct the path of the {kind}"
    return f"name a file, or one of {', '.join(known)}"
