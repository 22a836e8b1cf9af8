"""What a process that no longer exists leaves behind."""

from pathlib import Path

from seg_transfer.store.atomic import temporary_path
from seg_transfer.store.processes import identity


def gone_identity() -> str:
    """Identify a process of this machine that does not exist: its id is larger than any a kernel assigns."""
    machine, _, start = identity().split("-")
    return f"{machine}-999999999-{start}"


def temporary_of(process: str, path: Path) -> Path:
    """Return the temporary path for another path that a process would have used."""
    own = temporary_path(path)
    return own.with_name(own.name.replace(identity(), process))
