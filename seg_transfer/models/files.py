"""Hashes of weights files for content keys, without torch."""

from __future__ import annotations

from pathlib import Path

from seg_transfer.errors import CheckpointError
from seg_transfer.store.content_key import sha256_of_file


def sha256_of_weights(file: Path, memo: Path | None = None) -> str:
    """Compute the hex sha256 of a weights file.

    Args:
        file: The weights.
        memo: Folder in which hashes of files that do not change are kept.

    Raises:
        CheckpointError: There is no such file.
    """
    if not file.is_file():
        raise CheckpointError(f"{file}: no such checkpoint file; check the path of the source's weights")
    return sha256_of_file(file, memo)
