"""What the weights of a network say about its last layer, before the network is built."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import safetensors

from seg_transfer.errors import CheckpointError, reason_of

_HEAD, _BACKBONE = b"classifier.weight", b"backbone."
_NAMES = re.compile(rb"[A-Za-z0-9_.]{9,}")


def has_linear_head(file: Path) -> bool:
    """Return whether a file has weights of a backbone and of a classifier beside it, whose network gives class scores.

    Only the names of the weights are looked at: ``backbone.*`` and ``classifier.weight``, behind the same prefix.
    Nothing is unpickled, and torch is not imported.

    Args:
        file: A safetensors file, or one that ``torch.save`` wrote.

    Raises:
        CheckpointError: There is no such file, or it cannot be read.
    """
    heads: set[bytes] = set()
    backbones: set[bytes] = set()
    for found in _NAMES.finditer(_names(file)):
        # In a pickle, letters that are no part of the name may follow it.
        for part, prefixes in ((_BACKBONE, backbones), (_HEAD, heads)):
            before, is_there, _ = found[0].partition(part)
            if is_there:
                prefixes.add(before)
    return not heads.isdisjoint(backbones)


def n_classes_in(file: Path, name: str, weights_key: str | None = None) -> int:
    """Return how many classes the weights of a last layer have.

    Args:
        file: The weights.
        name: Name of the layer's weight, without prefixes that wrappers leave.
        weights_key: Dotted path of the weights in the file, where there are several.

    Raises:
        CheckpointError: The file is unreadable, or has no weights of this name, or several that differ.
    """
    from seg_transfer.models.weights.opened import open_weights
    from seg_transfer.models.weights.state_dicts import ROOT

    prefix = "" if weights_key in (None, ROOT) else f"{weights_key}."
    leaves = open_weights(file).leaves.items()
    shapes = [leaf.shape for path, leaf in leaves if path.startswith(prefix) and f".{path}".endswith(f".{name}")]
    found = {shape[0] for shape in shapes if shape}
    if len(found) != 1:
        what = f"has {len(found)} different layers {name}" if found else f"lacks {name}"
        raise CheckpointError(f"{file}: {what}, whose size is the number of classes; name weights of this network")
    return found.pop()


def _names(file: Path) -> bytes:
    """Return bytes that contain the names of all weights in a file, and little else."""
    if not file.is_file():
        raise CheckpointError(f"{file}: no such checkpoint file; check the path of the source's weights")
    try:
        with safetensors.safe_open(file, framework="numpy") as opened:
            return "\n".join(opened.keys()).encode()
    except (safetensors.SafetensorError, OSError):
        pass
    try:
        if not zipfile.is_zipfile(file):
            return file.read_bytes()
        with zipfile.ZipFile(file) as archive:
            # torch compresses nothing; what is compressed could expand to any size.
            stored = [info for info in archive.infolist() if info.compress_type == zipfile.ZIP_STORED]
            return b"\n".join(archive.read(info) for info in stored if info.filename.endswith("data.pkl"))
    except (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{file}: not a readable checkpoint ({reason_of(error)}); copy it again") from error
