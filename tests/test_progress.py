import io

import pytest
from rich.console import Console

from seg_transfer import progress
from seg_transfer.progress import progress_of


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock of one hand that a test sets."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_elsewhere_than_on_a_terminal_there_is_a_line_per_half_minute_and_silence_between(clock, capsys):
    with progress_of("train a") as tick:
        for step in range(1, 101):  # a step per second
            clock[0] += 1.0
            tick(step, 200)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["train a: 30/200", "train a: 60/200", "train a: 90/200"]


def test_the_time_left_is_that_of_the_steps_taken_so_far(clock, capsys):
    with progress_of("train a") as tick:
        tick(0, 100)
        clock[0] += 40.0
        tick(10, 100)
    assert capsys.readouterr().err == "train a: 10/100, 360 s left\n"


def test_a_resumed_run_counts_its_own_steps_only(clock, capsys):
    with progress_of("train a") as tick:
        tick(500, 600)
        clock[0] += 50.0
        tick(525, 600)
    assert capsys.readouterr().err == "train a: 525/600, 150 s left\n"


def test_one_late_tick_says_nothing_because_it_gives_no_pace(clock, capsys):
    with progress_of("train a") as tick:
        clock[0] += 100.0
        tick(1, 2)
    assert capsys.readouterr().err == ""


def test_a_quick_run_is_silent(capsys):
    with progress_of("train a") as tick:
        for step in range(1, 11):
            tick(step, 10)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_on_a_terminal_there_is_a_bar_that_vanishes():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with progress_of("train a", console) as tick:
        tick(3, 4)
        assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "train a" in shown
    assert "3/4" in shown
    assert shown.endswith("\x1b[2K")  # the line is cleared


def test_inside_a_bar_there_is_no_second_one():
    outer, inner = (Console(file=io.StringIO(), force_terminal=True, width=100) for _ in range(2))
    with progress_of("scoring", outer), progress_of("downloading", inner) as tick:
        tick(1, 4)
    assert inner.file.getvalue() == ""
    with progress_of("downloading", inner) as tick:
        tick(1, 4)
    assert "1/4" in inner.file.getvalue()
