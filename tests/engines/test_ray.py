"""What `--engine ray` says where it cannot work; its work on a cluster is tested in end_to_end."""

import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seg_transfer.engines.ray_driver import Task, run_on_ray
from seg_transfer.errors import ConfigError


def run(tasks: list[Task]) -> None:
    run_on_ray(lambda: tasks, Path("leases"), "score-pairs", n_cpus=1)


TASKS = [Task("score-pairs b", print, {}, {"a -> b": Path("leases/score/a/b")})]


def test_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"Ray is not installed; run pip install 'seg_transfer\[ray\]'"):
        run(TASKS)


def test_there_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nMore words.")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match=r"no cluster on this machine \(Could not find any running Ray instance\.\)"):
        run(TASKS)


def test_no_cluster_answers_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(ConfigError, match=rf"no cluster on 127\.0\.0\.1:{port} \(.*refused\); start one"):
        run(TASKS)


def test_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    run([])
