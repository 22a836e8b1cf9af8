"""The rests of items run in threads while the next items are begun; leases and failures stay those of the items."""

import errno
import gc
import threading
import time
import weakref
from concurrent import futures

import pytest
import torch
from leftovers import gone_identity
from threadpoolctl import threadpool_info, threadpool_limits

from seg_transfer.engines import claims, rests
from seg_transfer.engines.claims import for_each_claimed
from seg_transfer.errors import DataError, IncompleteError
from seg_transfer.stages.failures import PartsFailedError
from seg_transfer.store import lease
from seg_transfer.store.lease import Holder, acquire, read_holder


@pytest.fixture
def go(tmp_path, monkeypatch):
    """Begin items, whose rests have two threads; returns those that ended without failure."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def through(items, work):
        done = []
        for_each_claimed(items, work, lambda item: f"item {item}", lambda item: tmp_path / item, done.append)
        return done

    return through


def happens(event: threading.Event) -> None:
    assert event.wait(60), "waited in vain"


def test_the_next_item_begins_while_a_rest_runs_under_its_lease(go, tmp_path):
    begun = {item: threading.Event() for item in "abc"}

    def work(item, held):
        begun[item].set()

        def rest():
            happens(begun[{"a": "b", "b": "c", "c": "c"}[item]])
            assert held()
            assert read_holder(tmp_path / item) is not None

        return rest

    assert sorted(go("abc", work)) == ["a", "b", "c"]
    assert not tmp_path.exists()  # the folders above go with the last lease


@pytest.mark.parametrize(("n_threads", "expected"), [(1, "ab"), (2, "abc")])
def test_one_rest_at_most_waits_for_a_thread(n_threads, expected, go, monkeypatch):
    begun, waits, at_first_wait = [], threading.Event(), []

    def wait(*words, **options):
        at_first_wait.extend(begun if not waits.is_set() else [])
        waits.set()
        return futures.wait(*words, **options)

    def work(item, held):
        begun.append(item)
        return lambda: happens(waits)

    monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)
    monkeypatch.setattr(rests, "wait", wait)
    assert sorted(go("abcde", work)) == list("abcde")
    assert at_first_wait == list(expected)


def test_failures_of_rests_are_those_of_their_items_and_stop_no_other(go, capsys):
    def work(item, held):
        def rest():
            if item == "a":
                raise PartsFailedError({"a, gbc": DataError("no"), "a, leep": DataError("no")})
            if item == "c":
                raise ZeroDivisionError("division by zero")

        if item == "b":
            raise DataError("b.png: torn")
        return rest

    with pytest.raises(IncompleteError, match="failed: ") as caught:
        go("abcd", work)
    assert caught.value.reasons.keys() == {"a, gbc", "a, leep", "item b", "item c"}
    assert sorted(capsys.readouterr().err.splitlines()) == [
        "seg-transfer: a, gbc: no",
        "seg-transfer: item b: b.png: torn",
        "seg-transfer: item c: ZeroDivisionError: division by zero",
    ]


def test_a_rest_that_failed_in_a_session_is_not_tried_by_its_others(go, monkeypatch):
    monkeypatch.setenv("SEG_TRANSFER_SESSION", "today")
    monkeypatch.setenv("SEG_TRANSFER_ATTACHED", "1")

    def fail():
        raise DataError("broken")

    with pytest.raises(IncompleteError):
        go("a", lambda item, held: fail)
    assert go("ab", lambda item, held: None) == ["b"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space left on device"), KeyboardInterrupt()])
def test_what_ends_the_stage_lets_rests_that_run_end_and_drops_the_others(error, go, tmp_path, monkeypatch):
    dropped, ended, cancel = threading.Event(), [], futures.Future.cancel

    def interrupted(*words, **options):
        raise error

    def cancel_and_say(future):
        if cancel(future):
            dropped.set()

    def work(item, held):
        def rest():
            happens(dropped)
            assert held()
            ended.append(item)

        return rest

    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(rests, "wait", interrupted)
    monkeypatch.setattr(futures.Future, "cancel", cancel_and_say)
    with pytest.raises(type(error)):
        go("ab", work)
    assert ended == ["a"]
    assert not tmp_path.exists()


def test_a_fault_of_the_machine_in_a_rest_ends_the_stage(go, tmp_path):
    def fail():
        raise OSError(errno.ENOSPC, "no space left on device")

    with pytest.raises(OSError, match="no space left"):
        go("ab", lambda item, held: fail)
    assert not tmp_path.exists()


def test_rests_end_before_a_process_waits_for_another(go, tmp_path):
    """Two processes may each hold what the other one waits for."""
    taken, waited_for = threading.Event(), []

    def other():
        with acquire(tmp_path / "b"):
            taken.set()
            deadline = time.monotonic() + 60
            while read_holder(tmp_path / "a") is not None or not waited_for:
                assert time.monotonic() < deadline, "waited in vain"
                time.sleep(0.01)

    def work(item, held):
        return lambda: waited_for.append(item)

    thread = threading.Thread(target=other)
    thread.start()
    happens(taken)
    assert go("ab", work) == ["a", "b"]
    thread.join()


def test_an_item_during_which_a_process_crashed_is_done_alone(go, tmp_path, monkeypatch):
    (tmp_path / "b").mkdir()
    lease._write(tmp_path / "b", Holder(gone_identity(), "here", 999999999, "theirs", crashes=0))
    order, waits = [], threading.Semaphore(0)

    def wait(*words, **options):
        waits.release()
        return futures.wait(*words, **options)

    def work(item, held):
        order.append(f"begin {item}")

        def rest():
            assert waits.acquire(timeout=60)
            order.append(f"end {item}")

        return rest

    monkeypatch.setattr(rests, "wait", wait)
    assert go("abc", work) == ["a", "b", "c"]
    assert order == ["begin a", "end a", "begin b", "end b", "begin c", "end c"]


def test_a_group_of_processes_does_an_item_whole(go, monkeypatch):
    monkeypatch.setattr(claims, "rank_and_size", lambda: (0, 2))
    threads = []
    assert go("a", lambda item, held: lambda: threads.append(threading.current_thread())) == ["a"]
    assert threads == [threading.main_thread()]


def test_blas_has_one_thread_while_there_are_rests(go):
    def n_threads():
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    found = []
    with threadpool_limits(2, user_api="blas"):
        assert go("ab", lambda item, held: lambda: found.append(n_threads())) == ["a", "b"]
        assert n_threads() == {2}
    assert found == [{1}, {1}]


def test_a_rest_that_ended_holds_nothing_that_was_computed(go):
    class Large:
        pass

    ended, seen = threading.Event(), []

    def work(item, held):
        if item == "b":
            happens(ended)
            gc.collect()
            seen.append(seen[0]())
            return None
        large = Large()
        seen.append(weakref.ref(large, lambda _: ended.set()))
        return lambda: large.__class__

    assert sorted(go("ab", work)) == ["a", "b"]
    assert seen[1] is None
