"""Identifies processes across machines and containers, and checks whether a process still runs.

Host name and process id are not enough: containers of one image share the name, each numbers its processes from 1, and
ids are reused. A process is identified by its machine (kernel boot, pid namespace and host name), its process id there,
and its start time.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
from pathlib import Path

IDENTITY = r"[0-9a-f]{12}-[1-9][0-9]{0,8}-[0-9]{1,20}"
"""Regular expression for the result of `identity`: machine, process id, start time."""
# Stands for the machine if /proc is unavailable. It is random, so no other process is compared by its process id.
_UNKNOWN_MACHINE = secrets.token_hex(6)
_ENDED = {"Z", "X"}  # states of /proc/PID/stat: zombie, dead


def identity() -> str:
    """Identify this process uniquely across machines and containers."""
    number = os.getpid()
    _, start = _state_and_start(number) or ("", "0")
    return f"{_machine()}-{number}-{start}"


def is_running(process: str) -> bool | None:
    """Determine whether a process still runs.

    Args:
        process: The result of `identity` in that process.

    Returns:
        None if unknown, because only processes on the same machine and in the same pid namespace can tell.
    """
    if not re.fullmatch(IDENTITY, process):
        return None
    machine, number, start = process.split("-")
    if machine != _machine() or machine == _UNKNOWN_MACHINE:
        return None
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process runs as another user
        pass
    status = _state_and_start(int(number))
    return None if status is None else status[0] not in _ENDED and status[1] == start


def _machine() -> str:
    """Return a short digest of the kernel boot, the pid namespace and the host name.

    Clones of a virtual machine share the boot id, but not the host name.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace, self_link = (str(Path(link).readlink()) for link in ("/proc/self/ns/pid", "/proc/self"))
    except OSError:
        return _UNKNOWN_MACHINE
    # A /proc that was mounted in another namespace shows the process ids of that namespace.
    if not boot or self_link != str(os.getpid()):
        return _UNKNOWN_MACHINE
    return hashlib.sha256(f"{boot} {namespace} {socket.gethostname()}".encode()).hexdigest()[:12]


def _state_and_start(number: int) -> tuple[str, str] | None:
    """Return fields 3 and 22 of /proc/PID/stat; None if they cannot be read, as sometimes for other users."""
    try:
        text = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    after_name = text.rpartition(")")[
        2
    ].split()  # field 2 is the program name in parentheses, which may contain any characters
    return (after_name[0], after_name[19]) if len(after_name) > 19 else None
