"""A failed item stops no other; what failed is logged once and raised in the end."""

from collections.abc import Callable

import pytest

from seg_transfer.console import console_logging
from seg_transfer.errors import CheckpointError, DataError, IncompleteError
from seg_transfer.stages.failures import for_each

Failure = Callable[["Work"], tuple[IncompleteError, list[str]]]


class Work:
    """Fails for some items with the error that is given for them, and remembers all it was asked for."""

    def __init__(self, **errors: Exception) -> None:
        self.errors = errors
        self.asked: list[str] = []

    def __call__(self, item: str) -> None:
        self.asked.append(item)
        if item in self.errors:
            raise self.errors[item]


@pytest.fixture
def failure(caplog: pytest.LogCaptureFixture) -> Failure:
    """Does the work for four items, and gives the error and what was logged."""

    def fail(work: Work) -> tuple[IncompleteError, list[str]]:
        with pytest.raises(IncompleteError) as raised:
            for_each("abcd", work, lambda item: f"item {item}")
        return raised.value, caplog.messages

    return fail


def test_all_items_are_done_in_order_and_nothing_is_logged(caplog):
    work = Work()
    for_each("bca", work, str)
    assert (work.asked, caplog.messages) == (["b", "c", "a"], [])


def test_a_failure_stops_no_other_item(failure):
    work = Work(b=DataError("b.png: torn"))
    error, logged = failure(work)
    assert work.asked == ["a", "b", "c", "d"]
    assert logged == ["item b: b.png: torn"]
    assert str(error).startswith("failed: item b; all others are finished and kept")
    assert "run the same command again" in str(error)


def test_the_same_reason_is_logged_once_and_every_failed_item_is_listed(failure):
    work = Work(a=DataError("x.png: torn"), b=DataError("y.png: torn"), d=DataError("x.png: torn"))
    error, logged = failure(work)
    assert logged == ["item a: x.png: torn", "item b: y.png: torn"]
    assert str(error).startswith("failed: item a, item b, item d; ")


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ({"a": DataError("x")}, 4),
        ({"a": DataError("x"), "b": DataError("y")}, 4),
        ({"a": CheckpointError("x")}, 5),
        ({"a": DataError("x"), "b": CheckpointError("y")}, 8),
    ],
)
def test_the_exit_code_is_that_of_the_reasons_where_they_agree(failure, errors, code):
    error, _ = failure(Work(**errors))
    assert error.exit_code == code


def test_whatever_an_item_raises_is_its_own_failure():
    work = Work(b=ZeroDivisionError())
    with pytest.raises(IncompleteError) as caught:
        for_each("abc", work, str)
    assert (work.asked, caught.value.exit_code) == (["a", "b", "c"], 10)


def test_a_fault_of_the_machine_is_not_swallowed():
    work = Work(b=OSError("no space left"))
    with pytest.raises(OSError, match="no space left"):
        for_each("abc", work, str)
    assert work.asked == ["a", "b"]


def test_reasons_go_to_stderr(capsys):
    with console_logging(), pytest.raises(IncompleteError):
        for_each("a", Work(a=DataError("x.png: torn")), str)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "seg-transfer: a: x.png: torn\n")
