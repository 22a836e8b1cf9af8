"""A process counts as ended only where that is certain; containers with one host name do not interfere."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seg_transfer.store import processes
from seg_transfer.store.lease import acquire, read_holder
from seg_transfer.store.processes import IDENTITY, identity, is_running

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
SAYS_ITS_IDENTITY = """
import sys
from seg_transfer.store.processes import identity
print(identity(), flush=True)
sys.stdin.read()
"""


def planted(monkeypatch, stat: str | None) -> None:
    """What /proc says of every process; None where it says nothing."""

    def read_text(file: Path, *args: object, **options: object) -> str:
        if file.name != "stat":
            return original(file, *args, **options)
        if stat is None:
            raise FileNotFoundError(file)
        return stat

    original = Path.read_text
    monkeypatch.setattr(Path, "read_text", read_text)


@pytest.fixture
def other():
    """Another process of this machine, which waits; and how it calls itself."""
    command = [sys.executable, "-c", SAYS_ITS_IDENTITY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process, process.stdout.readline().strip()
        process.kill()


@needs_proc
def test_a_process_runs_until_it_ends(other):
    process, its = other
    assert re.fullmatch(IDENTITY, its)
    assert its.split("-")[0] == identity().split("-")[0]
    assert its.split("-")[1] == str(process.pid)
    assert is_running(its)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # its parent has not asked for its end: a zombie
    assert Path(f"/proc/{process.pid}").exists()
    assert is_running(its) is False
    process.wait()
    assert is_running(its) is False


@needs_proc
def test_a_reused_number_is_another_process():
    machine, number, start = identity().split("-")
    assert is_running(f"{machine}-{number}-{start}")
    assert is_running(f"{machine}-{number}-{int(start) + 1}") is False


@pytest.mark.parametrize("process", ["", "host.1", "0123456789ab-1-", "0123456789ab-0-5", "0123456789ab-1-5"])
def test_the_state_of_foreign_processes_is_unknown(process):
    assert is_running(process) is None


@needs_proc
def test_the_state_of_an_unreadable_process_is_unknown(monkeypatch):
    """As where /proc is mounted with hidepid."""
    own = identity()
    planted(monkeypatch, None)
    assert is_running(own) is None


@needs_proc
@pytest.mark.parametrize("name", ["python", "a b", "a) Z 1 (", ")"])
def test_the_name_of_a_program_is_not_parsed_as_a_field(monkeypatch, name):
    fields = ["S", *map(str, range(4, 22)), "777", "23"]
    planted(monkeypatch, f"{os.getpid()} ({name}) {' '.join(fields)}\n")
    assert identity().endswith("-777")
    assert is_running(identity())


@pytest.mark.parametrize("own", [None, "1"], ids=["no proc", "proc of another namespace"])
def test_without_proc_no_process_is_identified_by_number(monkeypatch, own):
    def readlink(path: Path) -> Path:
        if own is None:
            raise FileNotFoundError(path)
        return Path(own)

    monkeypatch.setattr(Path, "readlink", readlink)
    machine, number, start = identity().split("-")
    assert machine == processes._UNKNOWN_MACHINE
    assert is_running(f"{machine}-{number}-{start}") is None
    assert is_running(f"{machine}-999999999-{start}") is None


IN_A_CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc"]
HOLDS_AND_WRITES = """
import os, sys, socket
from pathlib import Path
from seg_transfer.store.atomic import replaced_atomically
from seg_transfer.store.lease import acquire

folder = Path(sys.argv[1])
for _ in range(40):  # numbers that the other container has not given
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
if os.fork():
    os.wait()
    sys.exit()
with acquire(folder / "item") as lease, replaced_atomically(folder / "file") as temporary:
    temporary.write_text("whole")
    print(socket.gethostname(), os.getpid(), flush=True)
    sys.stdin.read()
    assert lease.is_held()
"""
LOOKS = """
import socket, sys
from pathlib import Path
from seg_transfer.store.atomic import sweep
from seg_transfer.store.lease import remove_expired, acquire

folder = Path(sys.argv[1])
remove_expired(folder)
with acquire(folder / "item") as lease:
    print(socket.gethostname(), lease is None, sweep(folder))
"""


@pytest.fixture
def container():
    """The command line that starts a program in a new pid namespace; the host name is the same."""
    tried = shutil.which("unshare") and subprocess.run([*IN_A_CONTAINER, "true"], check=False, capture_output=True)
    if not tried or tried.returncode:
        pytest.skip("needs unshare and the right to make a pid namespace")
    return [*IN_A_CONTAINER, sys.executable, "-c"]


def test_containers_with_one_host_name_do_not_interfere(container, tmp_path):
    command = [*container, HOLDS_AND_WRITES, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        host, number = holder.stdout.readline().split()
        for look in ([*container, LOOKS], [sys.executable, "-c", LOOKS]):
            looked = subprocess.run([*look, str(tmp_path)], check=True, capture_output=True, text=True)
            assert looked.stdout.split() == [host, "True", "0"]
        assert read_holder(tmp_path / "item").process == int(number) > 40
        holder.stdin.close()
    assert holder.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


DIES_WITH_IT = """
import os, sys
from pathlib import Path
from seg_transfer.store.lease import acquire

child = os.fork()
if child == 0:
    with acquire(Path(sys.argv[1])):
        os._exit(9)
os.waitpid(child, 0)
"""
TAKES_IT_OVER = """
with acquire(Path(sys.argv[1])) as lease:
    print(lease.holder.crashes)
"""


def test_a_crashed_holder_is_detected_only_in_its_container(container, tmp_path):
    words = [*container, DIES_WITH_IT + TAKES_IT_OVER, str(tmp_path / "one")]
    assert subprocess.run(words, check=True, capture_output=True, text=True).stdout == "1\n"
    subprocess.run([*container, DIES_WITH_IT, str(tmp_path / "other")], check=True)
    with acquire(tmp_path / "other") as lease:
        assert lease is None
