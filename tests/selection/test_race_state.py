"""The state of a race in its run folder: read as it was written, for the same request alone, and never half."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_transfer.errors import ResultsError
from seg_transfer.selection.race_plan import Pace, Plan, plan_race
from seg_transfer.selection.race_state import RaceState, read_state, write_state

PACES = {"b": Pace(1e-9), "a": Pace(0.1 + 0.2, 1 / 3), "ü 漢 \"'<script>\n": Pace(2.5, 1e300)}
ASKED: Mapping[str, Any] = {
    "minutes": 30.0,
    "runs": None,
    "steps": None,
    "schedule": {"steps": 80, "scale_range": (0.5, 2.0)},
    "hold_out": {"share": 0.2, "seed": 0},
    "images": 272,
    "seed": 0,
    "entrants": list(PACES),
}
PLAN = plan_race(list(PACES), PACES, 80, budget=1e302, n_folds=2)
STATE = RaceState(ASKED, 80, PACES, PLAN)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_state(tmp_path, STATE)
    return tmp_path / "race.json"


@pytest.mark.parametrize("state", [STATE, RaceState(ASKED, 24, {}), RaceState(ASKED, 80, PACES)])
def test_a_state_is_read_as_it_was_written(tmp_path: Path, state: RaceState) -> None:
    write_state(tmp_path, state)
    found = read_state(tmp_path, ASKED)
    assert found == state
    assert found is not None
    assert list(found.paces) == list(state.paces)
    assert [path.name for path in tmp_path.iterdir()] == ["race.json"]


def test_the_plan_that_was_read_is_one(file: Path) -> None:
    found = read_state(file.parent, ASKED)
    assert found is not None
    assert isinstance(found.plan, Plan)
    assert hash(found.plan) == hash(PLAN)  # of tuples, and of rungs


@settings(max_examples=20)
@given(
    st.dictionaries(st.text(st.characters(codec="utf-8")), st.builds(Pace, st.floats(0, 1e6), st.floats(0, 1e6))),
    st.integers(1, 10**6),
)
def test_numbers_and_names_stay_exact(tmp_path_factory, paces: dict[str, Pace], steps: int) -> None:
    folder = tmp_path_factory.mktemp("state")
    plan = plan_race(list(paces), paces, steps, budget=1e300) if paces else None
    state = RaceState({"entrants": list(paces)}, steps, paces, plan)
    write_state(folder, state)
    assert read_state(folder, state.asked) == state


def test_a_later_state_takes_the_place_of_an_earlier_one(file: Path) -> None:
    later = RaceState({**ASKED, "seed": 1}, 40, {})
    write_state(file.parent, later)
    assert read_state(file.parent, ASKED) is None
    assert read_state(file.parent, later.asked) == later


def test_without_a_file_there_is_no_state(tmp_path: Path) -> None:
    assert read_state(tmp_path, ASKED) is None
    assert read_state(tmp_path / "missing", ASKED) is None


@pytest.mark.parametrize("name", ASKED)
def test_another_request_has_no_state(file: Path, name: str) -> None:
    assert read_state(file.parent, {**ASKED, name: "other"}) is None
    assert read_state(file.parent, {one: value for one, value in ASKED.items() if one != name}) is None


def test_another_request_differs_in_anything_at_any_depth(file: Path) -> None:
    assert read_state(file.parent, {**ASKED, "hold_out": {"share": 0.2, "seed": 1}}) is None
    assert read_state(file.parent, {**ASKED, "entrants": list(PACES)[::-1]}) is None
    assert read_state(file.parent, {**ASKED, "more": None}) is None


def test_a_request_is_the_same_whether_it_has_tuples_or_lists_and_in_any_order(file: Path) -> None:
    assert read_state(file.parent, {**ASKED, "entrants": tuple(PACES)}) is not None
    assert read_state(file.parent, dict(reversed(ASKED.items()))) is not None


def damaged(file: Path) -> str:
    """What a damaged file is refused with."""
    with pytest.raises(ResultsError) as error:
        read_state(file.parent, ASKED)
    message = str(error.value)
    assert message.startswith(f"{file}: damaged (")
    assert message.endswith("); delete it and run the same command again")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"{",
        b"[" * 100_000,
        b"null",
        b"5",
        b"[]",
        b'"text"',
        b"{}",
        b"\xff\xfe\x00",
        b'{"asked": 1}x',
        b'{"a": \xc3"}',
    ],
)
def test_a_file_that_is_no_state_is_damaged(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    damaged(file)


def test_a_file_that_ends_early_is_damaged_wherever_it_ends(file: Path) -> None:
    content = file.read_bytes()
    for end in range(0, len(content.rstrip()), 7):
        file.write_bytes(content[:end])
        damaged(file)


@pytest.mark.parametrize("path", [["steps"], ["paces"], ["plan"], ["plan", "rungs"], ["plan", "racers"]])
def test_a_file_without_a_part_is_damaged(file: Path, path: list[str]) -> None:
    change(file, path)
    assert "KeyError" in damaged(file)


@pytest.mark.parametrize("path", [["paces", "a", "step"], ["plan", "race_cost"], ["plan", "rungs", 0, "steps"]])
def test_a_file_without_a_number_is_damaged(file: Path, path: list[str | int]) -> None:
    change(file, path)
    assert "TypeError" in damaged(file)


@pytest.mark.parametrize("value", [5, "text", [1], {"unknown": 1}, False])
@pytest.mark.parametrize("path", [["paces"], ["paces", "a"], ["plan"], ["plan", "rungs"], ["plan", "rungs", 0]])
def test_a_file_with_something_else_in_a_place_is_damaged(file: Path, path: list[str | int], value: object) -> None:
    change(file, path, value)
    damaged(file)


@pytest.mark.parametrize("value", [0, "", [], {}, False])
def test_only_null_means_that_there_is_no_plan_yet(file: Path, value: object) -> None:
    change(file, ["plan"], value)
    damaged(file)
    change(file, ["plan"], None)
    assert read_state(file.parent, ASKED) == RaceState(ASKED, 80, PACES)


def test_a_folder_in_the_place_of_the_file_is_damage(file: Path) -> None:
    file.unlink()
    file.mkdir()
    assert "IsADirectoryError" in damaged(file)


def change(file: Path, path: list[Any], *values: object) -> None:
    """Put a value into a place of the file, or remove what is there."""
    content = json.loads(file.read_text())
    inside = content
    for step in path[:-1]:
        inside = inside[step]
    if values:
        inside[path[-1]] = values[0]
    else:
        del inside[path[-1]]
    file.write_text(json.dumps(content))
