"""A Ray cluster of two nodes on this machine, each with its own host name and processes, killed on its own.

Ray listens on every interface. Here it has a network of its own that holds nothing but the loopback device, and a node
is a process namespace: when its first process is killed, the kernel kills all others of the node at once.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_ADDRESS = "127.0.0.1:6379"
_NODE = ("--object-store-memory=80000000", "--disable-usage-stats", "--block")
PATIENCE = 120.0  # seconds until what is awaited and never comes fails the test
_LEASE_SECONDS = 6.0


@dataclass(frozen=True)
class Node:
    """One node: the process that holds its namespaces, and the first process inside them."""

    holder: subprocess.Popen[bytes]
    first: int

    def kill(self) -> None:
        """Kill all processes of the node at once, without warning."""
        self.holder.kill()
        self.holder.wait()

    def inside(self) -> list[str]:
        """Words that, put before a command, let it run on this node."""
        return ["nsenter", f"--target={self.first}", "--net", "--uts", "--pid", "--mount"]

    def workers(self, task: str) -> list[int]:
        """The node's processes that work on such a task at this moment."""
        return [process for process in _processes(f"ray::{task}") if _namespace(process) == _namespace(self.first)]


@dataclass(frozen=True)
class Cluster:
    """The head, where drivers run, and the one more node."""

    head: Node
    other: Node
    environment: dict[str, str]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start the command line as a driver."""
        command = [*self.head.inside(), sys.executable, "-m", "seg_transfer", *words]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def signal(self, driver: subprocess.Popen[str], number: int) -> None:
        """Send a signal to a driver, which is the child of the process that entered the node for it."""
        for process in _children(driver.pid):
            os.kill(process, number)


@contextlib.contextmanager
def ray_cluster(cpus: int = 1) -> Iterator[Cluster]:
    """A running cluster of nodes of so many CPUs; nothing of it is left afterwards, whatever happens inside."""
    # Not pytest's folder: the path of a socket may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="ray_"))
    environment, count = _environment(folder), f"--num-cpus={cpus}"
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        log = stack.enter_context((folder / "log").open("wb"))

        def node(name: str, *words: str) -> Node:
            holder = subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True)
            stack.callback(holder.wait)
            stack.callback(holder.kill)
            wait_until(lambda: bool(_children(holder.pid)), f"node {name} starts")
            return Node(holder, _children(holder.pid)[0])

        head = node("head", *_unshare("--net"), *_shell("ip link set lo up", "head", ["--head", "--port=6379", count]))
        wait_until(lambda: _answers(head, environment), lambda: f"the head answers; {_tail(folder)}")
        join = ["--address", _ADDRESS, "--node-ip-address=127.0.0.2", count]
        net = ["nsenter", f"--target={head.first}", "--net"]
        other = node("other", *net, *_unshare(), *_shell("true", "other", join))
        wait_until(lambda: _n_nodes(head, environment) == 2, lambda: f"the other node joins; {_tail(folder)}")
        yield Cluster(head, other, environment)


def why_not() -> str:
    """Why no cluster can be started here; "" where one can."""
    if importlib.util.find_spec("ray") is None:
        return "Ray is not installed; run pip install 'seg_transfer[ray]'"
    if not (shutil.which("unshare") and shutil.which("nsenter") and shutil.which("ip")):
        return "no unshare, nsenter or ip; on Debian or Ubuntu: apt-get install util-linux iproute2"
    tried = subprocess.run([*_unshare("--net"), "true"], capture_output=True, text=True)
    return f"no namespaces of one's own, run as root: {tried.stderr.strip()}" if tried.returncode else ""


def started_cluster(cpus: int = 1) -> contextlib.AbstractContextManager[Cluster]:
    """A cluster; where there can be none the test is skipped, but where checks are automatic it fails."""
    if why := why_not():
        # There the reason for a skip is not read.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    return ray_cluster(cpus)


def wait_until(there: Callable[[], bool], what: str | Callable[[], str]) -> None:
    """Return as soon as something is there; fail the test when it does not come."""
    deadline = time.monotonic() + PATIENCE
    while not there():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {PATIENCE:.0f} s in vain until {what if isinstance(what, str) else what()}")
        time.sleep(0.01)


def _environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "RAY_TMPDIR": str(folder),
        "RAY_ADDRESS": _ADDRESS,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_initial_delay_ms": "500",
        "RAY_health_check_failure_threshold": "4",
        "SEG_TRANSFER_LEASE_SECONDS": str(_LEASE_SECONDS),
    }


def _unshare(*more: str) -> list[str]:
    return ["unshare", *more, "--uts", "--pid", "--mount-proc", "--fork", "--kill-child"]


def _shell(first: str, name: str, options: list[str]) -> list[str]:
    start = " ".join([sys.executable, "-m", "ray.scripts.scripts", "start", *options, *_NODE])
    return ["sh", "-c", f"{first} && hostname {name} && {start}; exit $?"]


def _answers(head: Node, environment: dict[str, str]) -> bool:
    return _n_nodes(head, environment) > 0


def _n_nodes(head: Node, environment: dict[str, str]) -> int:
    """How many nodes are alive, as the head knows."""
    asked = (
        "from ray._raylet import GcsClient; "
        f"print(sum(node.state == 0 for node in GcsClient(address='{_ADDRESS}').get_all_node_info().values()))"
    )
    shown = subprocess.run([*head.inside(), sys.executable, "-c", asked], env=environment, capture_output=True)
    return int(shown.stdout or 0) if shown.returncode == 0 else 0


def _children(process: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


def _processes(name: str) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (place / "cmdline").read_text().startswith(name):
                found.append(int(place.name))
    return found


def _namespace(process: int) -> str:
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/{process}/ns/pid").readlink())
    return ""


def _tail(folder: Path) -> str:
    return (folder / "log").read_text()[-2000:]
