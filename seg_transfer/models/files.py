"""Weights files without torch: their hashes for content keys, their sizes, and the shards that an index names."""

from __future__ import annotations

import hashlib
from pathlib import Path

from seg_transfer.data.fields import stays_inside
from seg_transfer.data.plain import read_json
from seg_transfer.errors import CheckpointError
from seg_transfer.store.content_key import sha256_of_file


def sha256_of_weights(file: Path, memo: Path | None = None) -> str:
    """Compute the hex sha256 of a weights file; of an index of shards, that of the sha256 of the shards.

    Args:
        file: The weights, or an index (``*.index.json``).
        memo: Folder in which hashes of files that do not change are kept.

    Raises:
        ConfigError: An index cannot be read.
        CheckpointError: There is no such file, or a shard is missing.
    """
    if not file.is_file():
        raise CheckpointError(f"{file}: no such checkpoint file; check the path of the source's weights")
    if not is_index(file):
        return sha256_of_file(file, memo)
    shards = [sha256_of_weights(shard, memo) for shard in shards_of(file)]
    return hashlib.sha256("\n".join(shards).encode()).hexdigest()


def is_index(file: Path) -> bool:
    """Whether a file names the shards of weights, as its own name says."""
    return file.name.endswith(".index.json")


def size_of_weights(file: Path) -> int:
    """Return the size in bytes of a weights file, or of all shards of an index that exist.

    Raises:
        ConfigError, CheckpointError: An index cannot be read.
    """
    files = shards_of(file) if is_index(file) else (file,)
    return sum(one.stat().st_size for one in files if one.is_file())


def shards_of(index: Path) -> tuple[Path, ...]:
    """Return the weights files that an index (``*.index.json``) names, in the order of their names.

    Raises:
        ConfigError: It cannot be read.
        CheckpointError: It names no files, or files outside its folder.
    """
    named = read_json(index).get("weight_map")
    names = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
    outside = next((name for name in names if not stays_inside(name)), None)
    if outside or not names:
        raise CheckpointError(f"{index}: field weight_map: {outside!r}: must name files of the same folder; correct it")
    return tuple(index.parent / name for name in names)
