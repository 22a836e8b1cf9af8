"""Weights files of every format, opened: what tensors they hold, and the values that are asked for."""

from __future__ import annotations

import contextlib
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from seg_transfer.errors import CheckpointError, printable, reason_of
from seg_transfer.models.weights.arrays import StoredArray, read_arrays
from seg_transfer.models.weights.state_dicts import UNREADABLE, Leaf, find_leaves
from seg_transfer.models.weights.stored import StoredTensor, Stub
from seg_transfer.models.weights.torch_files import TorchFile, read_tensors, read_torch_file

_OTHER_FILES = {
    b"git-lfs": "a pointer of Git LFS and not the weights; fetch them with git lfs pull",
    b"<html": "a page of a web site and not the weights; download the file itself",
    b"<!DOCTYPE": "a page of a web site and not the weights; download the file itself",
    b"ustar": "a tar archive; unpack it and name the weights in it",
}
"""What is in the first bytes of files that are often taken for weights -> what to say of them."""
_FAILURES = (ValueError, LookupError, OSError, OverflowError, EOFError, RuntimeError, MemoryError, struct.error)


@dataclass(frozen=True)
class WeightsFile:
    """A file whose values are not read yet.

    Attributes:
        file: The file.
        content: What is in it, as data.
        leaves: Dotted path -> tensor in it.
        saved: The file's storages, if it is one of torch.
    """

    file: Path
    content: object
    leaves: Mapping[str, Leaf]
    saved: TorchFile | None


def open_weights(file: Path) -> WeightsFile:
    """Read everything in a file but the values of a torch file's tensors.

    Raises:
        CheckpointError: It is missing, damaged, or no file of weights; the message is one line.
    """
    if not file.is_file():
        raise CheckpointError(f"{file}: no such checkpoint file; check the path in the study")
    start = _start_of(file)
    # After the length of its header, a safetensors file goes on with JSON.
    if file.suffix == ".safetensors" or start[8:9] == b"{":
        state = _read_safetensors(file)
        return WeightsFile(file, state, find_leaves(state), None)
    with _refused(file, start):
        saved = read_torch_file(file)
        return WeightsFile(file, saved.content, find_leaves(saved.content), saved)


def _start_of(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(300)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return dict(safetensors.torch.load_file(file))
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: not a readable safetensors file ({error}); copy it again") from error


@contextlib.contextmanager
def _refused(file: Path, start: bytes = b"") -> Iterator[None]:
    """Turn what reading a damaged file raises into one line."""
    try:
        yield
    except (*_FAILURES, zipfile.BadZipFile) as error:
        kind = next((kind for mark, kind in _OTHER_FILES.items() if mark in start), "")
        reason = kind or f"not a readable checkpoint ({reason_of(error)}); copy it again"
        raise CheckpointError(printable(f"{file}: {reason}")) from error


def read_values(opened: WeightsFile, leaves: Mapping[str, Leaf]) -> dict[str, Tensor]:
    """Read the values of some tensors of a file.

    Args:
        opened: The file.
        leaves: Name that the result has -> tensor of the file.

    Raises:
        CheckpointError: A tensor is damaged, or has no values that can be read.
    """
    with _refused(opened.file):
        found = {name: leaf.value for name, leaf in leaves.items() if isinstance(leaf.value, Tensor)}
        found |= read_arrays({name: leaf.value for name, leaf in leaves.items() if isinstance(leaf.value, StoredArray)})
        stored = {name: leaf.value for name, leaf in leaves.items() if isinstance(leaf.value, StoredTensor)}
        if opened.saved is not None:
            found |= read_tensors(opened.saved, stored)
        for name, leaf in leaves.items():
            if isinstance(leaf.value, Stub):
                raise ValueError(f"tensor {name} is {UNREADABLE[leaf.value.name]}")
        return {name: found[name] for name in leaves}
