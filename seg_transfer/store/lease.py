"""Leases: of several processes on one run folder, also on several machines, one at a time works on an item.

A lease is a folder with its holder's name in it. It is made under another name and renamed: onto a folder that is not
empty this fails, on network file systems too, so that one process gets it. The holder touches the file again and again;
when that stops for longer than the expiry, or its process is gone, others may take over. The clock is that of the file
system, so that machines need not agree on the time.
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

from seg_transfer.store.atomic import entries, temporary_path
from seg_transfer.store.processes import identity, lives

# Seconds without a sign of life after which a lease is void; another value where a file system answers slowly.
EXPIRY = float(os.environ.get("SEG_TRANSFER_LEASE_SECONDS", "120"))
# So many processes may die with one item in their hands before it is given up.
MOST_DEATHS = 3
# The variable that names the session of a process: those of one do not try again what failed in another of them.
SESSION = "SEG_TRANSFER_SESSION"
_HOLDER = "holder.json"
_TAKEOVER = "takeover"


# What failed, the reason, and its exit code.
Failure = tuple[str, str, int]


@dataclass(frozen=True)
class Holder:
    """Who holds a lease.

    Attributes:
        identity: The process that holds it, as `store.processes` tells it from all others.
        host, process: Where it runs, for people: other containers may have the same.
        token: Tells this lease from any other of the same item.
        deaths: How many holders before this one died with the lease in their hands.
        failed: What failed, why, and with which exit code; nothing while the item is worked on.
        session: Processes of one session do not try again what failed in it.
    """

    identity: str
    host: str
    process: int
    token: str
    deaths: int = 0
    failed: tuple[Failure, ...] = ()
    session: str = ""

    @property
    def gone(self) -> bool:
        """Whether the process runs no more; False where only the expiry tells, as of other machines and containers."""
        return lives(self.identity) is False


@dataclass(frozen=True)
class Lease:
    """A lease that this process took; `held` is False once another process took it over."""

    place: Path
    holder: Holder

    def held(self) -> bool:
        """Whether it still is this process's."""
        there = holder_of(self.place)
        return there is not None and there.token == self.holder.token

    def fail(self, failures: Iterable[Failure]) -> None:
        """Leave word of what failed of the item, for the other processes of the session."""
        if self.held():
            leave_word(self.place, failures)


@contextlib.contextmanager
def leased(place: Path, session: str = "") -> Iterator[Lease | None]:
    """Take the lease of the item that `place` stands for; None when another process has it, or it failed already.

    Inside the block it is kept alive by a thread; after the block it is given back, unless `Lease.fail` was called in a
    session: that word stays until `clear` or a process of another session takes the item.
    """
    lease = _taken(place, session)
    if lease is None:
        yield None
        return
    try:
        with _kept_alive(lease):
            yield lease
    finally:
        there = holder_of(place)
        if there is not None and there.token == lease.holder.token and not (session and there.failed):
            _remove(place)


@contextlib.contextmanager
def awaited(place: Path) -> Iterator[None]:
    """Hold the lease of `place`, however long another process has it before: for what takes moments."""
    while True:
        with leased(place) as lease:
            if lease is not None:
                yield
                return
        time.sleep(0.05)


def holder_of(place: Path) -> Holder | None:
    """The holder of a lease; None when there is none, or it is just being taken."""
    try:
        content = json.loads((place / _HOLDER).read_text())
        return Holder(**{**content, "failed": tuple(map(tuple, content["failed"]))})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def leave_word(place: Path, failures: Iterable[Failure]) -> bool:
    """Write into the lease of an item what failed of it, also for the process that holds it, when that cannot; False
    where nobody holds it.
    """
    holder = holder_of(place)
    if holder is None:
        return False
    _write(place, replace(holder, failed=tuple(failures)))
    return True


def failed_in(place: Path, session: str) -> tuple[Failure, ...]:
    """What failed of an item in this session; nothing without a session."""
    holder = holder_of(place) if session else None
    return holder.failed if holder is not None and holder.session == session else ()


