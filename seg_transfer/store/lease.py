"""Leases ensure that, of all processes that share a run folder on any machine, only one works on an item at a time.

A lease is a folder that contains a file describing its holder. It is created under a temporary name and renamed.
Renaming onto a non-empty folder fails, even on network file systems, so exactly one process acquires the lease. The
holder renews the lease by touching the file. If the lease has not been renewed for longer than the expiry, or its
process has ended, another process may take over. Ages are measured by the clock of the file system, so the clocks of
machines may differ.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from seg_transfer.store.atomic import create_folder, entries, temporary_path
from seg_transfer.store.processes import identity, is_running

# Seconds without renewal after which a lease expires; increase this for a slow file system.
EXPIRY = float(os.environ.get("SEG_TRANSFER_LEASE_SECONDS", "120"))
# Number of crashed holders of an item after which the item is given up.
MAX_CRASHES = 3
# Environment variable with the session of a process. Within a session, a failed item is not tried again.
SESSION = "SEG_TRANSFER_SESSION"
_HOLDER = "holder.json"
_TAKEOVER = "takeover"

# The label of what failed, the reason, and the exit code.
Failure = tuple[str, str, int]


@dataclass(frozen=True)
class Holder:
    """The holder of a lease.

    Attributes:
        identity: The process that holds the lease, identified by `store.processes.identity`.
        host: Its host name, for people; not unique across containers.
        process: Its process id, for people; not unique across containers.
        token: Random identifier of this lease.
        crashes: Number of previous holders that ended without releasing the lease.
        failed: The recorded failures; empty while the item is in progress.
        session: Session of the process.
    """

    identity: str
    host: str
    process: int
    token: str
    crashes: int = 0
    failed: tuple[Failure, ...] = ()
    session: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether its process has ended; False if that is unknown, as on other machines and in other containers."""
        return is_running(self.identity) is False


@dataclass(frozen=True)
class Lease:
    """A lease that this process acquired.

    Attributes:
        path: Folder of the lease.
        holder: The description of this process in the lease.
    """

    path: Path
    holder: Holder

    def is_held(self) -> bool:
        """Whether this process still holds it; False once another process has taken over."""
        current = read_holder(self.path)
        return current is not None and current.token == self.holder.token

    def record_failures(self, failures: Iterable[Failure]) -> None:
        """Record the failures of the item for the other processes of the session."""
        if self.is_held():
            record_failures(self.path, failures)


@contextlib.contextmanager
def acquire(path: Path, session: str = "") -> Iterator[Lease | None]:
    """Try to acquire a lease for the duration of a block.

    A thread renews the lease during the block, and the lease is released afterwards. If `Lease.record_failures` was
    called in a session, the record stays until `remove_expired` is called or another session acquires the lease.

    Args:
        path: Folder of the lease, which identifies the item.
        session: Session of this process; "" for none.

    Yields:
        The lease; None if another process holds it or the item failed in this session.
    """
    lease = _try_acquire(path, session)
    if lease is None:
        yield None
        return
    try:
        with _keep_renewed(lease):
            yield lease
    finally:
        current = read_holder(path)
        if current is not None and current.token == lease.holder.token and not (session and current.failed):
            _remove(path)


@contextlib.contextmanager
def acquire_blocking(path: Path) -> Iterator[None]:
    """Wait for a lease, and hold it for the duration of a block; meant for short work.

    Args:
        path: Folder of the lease.
    """
    while True:
        with acquire(path) as lease:
            if lease is not None:
                yield
                return
        time.sleep(0.05)


def read_holder(path: Path) -> Holder | None:
    """Read the holder of a lease; None if there is none, or the lease is just being acquired."""
    try:
        content = json.loads((path / _HOLDER).read_text())
        return Holder(**{**content, "failed": tuple(map(tuple, content["failed"]))})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def record_failures(path: Path, failures: Iterable[Failure]) -> bool:
    """Record the failures of an item in its lease, possibly on behalf of a holder that cannot do so itself.

    Returns:
        False if nobody holds the lease.
    """
    holder = read_holder(path)
    if holder is None:
        return False
    _write(path, replace(holder, failed=tuple(failures)))
    return True


