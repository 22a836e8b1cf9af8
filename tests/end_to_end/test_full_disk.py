"""A disk that is full at any moment loses nothing that was finished."""

import errno
import os

import pytest

from seg_transfer.store import atomic


def results(workspace):
    # Remembered hashes are no results: what one run did not remember, the next computes.
    files = [path for path in workspace.run.rglob("*") if path.is_file() and path.parent.name != "keys"]
    return {str(path.relative_to(workspace.run)): path.read_bytes() for path in files if path.name != "study.yaml"}


@pytest.fixture
def full_at(monkeypatch):
    """The n-th result that is written from now on finds no space; returns whether that was tried."""
    flush, written = atomic._flush, []

    def at(n):
        written.clear()

        def fail(path, mode):
            if "keys" not in path.parts:  # the memo is written where it can be, and nothing depends on it
                written.append(path)
            if len(written) == n and written[-1] == path:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            flush(path, mode)

        monkeypatch.setattr(atomic, "_flush", fail)
        return lambda: len(written) >= n

    yield at
    monkeypatch.setattr(atomic, "_flush", flush)


@pytest.mark.parametrize("stage", ["score-pairs", "finetune-pairs", "train-sources"])
def test_a_full_disk_is_reported_and_the_next_run_completes(stage, finished, copy_of, full_at):
    workspace = copy_of(finished)
    kind, kept = {
        "score-pairs": ("scores", "scores/day_street/cells_dark.parquet"),
        "finetune-pairs": ("performance", "performance/day_street/cells_dark.parquet"),
        "train-sources": ("sources", "sources/day_street/source.json"),
    }[stage]
    wanted = results(workspace)
    gone = [name for name in wanted if name.startswith(f"{kind}/") and "cells_dark" in name and name != kept][:2]
    n = 0
    while True:
        n += 1
        for name in gone:
            (workspace.run / name).unlink(missing_ok=True)
        before = results(workspace)
        tried = full_at(n)
        ended = workspace.call(stage)
        if not tried():
            break
        assert ended.code == 1
        (line,) = ended.err.splitlines()
        assert "No space left on device" in line
        assert "check the path, its permissions and the free space" in line
        after = results(workspace)
        assert {name: after.get(name) for name in before} == before
        assert [name for name in after if name.endswith(".part")] == []
        full_at(10**9)
        workspace.done(stage)
        assert results(workspace).keys() == wanted.keys()
    assert n > 4
    assert ended.code == 0
