"""Weights of networks: what they say about the last layer before a network is built, and loading them into it."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors

from seg_transfer.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn

_HEAD = "classifier.weight"
_NAME = re.compile(rb"([A-Za-z0-9_.]*)classifier\.weight")


def has_linear_head(file: Path) -> bool:
    """Return whether a file has weights of a backbone and of a classifier beside it, whose network gives class scores.

    Only the names of the weights are looked at: ``backbone.*`` and ``classifier.weight``, behind the same prefix.
    Nothing is unpickled, and torch is not imported.

    Args:
        file: A safetensors file, or one that ``torch.save`` wrote.

    Raises:
        CheckpointError: There is no such file.
    """
    text = _names(file)
    return any(match[1] + b"backbone." in text for match in _NAME.finditer(text))


def n_classes_in(file: Path, name: str) -> int:
    """Return how many classes the weights of a last layer have.

    Args:
        file: The weights.
        name: Name of the layer's weight, without prefixes that wrappers leave.

    Raises:
        CheckpointError: The file is unreadable, or has no weights of this name, or several that differ.
    """
    from seg_transfer.models.checkpoints import load_checkpoint

    state = load_checkpoint(file)
    found = {len(tensor) for key, tensor in state.items() if f".{key}".endswith(f".{name}") and tensor.dim() > 0}
    if len(found) != 1:
        what = f"has {len(found)} different layers {name}" if found else f"lacks {name}"
        raise CheckpointError(f"{file}: {what}, whose size is the number of classes; name weights of this network")
    return found.pop()


def load_into(network: nn.Module, files: Sequence[Path], *, ignored: Sequence[str] = ()) -> None:
    """Load all weights of a network.

    Args:
        network: Changed in place.
        files: Files that together hold its weights.
        ignored: Patterns of names of weights that the files may have although the network lacks them.

    Raises:
        CheckpointError: A file is unsafe or damaged, or the weights do not fit.
    """
    from seg_transfer.models.checkpoints import load_checkpoint, load_exactly

    expected = network.state_dict()
    state = {name: tensor for file in files for name, tensor in load_checkpoint(file).items()}
    extra = {name for name in state if name not in expected and any(fnmatchcase(name, each) for each in ignored)}
    load_exactly(network, {name: state[name] for name in state if name not in extra}, str(files[0]))


def _names(file: Path) -> bytes:
    """Return bytes that contain the names of all weights in a file, and little else."""
    if not file.is_file():
        raise CheckpointError(f"{file}: no such checkpoint file; check the path of the source's weights")
    try:
        with safetensors.safe_open(file, framework="numpy") as opened:
            return "\n".join(opened.keys()).encode()
    except safetensors.SafetensorError:
        pass
    if not zipfile.is_zipfile(file):
        return file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
        return b"\n".join(archive.read(name) for name in pickles)
