import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from leftovers import gone_identity, temporary_of

from seg_transfer.store import lease as module
from seg_transfer.store.atomic import sweep
from seg_transfer.store.lease import Holder, acquire, acquire_blocking, failures_of_session, read_holder, remove_expired
from seg_transfer.store.processes import identity


@pytest.fixture
def place(tmp_path):
    return tmp_path / "leases" / "scores" / "a" / "b"


@pytest.fixture
def no_renewal(monkeypatch):
    """Holders of this process do not renew their leases."""
    monkeypatch.setattr(module, "_renew", lambda *_: None)


def planted(place, age=0.0, **changed):
    """A lease of another process."""
    place.mkdir(parents=True)
    holder = replace(Holder("0123456789ab-1-1", "elsewhere", 1, "theirs"), **changed)
    module._write(place, holder)
    set_age(place, age)
    return holder


def until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def set_age(place, age):
    """Make the last renewal this many seconds old."""
    then = time.time() - age
    os.utime(place / "holder.json", (then, then))


def test_one_process_holds_a_lease_and_releases_it(place):
    with acquire(place) as mine:
        assert mine.is_held()
        assert read_holder(place) == mine.holder
        there = (mine.holder.identity, mine.holder.host, mine.holder.process, mine.holder.crashes)
        assert there == (identity(), socket.gethostname(), os.getpid(), 0)
        with acquire(place) as second:
            assert second is None
        assert mine.is_held()
    assert not mine.is_held()
    assert not place.exists()
    assert not place.parent.parent.exists()  # nothing is left behind


def test_a_lease_is_released_when_the_work_fails(place):
    with pytest.raises(ValueError, match="work"), acquire(place):
        raise ValueError("work")
    assert not place.exists()


def test_the_lease_of_a_process_elsewhere_is_kept_until_it_expires(place):
    planted(place)
    with acquire(place) as mine:
        assert mine is None
    assert read_holder(place).token == "theirs"
    assert sorted(path.name for path in place.iterdir()) == ["holder.json"]


def test_an_expired_lease_is_taken_over_and_counted_as_a_crash(place):
    planted(place, age=module.EXPIRY + 1, crashes=1)
    with acquire(place) as mine:
        assert mine.is_held()
        assert mine.holder.crashes == 2


def test_the_lease_of_an_ended_process_is_taken_over_at_once(place):
    planted(place, identity=gone_identity())
    with acquire(place) as mine:
        assert mine.holder.crashes == 1


def test_a_lease_with_a_reused_process_number_is_taken_over_at_once(place):
    machine, number, start = identity().split("-")
    planted(place, identity=f"{machine}-{number}-{int(start) - 1}")
    with acquire(place) as mine:
        assert mine.holder.crashes == 1


def test_a_lease_of_another_container_with_the_same_host_and_number_is_kept(place):
    _, number, start = identity().split("-")
    planted(place, identity=f"0123456789ab-{number}-{start}", host=socket.gethostname(), process=os.getpid())
    with acquire(place) as mine:
        assert mine is None


def test_a_lease_without_identity_is_kept_until_it_expires(place):
    planted(place)
    content = json.loads((place / "holder.json").read_text())
    del content["identity"]
    (place / "holder.json").write_text(json.dumps(content))
    with acquire(place) as mine:
        assert mine is None
    os.utime(place / "holder.json", (0, 0))
    with acquire(place) as mine:
        assert mine.is_held()


def test_a_lease_with_an_incomplete_holder_expires(place):
    place.mkdir(parents=True)
    (place / "holder.json").write_text('{"host": "x", ')
    assert read_holder(place) is None
    with acquire(place) as mine:
        assert mine is None
    set_age(place, module.EXPIRY + 1)
    with acquire(place) as mine:
        assert mine.is_held()


def test_a_rename_that_succeeded_but_was_reported_as_failed_counts(place, monkeypatch):
    rename = type(place).rename

    def lossy(path, target):
        rename(path, target)
        raise OSError("timed out")

    monkeypatch.setattr(type(place), "rename", lossy)
    assert module._try_acquire(place, "").is_held()


