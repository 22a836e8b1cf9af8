"""Repositories of the Hugging Face Hub: configs and safetensors in the library's own cache, and no other file.

The huggingface_hub library does the transfer, so ``HF_ENDPOINT``, ``HF_HOME``, ``HF_HUB_OFFLINE``, ``HF_TOKEN`` and
proxies count as everywhere. The commit that a repository was first downloaded at stays in use: a ranking does not
change because a branch moves, and the second run needs no network.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, InstanceOf

from seg_transfer.console import ON_STDERR
from seg_transfer.data.plain import read_json
from seg_transfer.errors import CheckpointError, ConfigError, SegTransferError, reason_of
from seg_transfer.models.downloads import cache_folder, is_offline, size_text
from seg_transfer.store.atomic import write_text
from seg_transfer.store.content_key import sha256_of_file

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
MODEL_FILES = ("config.json", "preprocessor_config.json", "processor_config.json", *_WEIGHTS)
"""What a network needs: its description and its weights."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
"""What a network that reads a text needs besides (OneFormer's is the name of the task)."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DEFAULT_ENDPOINT = "https://huggingface.co"

_logger = logging.getLogger(__name__)


class RepositoryName(str):
    """The name of a repository, ``org/name``, in a field that may also hold a folder."""


def _folder_or_repository(value: object) -> object:
    return RepositoryName(value) if isinstance(value, str) and is_repository_name(value) else value


FolderOrRepository = Annotated[Path | InstanceOf[RepositoryName], BeforeValidator(_folder_or_repository)]
"""A field of an entry: a folder, or ``org/name``. A folder of that name wins; ``./org/name`` is always a folder."""

Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]
"""A field of an entry: a branch, a tag or a commit."""


def check_revision(source_name: str, model: object, revision: str | None) -> None:
    """Check that only a repository has a revision.

    Args:
        source_name: Name of the source, for the message.
        model: What the entry names as its model.
        revision: The field ``revision``.

    Raises:
        ValueError: Something else has one; pydantic reports it as a validation error.
    """
    if revision is not None and not isinstance(model, RepositoryName):
        raise ValueError(f"source {source_name!r}: field revision: only a repository of the Hub has one; remove it")


def absolute_paths(value: Any, folder: Path) -> Any:
    """Return the same plain data with every path made absolute.

    The name of a repository becomes the path of the folder of that name, if there is one.

    Args:
        value: Mappings, lists and tuples of anything.
        folder: The folder that relative paths are relative to.

    Example:
        >>> absolute_paths({"weights": Path("w.pth"), "name": "web"}, Path("/models"))["weights"].as_posix()
        '/models/w.pth'
    """
    if isinstance(value, Path) or (isinstance(value, RepositoryName) and (folder / value).is_dir()):
        return (folder / value).resolve()
    if isinstance(value, Mapping):
        return {key: absolute_paths(item, folder) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [absolute_paths(item, folder) for item in value]
    return value


def local_folder(
    source: Path | RepositoryName, revision: str | None = None, patterns: Sequence[str] = MODEL_FILES
) -> Path:
    """Return the folder that a field names, and download it first if it is a repository that is not in the cache.

    Args:
        source: Value of the field.
        revision, patterns: As for `repository`.

    Raises:
        ConfigError, CheckpointError: See `repository`.
    """
    if isinstance(source, Path) or Path(source).is_dir():
        return Path(source)
    return repository(source, revision, patterns)


def is_repository_name(text: str) -> bool:
    """Whether a text has the form of a repository's name, ``org/name``.

    >>> [is_repository_name(text) for text in ("nvidia/mit-b0", "./nvidia/mit-b0", "/models/b0", "b0", "a/b/c")]
    [True, False, False, False, False]
    """
    return _NAME.fullmatch(text) is not None


def repository(name: str, revision: str | None = None, patterns: Sequence[str] = MODEL_FILES) -> Path:
    """Return the local folder of a repository, and download it first if it is not in the cache.

    Args:
        name: ``org/name``.
        revision: A branch, tag or commit; by default the main branch.
        patterns: Which files to download, as shell patterns; a pickle is never among them.

    Returns:
        A folder in the cache of the library, named after the commit.

    Raises:
        ConfigError: huggingface_hub is not installed.
        CheckpointError: The download failed or is forbidden, or the repository has no safetensors.
    """
    library = _library(name)
    record = cache_folder() / "hub" / name / f"{(revision or 'main').replace('/', '--')}.txt"
    with _quiet(library), _explained(library, name, revision):
        folder = _in_cache(library, name, revision, patterns, record)
        if folder is not None:
            return folder
        if is_offline():
            raise CheckpointError(
                f"{_shown(name, revision)}: not in the cache of the Hub, and downloads are off (SEG_TRANSFER_OFFLINE "
                "or HF_HUB_OFFLINE); allow them once, or name a local folder"
            )
        return _download(library, name, revision, patterns, record)


def revision_of(folder: Path | None) -> str | None:
    """Return the commit of a folder from `repository`; None for anything else."""
    if folder is None:
        return None
    return folder.name if folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name) else None


def _library(name: str) -> Any:
    try:
        for part in ("errors", "utils"):  # not attributes of the package before they are imported
            import_module(f"huggingface_hub.{part}")
        return import_module("huggingface_hub")
    except ImportError as error:
        raise ConfigError(
            f"{name}: a repository of the Hugging Face Hub, and huggingface_hub cannot be imported "
            f"({reason_of(error)}); pip install 'seg_transfer[hub]', or name a local folder"
        ) from error


def _in_cache(library: Any, name: str, revision: str | None, patterns: Sequence[str], record: Path) -> Path | None:
    """Return the folder of an earlier download; None if there is none.

    The library's cache alone does not tell: other programs leave folders there with some of the files. So each finished
    download is recorded; without a record, as on a machine with a copied cache, such a folder counts only offline.
    """
    commit = record.read_text(encoding="utf-8").strip() if record.is_file() else None
    if commit is None and not is_offline():
        return None
    try:
        folder = Path(
            library.snapshot_download(
                name, revision=commit or revision, allow_patterns=list(patterns), local_files_only=True
            )
        )
    except library.errors.LocalEntryNotFoundError:
        return None
    return folder if _has_weights(folder) else None


def _has_weights(folder: Path) -> bool:
    if (folder / _WEIGHTS[0]).is_file():
        return True
    index = folder / _WEIGHTS[1]
    shards = read_json(index).get("weight_map") if index.is_file() else None
    return isinstance(shards, dict) and all((folder / str(shard)).is_file() for shard in shards.values())


def _download(library: Any, name: str, revision: str | None, patterns: Sequence[str], record: Path) -> Path:
    endpoint = os.environ.get("HF_ENDPOINT") or None
    listed = library.HfApi(endpoint=endpoint).model_info(name, revision=revision, files_metadata=True)
    if not _COMMIT.fullmatch(str(listed.sha)):  # it becomes the name of a folder
        raise CheckpointError(f"{_shown(name, revision)}: the Hub names no commit; check HF_ENDPOINT")
    files = {file.rfilename: file for file in listed.siblings or ()}
    wanted = {path: file for path, file in files.items() if _is_wanted(path, patterns)}
    if not any(path.endswith(".safetensors") for path in wanted):
        raise CheckpointError(f"{_shown(name, revision)}: {_why_no_weights(list(files))}")
    n_bytes = sum(file.size or 0 for file in wanted.values())
    address = f"{endpoint or _DEFAULT_ENDPOINT}/{name}"
    _logger.info("downloading %s from %s, commit %s", size_text(n_bytes), address, listed.sha, extra=ON_STDERR)
    folder = Path(
        library.snapshot_download(name, revision=listed.sha, allow_patterns=sorted(wanted), endpoint=endpoint)
    )
    for path, file in wanted.items():
        if file.lfs is not None and sha256_of_file((folder / path).resolve()) != file.lfs.sha256:
            raise CheckpointError(f"{folder / path}: differs from what {name} lists; remove this file and try again")
    write_text(record, f"{listed.sha}\n")
    return folder


def _is_wanted(path: str, patterns: Sequence[str]) -> bool:
    """Whether a file is downloaded: only from the top of the repository, and only what holds data."""
    is_data = path.endswith((".json", ".safetensors", ".txt")) and "/" not in path
    return is_data and any(fnmatchcase(path, pattern) for pattern in patterns)


def _why_no_weights(paths: Sequence[str]) -> str:
    pickles = [path for path in paths if path.endswith((".bin", ".pth", ".pt", ".ckpt"))]
    if pickles:
        return (
            f"has no {_WEIGHTS[0]}, only {', '.join(sorted(pickles)[:3])}, and pickles are not downloaded; choose a "
            "revision with safetensors, or download it yourself and name the folder"
        )
    return f"has no {_WEIGHTS[0]} at its top; choose another repository or revision"


@contextlib.contextmanager
def _explained(library: Any, name: str, revision: str | None) -> Iterator[None]:
    """Turn the library's errors into one line each."""
    shown, errors = _shown(name, revision), library.errors
    try:
        yield
    except SegTransferError:
        raise
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{shown}: the Hub gives it only to those who accepted its terms; accept them on its page and set "
            "HF_TOKEN, or name a local folder"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{shown}: the repository has no such revision; correct field revision") from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{shown}: no folder here has this name, and the Hub has no such repository, or it is private; correct the "
            "name, or set HF_TOKEN"
        ) from error
    # What else the library and its HTTP client raise; OSError includes a full disk and files of the wrong size.
    except Exception as error:
        reason = reason_of(error.__cause__ or error).partition(" For more information")[0]
        raise CheckpointError(
            f"{shown}: cannot be downloaded ({reason}); check the network, its proxy and HF_ENDPOINT and try again "
            "(finished files are kept), or name a local folder"
        ) from error


def _shown(name: str, revision: str | None) -> str:
    return f"{name} (revision {revision})" if revision else name


@contextlib.contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Silence the library's log, and its progress bars where no terminal shows them."""
    log, bars = library.utils.logging, library.utils
    level, hidden = log.get_verbosity(), bars.are_progress_bars_disabled()
    log.set_verbosity_error()
    if not sys.stderr.isatty():
        bars.disable_progress_bars()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if not hidden and not sys.stderr.isatty():
            bars.enable_progress_bars()