def failures(folder: Path, session: str) -> list[Failure]:
    """What failed in a session."""
    return [failure for place in sorted(_places(folder)) for failure in failed_in(place, session)]


def forget(place: Path, session: str) -> None:
    """Remove the word that a process of this session left of what failed of an item."""
    if failed_in(place, session):
        _remove(place)


def clear(folder: Path) -> None:
    """Remove the leases of processes that are gone, and what is left of failures."""
    for place in list(_places(folder)):
        holder = holder_of(place)
        if holder is not None and _is_void(place, holder, ""):
            _remove(place)


def _places(folder: Path) -> Iterator[Path]:
    return (path.parent for path in entries(folder) if path.name == _HOLDER)


def _taken(place: Path, session: str) -> Lease | None:
    holder = Holder(identity(), socket.gethostname(), os.getpid(), uuid.uuid4().hex, session=session)
    if _made(place, holder):
        return Lease(place, holder)
    before = _removed(place, session)
    if before is None:
        return None
    holder = replace(holder, deaths=before.deaths + (not before.failed))
    return Lease(place, holder) if _made(place, holder) else None


def _made(place: Path, holder: Holder) -> bool:
    signed = temporary_path(place)
    while not signed.exists():
        with contextlib.suppress(FileNotFoundError):  # another process gave back a lease, and removed the empty parent
            signed.mkdir(parents=True)
    (signed / _HOLDER).write_text(json.dumps(asdict(holder)))
    try:
        signed.rename(place)
    except OSError:
        shutil.rmtree(signed, ignore_errors=True)
        # On a network file system an answer may be lost and the rename be done all the same.
        there = holder_of(place)
        return there is not None and there.token == holder.token
    return True


def _removed(place: Path, session: str) -> Holder | None:
    """Remove a lease that is void, and return its holder. Only one process may: a folder in the lease decides which."""
    guard = place / _TAKEOVER
    try:
        guard.mkdir()
    except FileNotFoundError:
        return None
    except FileExistsError:
        if _age(guard) > EXPIRY:  # that process died too, between these lines
            with contextlib.suppress(OSError):
                guard.rmdir()
        return None
    # Looked at only now: before, another process may have taken over, and this may be a new lease.
    holder = holder_of(place)
    if _is_void(place, holder, session):
        _remove(place)
        return holder or Holder("", "", 0, "")  # its name was torn
    with contextlib.suppress(OSError):
        guard.rmdir()
    return None


def _is_void(place: Path, holder: Holder | None, session: str) -> bool:
    """A failure is void for other sessions than its own; a lease, when its holder is gone or still for too long."""
    if holder is not None and holder.failed:
        return not session or holder.session != session
    return (holder is not None and holder.gone) or _age(place / _HOLDER) > EXPIRY


def _age(path: Path) -> float:
    """Seconds since a file was touched, by the clock of its file system; 0 when it is gone."""
    clock = temporary_path(path.parent.parent / "clock")
    try:
        clock.touch()
        return clock.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    finally:
        clock.unlink(missing_ok=True)


def _write(place: Path, holder: Holder) -> None:
    temporary = temporary_path(place / _HOLDER)
    with contextlib.suppress(FileNotFoundError):  # taken over, and removed, meanwhile
        temporary.write_text(json.dumps(asdict(holder)))
        temporary.replace(place / _HOLDER)


def _remove(place: Path) -> None:
    # Renamed first, so that no half-removed lease is ever seen under the item's name.
    away = temporary_path(place)
    with contextlib.suppress(OSError):
        place.rename(away)
        shutil.rmtree(away, ignore_errors=True)
        os.removedirs(place.parent)


@contextlib.contextmanager
def _kept_alive(lease: Lease) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=_beat, args=(lease, stop.wait), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _beat(lease: Lease, wait: Callable[[float], bool]) -> None:
    while not wait(EXPIRY / 6):
        if not lease.held():
            return
        with contextlib.suppress(OSError):
            os.utime(lease.place / _HOLDER)