def test_only_the_holder_renews_a_lease(place, monkeypatch):
    monkeypatch.setattr(module, "EXPIRY", 0.06)
    with acquire(place) as mine:
        set_age(place, 1000)
        until(lambda: module._age(place / "holder.json") < 500)
        monkeypatch.setattr(module, "EXPIRY", 500)
        with acquire(place) as other:
            assert other is None
        assert mine.is_held()


def test_a_suspended_holder_notices_that_its_lease_was_taken_over(place, no_renewal):
    with acquire(place) as mine:
        set_age(place, module.EXPIRY + 1)
        with acquire(place) as other:
            assert other.is_held()
            assert not mine.is_held()
        # What the late one leaves word of must not bring the lease back.
        mine.record_failures([("a -> b", "late", 4)])
    assert not place.exists()


def test_a_late_holder_does_not_release_the_lease_of_another(place, no_renewal):
    first = acquire(place)
    first.__enter__()
    set_age(place, module.EXPIRY + 1)
    with acquire(place) as other:
        first.__exit__(None, None, None)
        assert other.is_held()


def test_the_clock_of_the_machine_does_not_matter(place, monkeypatch):
    planted(place)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with acquire(place) as mine:
        assert mine is None


def test_one_of_many_processes_takes_over_an_expired_lease(tmp_path):
    for attempt in range(30):
        place = tmp_path / f"item{attempt}"
        planted(place, age=module.EXPIRY + 1)
        with ThreadPoolExecutor(8) as pool:
            leases = list(pool.map(lambda _, place=place: module._try_acquire(place, ""), range(8)))
        assert sum(lease is not None for lease in leases) == 1


def test_one_of_many_processes_acquires_a_new_lease(tmp_path):
    for attempt in range(30):
        place = tmp_path / "some" / "where" / f"item{attempt}"
        with ThreadPoolExecutor(8) as pool:
            leases = list(pool.map(lambda _, place=place: module._try_acquire(place, ""), range(8)))
        assert sum(lease is not None for lease in leases) == 1


class TestFailures:
    def test_are_not_tried_again_in_their_session(self, place, tmp_path):
        with acquire(place, "today") as mine:
            mine.record_failures([("a -> b", "broken", 4)])
        with acquire(place, "today") as again:
            assert again is None
        assert failures_of_session(tmp_path, "today") == [("a -> b", "broken", 4)]
        assert failures_of_session(tmp_path, "tomorrow") == []

    @pytest.mark.parametrize("session", ["", "tomorrow"])
    def test_are_tried_again_in_any_other_and_are_no_crashes(self, place, session):
        with acquire(place, "today") as mine:
            mine.record_failures([("a -> b", "broken", 4)])
        with acquire(place, session) as again:
            assert again.holder.crashes == 0

    def test_are_not_recorded_without_a_session(self, place):
        with acquire(place) as mine:
            mine.record_failures([("a -> b", "broken", 4)])
        assert not place.exists()

    def test_crashes_are_counted_on(self, place):
        planted(place, age=module.EXPIRY + 1, crashes=2)
        with acquire(place) as mine:
            assert mine.holder.crashes == 3


def test_remove_expired_keeps_the_leases_of_living_processes(tmp_path):
    planted(tmp_path / "dead", age=module.EXPIRY + 1)
    planted(tmp_path / "failed", failed=(("x", "y", 3),), session="old")
    alive = planted(tmp_path / "alive")
    remove_expired(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["alive"]
    assert read_holder(tmp_path / "alive") == alive


def test_sweep_removes_partly_removed_leases(tmp_path):
    left = temporary_of(gone_identity(), tmp_path / "b")
    left.mkdir()
    (left / "holder.json").write_text(json.dumps({}))
    assert sweep(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_acquire_blocking_waits_for_its_turn(place, monkeypatch):
    order, waits = [], threading.Event()
    monkeypatch.setattr(module.time, "sleep", lambda _: waits.set())

    def second():
        with acquire_blocking(place):
            order.append("second")

    with ThreadPoolExecutor(1) as pool:
        with acquire_blocking(place):
            later = pool.submit(second)
            assert waits.wait(60)
            order.append("first")
        later.result(timeout=60)
    assert order == ["first", "second"]
