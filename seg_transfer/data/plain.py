"""Reads untrusted YAML and JSON files as plain data: only dicts, lists, text, numbers and dates."""

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from seg_transfer.errors import UNPRINTABLE, ConfigError, reason_of

# An alias repeats its value, so a few lines can expand to more values than fit into memory.
_MAX_VALUES = 1_000_000
# Parsed, a file takes up to thirty times its size. Vocabularies, the largest of such files, have some ten megabytes.
_MAX_BYTES = 1 << 26
_BREAKS = re.compile(r"[\t\n\r]")


class _PlainLoader(yaml.SafeLoader):
    """A SafeLoader that refuses excessive aliases and duplicate keys, whose last value YAML would silently keep."""

    def get_single_node(self) -> yaml.Node | None:
        """Return the root node of the file, before any object is constructed."""
        node = super().get_single_node()
        if node is not None and _n_values(node, {}) > _MAX_VALUES:
            raise yaml.YAMLError(f"its aliases expand to more than {_MAX_VALUES} values; write it without aliases")
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        """Construct a mapping, whose keys must be unique."""
        key_nodes = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        mapping = super().construct_mapping(node, deep=deep)
        seen: set[Hashable] = set()
        for key_node in key_nodes:
            key = self.construct_object(key_node)
            if key in seen:
                problem = f"the key {key!r} occurs twice; remove one"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            seen.add(key)
        return mapping


def _as_list(loader: _PlainLoader, node: yaml.SequenceNode) -> list[object]:
    return loader.construct_sequence(node, deep=True)


# mmengine and others dump tuples like this.
_PlainLoader.add_constructor("tag:yaml.org,2002:python/tuple", _as_list)


def _n_values(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values of a node with all aliases expanded; a node that contains itself exceeds every limit."""
    if id(node) not in known:
        known[id(node)] = _MAX_VALUES + 1
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        inside = (_n_values(part, known) for part in parts) if isinstance(node, yaml.CollectionNode) else ()
        known[id(node)] = min(1 + sum(inside), _MAX_VALUES + 1)
    return known[id(node)]


def read_yaml(path: Path) -> object:
    """Read a YAML file.

    Raises:
        ConfigError: The file cannot be read or is not plain YAML; the message is one line.
    """
    try:
        return _printable(path, yaml.load(_text_of(path), Loader=_PlainLoader))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read ({reason}); name a readable YAML file") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not a plain YAML file: {error.problem}") from error
    # An invalid date such as 2024-02-31 is a ValueError; values that do not fit their tag raise the others.
    except (yaml.YAMLError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise ConfigError(f"{path}: not a plain YAML file: {reason_of(error)}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: not a plain YAML file: nested too deeply; use fewer levels") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a mapping.

    Raises:
        ConfigError: The file cannot be read or holds something else; the message is one line.
    """
    try:
        content = _printable(path, json.loads(_text_of(path)))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a readable JSON file") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not a JSON file ({reason_of(error)}); copy it again") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds a {type(content).__name__} instead of a mapping; correct it")
    return content


def _text_of(path: Path) -> str:
    """Return the text of a file, which must not be a device or a queue: those may never end."""
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: is not a file; name a readable one")
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"{path}: has more than {_MAX_BYTES >> 20} MB of text; name the right file")
    return content.decode("utf-8")


def _printable(path: Path, content: object) -> object:
    """Return the content unchanged; raises ConfigError for text that controls the terminal or the text direction."""
    pending = [content]
    while pending:
        value = pending.pop()
        if isinstance(value, str) and UNPRINTABLE.search(_BREAKS.sub("", value)):
            raise ConfigError(f"{path}: the text {value!r:.80} has control characters; remove them")
        if isinstance(value, dict):
            pending += value.keys()
            pending += value.values()
        elif isinstance(value, list | tuple | set):
            pending += value
    return content
