"""Files that come with the software: configs and data manifests, in a checkout or in an installed wheel."""

from difflib import SequenceMatcher
from pathlib import Path
from typing import Literal

from seg_transfer.errors import ConfigError, ResultsError

Kind = Literal["study", "manifest", "model", "schedule"]

_PACKAGE = Path(__file__).resolve().parent
# Kind of file -> the shipped folder, and which files of it can be named.
_NAMED: dict[Kind, tuple[str, tuple[str, ...]]] = {
    "study": ("configs/studies", ("*.yaml",)),
    "manifest": ("data_manifests", ("*.yaml", "small/*.yaml")),
    "model": ("configs/models", ("*.py",)),
    "schedule": ("configs/schedules", ("*.yaml",)),
}
# How alike a mistyped name and a known one must be for the message to propose it.
_LIKENESS = 0.7


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


def shipped_files(kind: Kind) -> dict[str, Path]:
    """Every shipped file of a kind by its name: its path below the kind's folder, without the suffix.

    >>> sorted(shipped_files("study"))
    ['paper_272', 'real7']
    """
    folder, patterns = _NAMED[kind]
    root = shipped(folder)
    files = [file for pattern in patterns for file in sorted(root.glob(pattern))]
    return {file.relative_to(root).with_suffix("").as_posix(): file for file in files}


def resolve_name(kind: Kind, name: str | Path, folder: Path = Path()) -> Path:
    """The file that a path or the name of a shipped file means; a path that is neither is returned as it is.

    An existing file wins over a shipped one, and a shipped one over a folder: ``camvid`` is a manifest also where the
    dataset's folder of that name lies.

    Args:
        kind: What the file is.
        name: A path, or a name of `shipped_files`: ``camvid`` is the paper's manifest, ``small/camvid`` the small one.
        folder: What a relative path is relative to.
    """
    path = folder / name
    return path if path.is_file() else shipped_files(kind).get(Path(name).as_posix(), path)


def find(kind: Kind, name: str | Path) -> Path:
    """The file that a path or the name of a shipped file means.

    Raises:
        ConfigError: There is neither; the message lists the names that are like it.

    >>> find("study", "paper_272").name
    'paper_272.yaml'
    """
    path = resolve_name(kind, name)
    if not path.exists():
        raise ConfigError(f"{name}: no such file, and no shipped {kind} of that name; {_proposal(kind, Path(name))}")
    return path


def _proposal(kind: Kind, path: Path) -> str:
    """What to do about a name that is unknown."""
    known = list(shipped_files(kind))
    likeness = {name: SequenceMatcher(None, path.stem, Path(name).name).ratio() for name in known}
    near = sorted((name for name in known if likeness[name] >= _LIKENESS), key=likeness.__getitem__, reverse=True)
    if near:
        return f"did you mean {' or '.join(near[:3])}?"
    if path.suffix or len(path.parts) > 1:
        return f"correct the path of the {kind}"
    return f"name a file, or one of {', '.join(known)}"
