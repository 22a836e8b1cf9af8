"""choose is killed at random moments: the same command goes on, with the same winner and numbers, and nothing twice."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from choosing import SCHEDULE, answer, folder, rows, trained_steps, without_times, words
from forked import Forker

from seg_transfer.training.fit import resume_step

KILLS = 20
RUNS = ("--runs", "5")


def content(workspace: Any) -> dict[str, Any]:
    """What a finished choice consists of, without times."""
    chosen = json.loads((folder(workspace) / "choice.json").read_text())
    network = Path(chosen["folder"])
    card = json.loads((network / "source.json").read_text())
    return {
        "choice": without_times(chosen),
        "rows": without_times(rows(workspace)),
        "weights": (network / "weights.safetensors").read_bytes(),
        "card": without_times(card),
        "page": {name: (folder(workspace) / "choice/images" / name).read_bytes() for name in pictures(workspace)},
    }


def pictures(workspace: Any) -> list[str]:
    return sorted(file.name for file in (folder(workspace) / "choice/images").iterdir())


def finished(workspace: Any) -> dict[str, int]:
    """Racer, fold and step -> when that judgment was made."""
    return {f"{row['source']} {row['fold']} {row['steps']}": row["created_utc"] for row in rows(workspace)}


def reached(workspace: Any) -> dict[str, int]:
    """Folder of a checkpoint -> the step that a training would go on from."""
    return {
        str(file.parent): resume_step(file.parent) for file in (folder(workspace) / "race").glob("*/*/*/resume.pth")
    }


def test_twenty_kills_leave_what_an_undisturbed_race_leaves(bank, tmp_path):
    log, chance, killed = tmp_path / "log", random.Random(0), 0
    with Forker() as forker:
        began = time.monotonic()
        assert forker.wait(forker.start(log, *words(bank, *RUNS))) == 0, log.read_text()
        seconds = time.monotonic() - began
        expected = content(bank)
        shutil.rmtree(folder(bank))
        while killed < KILLS:
            before, steps = finished(bank), reached(bank)
            process = forker.start(log, *words(bank, *RUNS))
            # Anywhere in what is left: most of the kills hit a training, others scores, a judgment or the end.
            time.sleep(chance.uniform(0, seconds / 6))
            os.kill(process, signal.SIGKILL)
            if forker.wait(process) == 0:  # it was faster: begin again
                assert content(bank) == expected
                shutil.rmtree(folder(bank))
                continue
            killed += 1
            after, now = finished(bank), reached(bank)
            assert {name: after.get(name) for name in before} == before
            assert all(now.get(name, SCHEDULE["steps"]) >= step for name, step in steps.items())
        assert forker.wait(forker.start(log, *words(bank, *RUNS))) == 0, log.read_text()
    assert content(bank) == expected
    assert [file for file in folder(bank).rglob("*") if file.suffix in (".part", ".pth")] == []
    assert not (folder(bank) / "leases").exists()


def test_ctrl_c_ends_the_race_and_the_same_command_goes_on(bank, invoke, monkeypatch):
    from seg_transfer.selection import venue

    engine, calls = venue.get_engine("here"), []

    def interrupted(job: Any) -> None:
        calls.append(job)
        if len(calls) == 3:
            raise KeyboardInterrupt
        engine(job)

    monkeypatch.setattr(venue, "get_engine", lambda name: interrupted)
    assert invoke(*words(bank, *RUNS)).code == 130
    before = finished(bank)
    assert before
    answer(invoke(*words(bank, *RUNS, "--json")))
    assert {name: finished(bank)[name] for name in before} == before
    assert all(sum(steps) == SCHEDULE["steps"] for steps in trained_steps(bank).values())
