"""A new stage is one module and one line: every command, plan, check and engine takes it as it takes ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = Path(__file__).resolve().parents[1] / "counts_stage.py"
# The line, as every process of this test has it in ``stages.COMMANDS``, and the module among those of the package.
LINE = """
import seg_transfer.stages as stages

stages.COMMANDS = {**stages.COMMANDS, "counts": ("count-images", "Count the images of every target.")}
stages.__path__.append(FOLDER)
"""
COMMANDS = """
import contextlib, io, json, sys
from seg_transfer.cli import main

def run(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as ended:
            code = ended.code or 0
    return code, out.getvalue(), err.getvalue()

if __name__ == "__main__":
    print(json.dumps([run(*words) for words in json.loads(sys.argv[1])]))
"""


@pytest.fixture
def invoke_all(tmp_path, trained):
    """Runs commands on the trained study where the stage is known; gives (code, out, err) of each."""
    (tmp_path / "site/modules").mkdir(parents=True)
    (tmp_path / "site/modules/counts.py").write_text(MODULE.read_text())
    (tmp_path / "site/sitecustomize.py").write_text(LINE.replace("FOLDER", repr(str(tmp_path / "site/modules"))))
    (tmp_path / "run.py").write_text(COMMANDS)
    path = os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH")]))
    place = [str(trained.study), "--data-root", str(trained.world), "--run-folder", str(tmp_path / "run")]

    def run(*commands: tuple[str, ...]) -> list[tuple[int, str, str]]:
        words = [[command, *place, *options] if command[0] != "-" else [command] for command, *options in commands]
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        arguments = [sys.executable, str(tmp_path / "run.py"), json.dumps(words)]
        shown = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300)
        assert shown.returncode == 0, shown.stderr
        return [tuple(one) for one in json.loads(shown.stdout)]

    return run


def test_a_stage_of_one_module_works_everywhere(invoke_all, tmp_path):
    listed, dry_run, script, failed = invoke_all(
        ("--help",),
        ("count-images", "--dry-run", "--json"),
        ("submit", "--stage", "counts", "--gpus", "0", "--dry-run"),
        ("count-images", "--workers", "3"),  # the default engine, in a process of its own
    )
    assert "Count the images of every target." in " ".join(listed[1].split())
    missing = {one["item"]: (one["seconds"], one["basis"]) for one in json.loads(dry_run[1])["missing"]}
    assert missing == {f"images of {name}": (7.0, "a guess") for name in ("day_street", "dusk_street", "cells_dark")}
    assert "# 3 targets in 3 tasks" in script[1]
    assert "count-images" in script[1]
    assert failed[0] == 10
    assert failed[2].splitlines()[-1].startswith("seg-transfer: failed: images of dusk_street; all others are finished")
    stored = json.loads((tmp_path / "run/counts/day_street.json").read_text())
    assert (stored["n_images"], stored["workers"]) == (4, 3)

    (tmp_path / "run/allowed").touch()
    plan, again, planned, checked = invoke_all(
        ("plan", "--json"), ("count-images", "--engine", "here"), ("plan", "--json"), ("plan", "--check")
    )
    states = [{one["name"]: one["state"] for one in json.loads(shown[1])["items"] if one["kind"] == "counts"}
              for shown in (plan, planned)]  # fmt: skip
    assert states[0] == {
        "images of day_street": "done",
        "images of dusk_street": "missing",
        "images of cells_dark": "done",
    }
    assert again[0] == 0
    assert set(states[1].values()) == {"done"}
    assert "counts" not in checked[2]
    changed = json.loads((tmp_path / "run/counts/day_street.json").read_text())
    (tmp_path / "run/counts/day_street.json").write_text(json.dumps({**changed, "n_images": 0}))
    (broken,) = invoke_all(("plan", "--check"))
    assert f"{tmp_path}/run/counts/day_street.json: counts no image; delete it" in broken[2]
