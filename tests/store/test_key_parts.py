"""The parts of a content key, and those of the keys in a file of results."""

import pytest

from seg_transfer.store import content_key as module
from seg_transfer.store.content_key import Key, content_key
from seg_transfer.store.key_parts import KEY_PARTS, parts_entry, parts_in


def test_parts_have_dotted_names():
    inner = content_key(sampling={"seed": 0, "grid": "full"}, records=Key("ab" * 32))
    key = content_key(sample=inner, low_shot={"limit": {"n": 4}}, empty={}, own=[inner, 5], crops=[1, 2], none=None)
    assert key.parts == {
        "sample.sampling.seed": "0",
        "sample.sampling.grid": "full",
        "sample.records": module._shown("ab" * 32),
        "low_shot.limit": '{"n": 4}',
        "empty": "{}",
        "own.0.sampling.seed": "0",
        "own.0.sampling.grid": "full",
        "own.0.records": module._shown("ab" * 32),
        "own.1": "5",
        "crops": "[1, 2]",
        "none": "null",
        "schema_version": "1",
    }


def test_parts_do_not_change_the_key():
    inner = content_key(a=1)
    assert content_key(inner=inner) == content_key(inner=str(inner))


def test_long_values_are_digests_that_differ():
    one, other = (content_key(value="x" * 61 + end).parts["value"] for end in "ab")
    assert one.startswith("sha256:")
    assert one != other
    assert len(one) < 30


@pytest.mark.parametrize(
    "rows",
    [
        {"gbc": {"seed": "0", "metric": "gbc"}, "leep": {"seed": "0", "metric": "leep"}},
        {"0": {"a": "1"}},
        {"0": {"a": "1"}, "1": {"b": "1"}},
        {"0": {"a": "1", "b": "2"}, "1": {"a": "1"}},
    ],
)
def test_parts_of_rows_are_read_back(rows):
    assert parts_in(parts_entry(rows)[KEY_PARTS]) == rows


def test_shared_parts_are_written_once():
    rows = {name: {"common": "here once", "own": name} for name in ("gbc", "leep", "nce")}
    assert parts_entry(rows)[KEY_PARTS].count("here once") == 1


def test_rows_without_parts_have_none():
    assert parts_entry({"0": {}}) == {}
    assert parts_in(parts_entry({"0": {}, "1": {"a": "1"}})[KEY_PARTS]) == {"1": {"a": "1"}}


@pytest.mark.parametrize("entry", ["", "{", "[]", "3", "{}", '{"": 3, "a": {}}', '{"": {}, "a": 3}'])
def test_an_invalid_entry_has_no_parts(entry):
    assert parts_in(entry) == {}
