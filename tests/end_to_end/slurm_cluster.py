"""A real Slurm cluster on this machine alone: munge, a controller and two nodes of one CPU and pretended GPUs each.

Everything is started from a temporary folder, without systemd, listens on the loopback only, and is stopped at the end,
whatever happened. It needs root, and Debian's packages (scripts/test_packages.sh).
"""

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

BINARIES = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")
NODES = ("n0", "n1")
_PATIENCE = 30.0

# cred_expire: a requeued job waits that long, 120 s by default. FirstJobId: ids like no other number in the logs.
_CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool.%n
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
GresTypes=gpu
KillWait=2
MessageTimeout=5
SlurmdTimeout=300
ReturnToService=0
MaxArraySize={max_tasks}
MailProg=/bin/true
NodeName=n0 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=4000 Gres=gpu:{gpus}
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=4000 Gres=gpu:{gpus}
PartitionName=test Nodes=n0,n1 Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str:
    """Why there can be no cluster here; "" where there can."""
    missing = [name for name in BINARIES if shutil.which(name) is None]
    if missing:
        return f"Slurm is not installed here ({', '.join(missing)}); as root, scripts/test_packages.sh installs it"
    return "" if os.geteuid() == 0 else "the Slurm cluster of this test is started by root only"


@dataclass(frozen=True)
class Cluster:
    """A running cluster; `environment` is what Slurm's commands need to find it."""

    folder: Path
    environment: Mapping[str, str]
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def command(self, *words: str) -> str:
        """What one of Slurm's commands prints."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=_PATIENCE)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def processes(self, node: str) -> list[int]:
        """All processes of the jobs on a node, with the daemons that Slurm started to watch them."""
        inside = [process for process in _processes() if self._is_on(process, node)]
        watching = {_parent(process) for process in inside} - {0, 1, os.getpid()}
        return sorted({*inside, *watching} - {daemon.pid for daemon in self.daemons.values()})

    def kill_node(self, node: str) -> None:
        """A node is lost: its daemon and all that it runs are gone at once, and the controller is reported."""
        self.daemons[node].kill()
        _kill(self.processes(node))
        self.command("scontrol", "update", f"nodename={node}", "state=down", "reason=lost")

    def log(self) -> str:
        """What the daemons said, for a test that fails."""
        return "\n".join(f"== {file.name}\n{file.read_text()[-4000:]}" for file in sorted(self.folder.glob("*.log")))

    def _is_on(self, process: int, node: str) -> bool:
        environment = _read(process, "environ").split("\0")
        return (
            f"SLURM_CONF={self.environment['SLURM_CONF']}" in environment and f"SLURMD_NODENAME={node}" in environment
        )


@contextlib.contextmanager
def slurm_cluster(gpus: int = 1, max_tasks: int = 1001) -> Iterator[Cluster]:
    """Start a cluster with so many GPUs on every node, wait until both nodes are idle, and stop it again.

    `max_tasks` of an array are allowed.
    """
    # Not below pytest's folder: the path of a socket may have 108 characters.
    folder = Path(tempfile.mkdtemp(prefix="slurm."))
    folder.chmod(0o755)
    cluster = Cluster(folder, {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")})
    try:
        _configure(folder, gpus, max_tasks)
        _start_munge(cluster)
        _start(cluster, "slurmctld", "slurmctld", "-D", "-i")
        for node in NODES:
            _start(cluster, node, "slurmd", "-D", "-N", node)
        until(lambda: _states(cluster) == dict.fromkeys(NODES, "idle"), lambda: cluster.log())
        yield cluster
    finally:
        _stop(cluster)
        shutil.rmtree(folder, ignore_errors=True)


def until(there: Callable[[], bool], explain: Callable[[], str], patience: float = _PATIENCE) -> None:
    """Wait until something is so; fail with an explanation after that many seconds."""
    deadline = time.monotonic() + patience
    while not there():
        assert time.monotonic() < deadline, f"waited {patience:.0f} s in vain\n{explain()}"
        time.sleep(0.02)


def command_line(process: int) -> str:
    """What a process was started with."""
    return _read(process, "cmdline").replace("\0", " ")


def _configure(folder: Path, gpus: int, max_tasks: int) -> None:
    for name in ("state", "munge"):
        (folder / name).mkdir()
    (folder / "munge").chmod(0o755)
    (folder / "munge/key").write_bytes(os.urandom(128))
    (folder / "munge/key").chmod(0o600)
    for node in NODES:
        for gpu in range(gpus):
            # Another /dev/null: enough for Slurm to hand out as a GPU.
            os.mknod(folder / f"gpu.{node}.{gpu}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    gres = [f"NodeName={node} Name=gpu File={folder}/gpu.{node}.[0-{gpus - 1}]" for node in NODES]
    (folder / "gres.conf").write_text("\n".join([*gres, ""]))
    host = socket.gethostname().partition(".")[0]
    config = _CONFIG.format(folder=folder, host=host, ports=_free_ports(3), gpus=gpus, max_tasks=max_tasks)
    (folder / "slurm.conf").write_text(config)


def _start_munge(cluster: Cluster) -> None:
    place = cluster.folder / "munge"
    files = [f"--{name}-file={place / name}" for name in ("key", "log", "pid", "seed")]
    _start(cluster, "munge", "munged", "--foreground", f"--socket={place}/socket", *files)
    # Without munge Slurm hangs and says nothing.
    until((place / "socket").exists, lambda: cluster.log())


def _start(cluster: Cluster, name: str, *command: str) -> None:
    with (cluster.folder / f"{name}.out.log").open("wb") as output:
        cluster.daemons[name] = subprocess.Popen(
            command, env=cluster.environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def _states(cluster: Cluster) -> dict[str, str]:
    shown = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--format=%N %t"], env=cluster.environment, capture_output=True, text=True
    )
    return dict(line.split() for line in shown.stdout.splitlines())


def _stop(cluster: Cluster) -> None:
    _kill([process for node in NODES for process in cluster.processes(node)])
    for daemon in reversed(cluster.daemons.values()):
        daemon.terminate()
    for daemon in cluster.daemons.values():
        try:
            daemon.wait(timeout=5)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _kill(processes: list[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _processes() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()]


def _parent(process: int) -> int:
    status = _read(process, "status")
    return int(status.partition("PPid:")[2].split()[0]) if status else 0


def _read(process: int, name: str) -> str:
    try:
        return Path(f"/proc/{process}/{name}").read_text(errors="replace")
    except OSError:  # it ended meanwhile
        return ""


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
