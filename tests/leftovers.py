"""What a process leaves behind that is gone."""

from pathlib import Path

from seg_transfer.store.atomic import temporary_path
from seg_transfer.store.processes import identity


def gone_identity() -> str:
    """A process of this machine that is gone: its number is above all that a kernel gives."""
    machine, _, start = identity().split("-")
    return f"{machine}-999999999-{start}"


def temporary_of(process: str, path: Path) -> Path:
    """The temporary path beside another that a process would have taken."""
    own = temporary_path(path)
    return own.with_name(own.name.replace(identity(), process))
