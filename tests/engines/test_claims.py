import errno
import gc
import os
import threading
import weakref

import numpy as np
import pytest
import torch
from leftovers import gone_identity

from seg_transfer.engines import claims
from seg_transfer.engines.claims import for_each_claimed
from seg_transfer.errors import DataError, IncompleteError
from seg_transfer.stages.failures import PartsFailedError
from seg_transfer.store import lease
from seg_transfer.store.lease import Holder, acquire, read_holder


@pytest.fixture
def go(tmp_path):
    """Go through items; the work may be given."""

    def through(items, work=lambda item, held: None):
        done = []

        def noted(item, held):
            work(item, held)
            done.append(item)

        for_each_claimed(items, noted, lambda item: f"item {item}", lambda item: tmp_path / item)
        return done

    return through


def test_every_item_is_worked_on_under_its_lease(go, tmp_path):
    def work(item, held):
        assert held()
        assert read_holder(tmp_path / item) is not None

    assert go(["a", "b", "c"], work) == ["a", "b", "c"]
    assert not tmp_path.exists()  # the folders above go with the last lease


def test_failures_are_summed_up_and_do_not_stop_the_others(go, capsys):
    def work(item, held):
        if item != "b":
            raise DataError(f"{item}.png: cannot be decoded")

    with pytest.raises(IncompleteError, match="failed: item a, item c; all others") as caught:
        go(["a", "b", "c"], work)
    assert caught.value.exit_code == 4
    assert capsys.readouterr().err.splitlines() == [
        "seg-transfer: item a: a.png: cannot be decoded",
        "seg-transfer: item c: c.png: cannot be decoded",
    ]


def test_parts_of_an_item_fail_under_their_own_names(go, capsys):
    def work(item, held):
        raise PartsFailedError({f"{item}, gbc": DataError("no"), f"{item}, leep": DataError("no")})

    with pytest.raises(IncompleteError, match="failed: a, gbc, a, leep;"):
        go(["a"], work)
    assert capsys.readouterr().err == "seg-transfer: a, gbc: no\n"


def test_an_item_of_another_process_is_put_off_and_looked_at_again(go, tmp_path):
    taken, passed_by, order = threading.Event(), threading.Event(), []

    def other():
        with acquire(tmp_path / "a"):
            taken.set()
            assert passed_by.wait(60)
            order.append("other ends")

    def work(item, held):
        order.append(item)
        passed_by.set()

    thread = threading.Thread(target=other)
    thread.start()
    taken.wait()
    go(["a", "b"], work)
    thread.join()
    assert order == ["b", "other ends", "a"]


def test_an_item_that_crashed_three_processes_is_not_tried(go, tmp_path, capsys):
    (tmp_path / "a").mkdir()
    lease._write(tmp_path / "a", Holder(gone_identity(), "here", 999999999, "theirs", crashes=2))
    with pytest.raises(IncompleteError, match="failed: item a"):
        go(["a"], lambda item, held: pytest.fail("tried"))
    assert "item a: 3 processes crashed while they worked on it" in capsys.readouterr().err


def test_what_failed_in_a_session_is_not_tried_by_its_others(go, tmp_path, monkeypatch):
    monkeypatch.setenv("SEG_TRANSFER_SESSION", "today")
    monkeypatch.setenv("SEG_TRANSFER_ATTACHED", "1")
    tried = []

    def work(item, held):
        tried.append(item)
        raise DataError("broken")

    with pytest.raises(IncompleteError):
        go(["a"], work)
    assert go(["a", "b"]) == ["b"]
    assert tried == ["a"]
    monkeypatch.delenv("SEG_TRANSFER_SESSION")
    assert go(["a"]) == ["a"]


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (MemoryError("Unable to allocate 9 TiB"), 10, "out of memory (Unable to allocate 9 TiB); use smaller images"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), 10, "out of memory (CUDA out of memory. Tried); use"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 10, "out of memory (DefaultCPUAllocator: can't"),
        (ZeroDivisionError("division by zero"), 10, "ZeroDivisionError: division by zero"),
        (KeyError(), 10, "KeyError"),
        (np.linalg.LinAlgError("Singular matrix"), 10, "LinAlgError: Singular matrix"),
        (SystemExit(0), 10, "SystemExit: 0"),
        (DataError("b.png: torn"), 4, "b.png: torn"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_whatever_one_item_raises_is_its_own_failure(error, code, reason, go, capsys):
    def work(item, held):
        if item == "b":
            raise error

    with pytest.raises(IncompleteError, match="failed: item b; all others") as caught:
        go(["a", "b", "c"], work)
    assert caught.value.exit_code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"seg-transfer: item b: {reason}")


def test_a_fault_of_the_machine_ends_the_stage_and_counts_against_no_item(go, tmp_path):
    def work(item, held):
        raise OSError(errno.ENOSPC, "no space left on device")

    with pytest.raises(OSError, match="no space left"):
        go(["a"], work)
    assert go(["a"]) == ["a"]


def test_a_fault_of_the_machine_ends_one_of_several_processes_at_once(go, monkeypatch, capsys):
    class Exited(BaseException):
        pass

    def leave(code):
        raise Exited(code)

    def work(item, held):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(claims, "rank_and_size", lambda: (1, 2))
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(Exited) as exited:
        go(["a"], work)
    assert exited.value.args == (1,)
    assert capsys.readouterr().err == "seg-transfer: item a: [Errno 28] no space left on device\n"


def test_a_failure_holds_nothing_that_was_computed(go):
    class Large:
        pass

    seen = []

    def work(item, held):
        large = Large()
        seen.append(weakref.ref(large))
        raise DataError("too large") from RuntimeError(large)

    with pytest.raises(IncompleteError):
        go(["a"], work)
    gc.collect()
    assert seen[0]() is None


def test_what_ended_the_processes_before_is_summed_up_by_those_that_went_on(go, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SEG_TRANSFER_SESSION", "today")
    with acquire(tmp_path / "a", "today"):
        lease.record_failures(tmp_path / "a", [("item a", "image torn", 4)])  # as another rank does for the holder
    with pytest.raises(IncompleteError, match="failed: item a;") as caught:
        go(["a", "b"])
    assert (caught.value.exit_code, caught.value.reasons) == (4, {"item a": "image torn"})
    assert capsys.readouterr().err == ""  # it was said by the one that failed
    assert not tmp_path.exists()


@pytest.mark.parametrize(("worker", "expected"), [("0/3", "abcde"), ("1/3", "bcdea"), ("2/3", "deabc")])
def test_the_processes_of_a_session_start_at_different_items(worker, expected, go, monkeypatch):
    monkeypatch.setenv("SEG_TRANSFER_WORKER", worker)
    assert go(list("abcde")) == list(expected)


def test_under_torchrun_the_main_process_leads_and_the_others_follow(go, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(claims, "broadcast_from_main", lambda value: said.append(value) or value)
    assert go(["a", "b"]) == ["a", "b"]
    assert said == [0, 1, None]

    monkeypatch.setattr(claims, "is_main_process", lambda: False)
    monkeypatch.setattr(claims, "broadcast_from_main", lambda value: said.pop(0))
    leases = []
    assert go(["a", "b"], lambda item, held: leases.append((held(), (tmp_path / item).exists()))) == ["a", "b"]
    assert leases == [(True, False), (True, False)]
