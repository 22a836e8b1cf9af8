"""Results come in order, a few of them computed in advance by threads."""

import threading

import pytest

from seg_transfer.data.prefetch import prefetch
from seg_transfer.errors import DataError


def test_results_keep_the_order_of_the_items():
    later_done = threading.Event()

    def slow_first(number: int) -> int:
        if number == 0:
            assert later_done.wait(60)
        later_done.set()
        return number * number

    assert list(prefetch(slow_first, range(20))) == [number * number for number in range(20)]
    assert list(prefetch(slow_first, [])) == []


def test_only_a_few_results_are_computed_in_advance():
    started = []

    def note(number: int) -> int:
        started.append(number)
        return number

    results = prefetch(note, iter(range(100)))
    assert next(results) == 0
    assert len(started) <= 6
    assert next(results) == 1
    results.close()
    assert len(started) < 10


def test_an_error_is_raised_where_its_result_is_due():
    def fails(number: int) -> int:
        if number == 2:
            raise DataError("two")
        return number

    results = prefetch(fails, range(50))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(DataError, match="two"):
        next(results)


def test_no_thread_remains():
    before = set(threading.enumerate())
    results = prefetch(abs, range(50))
    next(results)
    results.close()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (5, 3)])
def test_as_many_results_are_under_way_as_allowed(threads, ahead):
    started: list[int] = []
    results = prefetch(lambda number: started.append(number), iter(range(100)), threads=threads, ahead=ahead)
    for taken in range(1, 10):
        next(results)
        assert len(started) <= taken + ahead
    results.close()


def test_results_are_computed_by_as_many_threads_at_once():
    together = threading.Barrier(5)
    assert list(prefetch(lambda _: together.wait(60) >= 0, range(5), threads=5, ahead=5)) == [True] * 5
