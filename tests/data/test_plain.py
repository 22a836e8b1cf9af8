"""YAML and JSON of unknown origin: plain data or a one-line error."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from seg_transfer.data.plain import read_json, read_yaml
from seg_transfer.errors import ConfigError


def refusal(read: Callable[[Path], object], file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read(file)
    assert str(caught.value).startswith(str(file))
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/name:os.system", "line 1: not a plain YAML file: could not determine a constructor"),
        ("a: !!python/object/new:os.system [x]", "could not determine a constructor"),
        ("a: 1\na: 2", "the key 'a' occurs twice"),
        ("&a [*a]", "its aliases expand to more than 1000000 values"),
        ("a: &a {b: *a}", "its aliases expand to more than 1000000 values"),
        ("[" * 2000, "nested too deeply"),
        ("a: !!timestamp x", "not a plain YAML file"),
        ("a: !!bool x", "not a plain YAML file"),
        ("a: !!int x", "not a plain YAML file"),
        ("a: 2024-02-31", "not a plain YAML file"),
        ("a: " + "9" * 5000, "not a plain YAML file"),
        ("? [a]\n: 1", "found unhashable key"),
        (r'a: [{b: "x\e[2J"}]', r"the text 'x\x1b[2J' has control characters"),
        (r'"x\e": 1', r"the text 'x\x1b' has control characters"),
        ('a: "\\u202e"', r"the text '\u202e' has control characters"),
    ],
)
def test_yaml_other_than_plain_data_is_refused(tmp_path, text, message):
    assert message in refusal(read_yaml, tmp_path / "file.yaml", text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a JSON file"),
        ("[" * 100_000, "not a JSON file"),
        ("[1]", "holds a list instead of a mapping"),
        (r'{"a": [{"b": "\u001b[2J"}]}', r"the text '\x1b[2J' has control characters"),
        (r'{"\u202e": 1}', r"the text '\u202e' has control characters"),
        ('{"a": ' + "9" * 5000 + "}", "not a JSON file"),
    ],
)
def test_json_other_than_plain_data_is_refused(tmp_path, text, message):
    assert message in refusal(read_json, tmp_path / "file.json", text)


def test_finite_aliases_and_tuples_are_read(tmp_path):
    """As mmengine dumps configs: a tuple is a list, and what is there twice is an alias."""
    norm = {"type": "BN", "sizes": (1, (2, 3))}
    (tmp_path / "file.yaml").write_text(yaml.dump({"one": norm, "two": norm, "text": "a\tb\nc ‌ ü"}))
    assert "python/tuple" in (tmp_path / "file.yaml").read_text()
    plain = {"type": "BN", "sizes": [1, [2, 3]]}
    assert read_yaml(tmp_path / "file.yaml") == {"one": plain, "two": plain, "text": "a\tb\nc ‌ ü"}


def test_a_large_file_without_aliases_is_read(tmp_path):
    (tmp_path / "file.yaml").write_text("\n".join(f"- {number}" for number in range(5000)))
    assert read_yaml(tmp_path / "file.yaml") == list(range(5000))
