"""A metric in a package of the user: listed, scored, stored, evaluated and planned like a built-in one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from toy_package import CONTRAST, install

from seg_transfer.metrics import METRICS
from seg_transfer.store.session import ATTACHED


@pytest.fixture
def install_version(tmp_path, monkeypatch) -> Callable[[int], None]:
    """Installs the toy package with a version of its metric, as a new process would find it; 0 removes it."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(sys, "modules", sys.modules.copy())

    def do(version: int) -> None:
        if not version:
            monkeypatch.setattr(METRICS, "_external", {})
            return
        install(folder, "toy", CONTRAST.replace("VERSION", str(version)), {"contrast": "METRIC"})
        (folder / "toy.py").touch()
        sys.modules.pop("toy", None)
        monkeypatch.setattr(METRICS, "_external", {})
        monkeypatch.setattr(METRICS, "_loaded", False)

    return do


def missing(workspace: Any) -> list[str]:
    return [item["item"] for item in json.loads(workspace.done("score-pairs", "--dry-run", "--json"))["missing"]]


def test_a_metric_of_an_installed_package_is_treated_like_a_built_in_one(finished, copy_of, invoke, install_version):
    install_version(1)
    listed = [sys.executable, "-m", "seg_transfer", "metrics", "--json"]
    records = json.loads(subprocess.run(listed, capture_output=True, check=True).stdout)
    assert records[-1] == {
        "name": "contrast",
        "needs": ["features"],
        "standard_error": "on request",
        "range": "[0, inf)",
        "cost": "",
        "reference": "",
        "settings": {"scale": 2.0},
        "extra": "",
        "version": 1,
        "package": "toy",
    }

    workspace = copy_of(finished)
    workspace.change(metrics=["contrast", "gbc"])
    pairs = [f"{source} -> {target}" for source, target in scored_pairs(workspace)]
    assert sorted(missing(workspace)) == sorted(f"{pair}: contrast" for pair in pairs)
    workspace.done("score-pairs")
    rows = [row for row in workspace.rows("scores") if row["metric"] == "contrast"]
    assert len(rows) == len(pairs)
    assert all(row["score"] > 0 and row["standard_error"] is None for row in rows)
    assert missing(workspace) == []

    ended = invoke("evaluate", workspace.run, "--json")
    assert (ended.code, ended.err) == (0, "")
    judged = [row["metric"] for row in json.loads(ended.out) if row["kind"] == "metric"]
    assert judged == ["contrast", "gbc"] * 2

    install_version(2)
    assert sorted(missing(workspace)) == sorted(f"{pair}: contrast" for pair in pairs)
    items = json.loads(invoke("plan", *workspace.place(), "--json").out)["items"]
    stale = {item["name"]: item["reasons"] for item in items if item["kind"] == "score"}
    assert stale == {pair: ["version of metric contrast: 1 -> 2"] for pair in pairs}


def test_scores_of_a_package_that_is_not_installed_are_kept(finished, copy_of, install_version):
    install_version(1)
    workspace = copy_of(finished)
    workspace.change(metrics=["contrast", "gbc"])
    workspace.done("score-pairs")
    install_version(0)
    workspace.change(metrics=["gbc", "trans_rate"])
    workspace.done("score-pairs")
    assert {row["metric"] for row in workspace.rows("scores")} >= {"contrast", "gbc", "trans_rate"}
    install_version(1)
    workspace.change(metrics=["contrast", "gbc"])
    assert missing(workspace) == []

    install_version(0)
    workspace.change(metrics=["gbc"], sampling={"pixels_per_image": 50})
    workspace.done("score-pairs")
    assert {row["metric"] for row in workspace.rows("scores")} == {"gbc"}  # scores of other pixels are not


def scored_pairs(workspace: Any) -> set[tuple[str, str]]:
    return {(row["source"], row["target"]) for row in workspace.rows("scores")}


@pytest.mark.parametrize("worker", [False, True])
def test_of_a_broken_package_the_first_process_warns_and_its_workers_do_not(tmp_path, worker):
    install(tmp_path, "toy", "", {"contrast": "METRIC"})
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    environment = {**os.environ, "PYTHONPATH": path, **({ATTACHED: "1"} if worker else {})}
    with subprocess.Popen(
        [sys.executable, "-m", "seg_transfer", "metrics", "--json"],
        env=environment,
        stdin=subprocess.PIPE,  # open until it has ended, as a parent process holds it
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        warnings = process.stderr.read()
        assert process.wait() == 0
    assert len(warnings.splitlines()) == (0 if worker else 1), warnings
