"""Cards, configs, checkpoints, manifests, studies, banks and names of unknown origin: none runs, one line names why."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import hostile_run
import pytest
from hostile_cases import CASES
from hostile_run import PROOFS

from seg_transfer.errors import UNPRINTABLE

CONTROL = UNPRINTABLE.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f")  # but for the ends of lines


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of every case, in one process that is watched by an audit hook: it cannot be taken off again."""
    folder = tmp_path_factory.mktemp("hostile")
    path = os.pathsep.join([str(Path(hostile_run.__file__).parent), *filter(None, sys.path)])
    ended = subprocess.run(
        [sys.executable, hostile_run.__file__, str(folder)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.mark.parametrize("name", PROOFS)
def test_a_payload_does_harm_without_protection(corpus, name):
    assert corpus["proven"][name]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_no_payload_runs_and_one_line_names_the_reason(corpus, case):
    found = corpus["cases"][case.name]
    assert (found["seen"], found["done"]) == ([], [])
    assert found["code"] == case.code, found["err"]
    lines = found["err"].splitlines()
    assert len(lines) <= (2 if case.code else 0), found["err"]  # the second one sums up
    assert all(line.startswith("seg-transfer: ") for line in lines)
    assert case.reported in (lines[0] if case.code else " ".join(found["out"].split()))


def test_no_control_character_reaches_the_terminal(corpus):
    shown = {name: found["out"] + found["err"] for name, found in corpus["cases"].items()}
    assert [name for name, text in shown.items() if re.search(CONTROL, text)] == []
    assert r"\x1b[2J" in shown["escapes_in_a_file_name"]
