"""Which process something is of, and whether it still runs.

Host name and process number do not tell: containers of one image have the same name, each counts its processes from 1,
and a number is given again. A process is known by its machine (the boot of the kernel, the pid namespace and the host
name), its number there, and the time it started.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
from pathlib import Path

IDENTITY = r"[0-9a-f]{12}-[1-9][0-9]{0,8}-[0-9]{1,20}"
"""What `identity` returns, as a regular expression: machine, number, start."""
# Stands for the machine where /proc does not tell: no other process has it, so that none is judged by its number.
_UNKNOWN_MACHINE = secrets.token_hex(6)
_ENDED = {"Z", "X"}  # states of /proc/PID/stat: a zombie does no more work


def identity() -> str:
    """This process, as no other process on any machine is called."""
    number = os.getpid()
    _, start = _state_and_start(number) or ("", "0")
    return f"{_machine()}-{number}-{start}"


def lives(process: str) -> bool | None:
    """Whether a process, as `identity` called it, still runs; None where that cannot be told from here.

    It can be told only by processes of the same machine and pid namespace.
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
    except PermissionError:  # it is there, and of another user
        pass
    found = _state_and_start(int(number))
    return None if found is None else found[0] not in _ENDED and found[1] == start


def _machine() -> str:
    """Short digest of the kernel's boot, the pid namespace, and the host name, for clones of a virtual machine."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace, own = (str(Path(link).readlink()) for link in ("/proc/self/ns/pid", "/proc/self"))
    except OSError:
        return _UNKNOWN_MACHINE
    # A /proc that was mounted in another namespace numbers the processes as that one does.
    if not boot or own != str(os.getpid()):
        return _UNKNOWN_MACHINE
    return hashlib.sha256(f"{boot} {namespace} {socket.gethostname()}".encode()).hexdigest()[:12]


def _state_and_start(number: int) -> tuple[str, str] | None:
    """Fields 3 and 22 of /proc/PID/stat; None where they cannot be read, as those of other users sometimes."""
    try:
        text = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    after_name = text.rpartition(")")[2].split()  # field 2 is the program's name in brackets, with any characters
    return (after_name[0], after_name[19]) if len(after_name) > 19 else None