def failures_of_item(path: Path, session: str) -> tuple[Failure, ...]:
    """Return the recorded failures of an item in a session; () without a session."""
    holder = read_holder(path) if session else None
    return holder.failed if holder is not None and holder.session == session else ()


def failures_of_session(folder: Path, session: str) -> list[Failure]:
    """Return the recorded failures of all items below a folder in a session."""
    return [failure for path in sorted(_lease_folders(folder)) for failure in failures_of_item(path, session)]


def clear_failures(path: Path, session: str) -> None:
    """Remove the recorded failures of an item in a session, so that it can be tried again."""
    if failures_of_item(path, session):
        _remove(path)


def remove_expired(folder: Path) -> None:
    """Remove expired leases, leases of ended processes, and recorded failures below a folder."""
    for path in list(_lease_folders(folder)):
        holder = read_holder(path)
        if holder is not None and _is_expired(path, holder, ""):
            _remove(path)


def _lease_folders(folder: Path) -> Iterator[Path]:
    return (path.parent for path in entries(folder) if path.name == _HOLDER)


def _try_acquire(path: Path, session: str) -> Lease | None:
    holder = Holder(identity(), socket.gethostname(), os.getpid(), uuid.uuid4().hex, session=session)
    if _try_create(path, holder):
        return Lease(path, holder)
    previous = _take_over(path, session)
    if previous is None:
        return None
    holder = replace(holder, crashes=previous.crashes + (not previous.failed))
    return Lease(path, holder) if _try_create(path, holder) else None


def _try_create(path: Path, holder: Holder) -> bool:
    """Create a lease; returns False if another process has created it first."""
    temporary = temporary_path(path)
    create_folder(temporary)
    (temporary / _HOLDER).write_text(json.dumps(asdict(holder)))
    try:
        temporary.rename(path)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        # On a network file system, the reply can be lost although the rename succeeded.
        current = read_holder(path)
        return current is not None and current.token == holder.token
    return True


def _take_over(path: Path, session: str) -> Holder | None:
    """Remove an expired lease and return its holder; a guard folder in the lease allows only one process to do so."""
    guard = path / _TAKEOVER
    try:
        guard.mkdir()
    except FileNotFoundError:
        return None
    except FileExistsError:
        if _age(guard) > EXPIRY:  # the process that created the guard has crashed as well
            with contextlib.suppress(OSError):
                guard.rmdir()
        return None
    # Read after the guard exists: another process may have taken over earlier, and this may be a new lease.
    holder = read_holder(path)
    if _is_expired(path, holder, session):
        _remove(path)
        return holder or Holder("", "", 0, "")  # the holder file was incomplete
    with contextlib.suppress(OSError):
        guard.rmdir()
    return None


def _is_expired(path: Path, holder: Holder | None, session: str) -> bool:
    """Whether a process of a session may take over: after a failure in another session, or if the holder is gone."""
    if holder is not None and holder.failed:
        return not session or holder.session != session
    return (holder is not None and holder.has_ended) or _age(path / _HOLDER) > EXPIRY


def _age(path: Path) -> float:
    """Return the seconds since a file was touched, by the clock of its file system; 0 if it does not exist."""
    clock = temporary_path(path.parent.parent / "clock")
    try:
        clock.touch()
        return clock.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    finally:
        clock.unlink(missing_ok=True)


def _write(path: Path, holder: Holder) -> None:
    temporary = temporary_path(path / _HOLDER)
    with contextlib.suppress(FileNotFoundError):  # taken over and removed in the meantime
        temporary.write_text(json.dumps(asdict(holder)))
        temporary.replace(path / _HOLDER)


def _remove(path: Path) -> None:
    # Renamed first, so that no process sees a partly removed lease.
    removed = temporary_path(path)
    with contextlib.suppress(OSError):
        path.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)
        os.removedirs(path.parent)


@contextlib.contextmanager
def _keep_renewed(lease: Lease) -> Iterator[None]:
    """Renew a lease in a thread for the duration of a block."""
    stop = threading.Event()
    thread = threading.Thread(target=_renew, args=(lease, stop.wait), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _renew(lease: Lease, wait: Callable[[float], bool]) -> None:
    while not wait(EXPIRY / 6):
        if not lease.is_held():
            return
        with contextlib.suppress(OSError):
            os.utime(lease.path / _HOLDER)
