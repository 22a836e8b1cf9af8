"""Reads files of class names: one name per line, with or without the value or color that it names."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from seg_transfer.data.fields import composed
from seg_transfer.data.inspection.answers import Color
from seg_transfer.errors import UNPRINTABLE, ConfigError

# A value alone is one to ignore, also with a separator, as in a table whose last column is empty.
_ID = re.compile(r"(-?\d+)(?:(?:\s*[:,;]\s*|\s+)(\S.*)?)?")
_COLOR = r"(\d+)[\s,;:]+(\d+)[\s,;:]+(\d+)"
_COLOR_FIRST = re.compile(rf"{_COLOR}[\s,;:]+(?P<name>\S.*)")
_COLOR_LAST = re.compile(rf"(?P<name>.*?\S)[\s,;:]+{_COLOR}[\s,;:]*")
# The other way around, blanks do not separate: "class 1" is a name.
_ID_LAST = re.compile(r"(\S.*?)\s*[,;\t]\s*(-?\d+)")
_BEGINS_WITH_ID = re.compile(r"\d+[\s,;:]+\S")
_HEADING = frozenset(
    (
        *("name", "names", "class", "classes", "label", "labels", "category", "id", "ids", "index", "value", "number"),
        *("color", "colour", "rgb", "r", "g", "b", "red", "green", "blue", "parts", "actions", "pixel"),
    )
)
_Read = TypeVar("_Read")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Names:
    """Class names, in one of three forms; the other two are empty.

    Attributes:
        file: Where they are from.
        by_line: A name per line, for the values from 0 (or 1); an empty line is a value to ignore.
        by_id: A name per value.
        by_color: A name per color.
    """

    file: Path
    by_line: tuple[str, ...] = ()
    by_id: Mapping[int, str] = field(default_factory=dict)
    by_color: Mapping[Color, str] = field(default_factory=dict)


def read_names(file: Path) -> Names:
    """Read class names.

    A line is a name; or, if all lines are so, a value and a name (``7 road``, ``7: road``, ``road,7``), or a name and a
    color, in any order (``road 128 64 128``, ``128,64,128,road``); then, the first line may be a heading such as
    ``name,r,g,b``. An empty line, or a value alone, is a value to ignore. Names are kept in Unicode's composed form.

    Args:
        file: A text file in UTF-8, with or without byte order mark.

    Returns:
        The names, in the form that all lines have.

    Raises:
        ConfigError: The file is JSON or no UTF-8 text, names a class, value or color twice, or most but not all lines
            have a value or a color.
    """
    if file.suffix.lower() == ".json":
        raise ConfigError(
            f"{file}: is JSON, in which names have many places; write one class name per line in a text file"
        )
    lines = _lines(file)
    filled = [(number, line) for number, line in enumerate(lines, start=1) if line]
    if not filled:
        raise ConfigError(f"{file}: is empty; write one class name per line")
    entries = filled[1:] if _is_heading(filled[0][1]) else filled
    colored = _all(file, _colored, entries, "color from 0 to 255")
    if colored:
        _refuse_both(file, colored)
        _refuse_twice(file, [(number, color) for number, (color, _) in colored], "color")
        _refuse_twice(file, [(number, name) for number, (_, name) in colored], "name")
        return Names(file, by_color=dict(pair for _, pair in colored))
    numbered = _all(file, _numbered, entries, "value")
    if any(name for _, (_, name) in numbered):
        _refuse_twice(file, [(number, value) for number, (value, _) in numbered], "value")
        _refuse_twice(file, [(number, name) for number, (_, name) in numbered if name], "name")
        return Names(file, by_id=dict(pair for _, pair in numbered))
    _refuse_twice(file, filled, "name")
    return Names(file, by_line=tuple(lines))


def _lines(file: Path) -> list[str]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); give one class name per line") from error
    if content.startswith(_UTF16):
        raise ConfigError(f"{file}: is UTF-16 text; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    lines = [composed(line).strip() for line in text.rstrip().splitlines()]
    for number, line in enumerate(lines, start=1):
        if UNPRINTABLE.search(line.replace("\t", " ")):
            raise ConfigError(f"{file}, line {number}: {line!r:.80} has control characters; remove them")
    return lines


def _is_heading(line: str) -> bool:
    words = re.findall("[a-z]+", line.lower())
    return len(words) > 1 and _HEADING.issuperset(words) and not re.search(r"\d", line)


def _all(
    file: Path, read: Callable[[str], _Read | None], lines: Sequence[tuple[int, str]], kind: str
) -> list[tuple[int, _Read]]:
    """Read all numbered lines; nothing if most of them cannot be read so. A few that cannot are a slip of the pen."""
    found = [(number, value) for number, line in lines if (value := read(line)) is not None]
    if 2 * len(found) <= len(lines):
        return []
    readable = {number for number, _ in found}
    for number, line in lines:
        if number not in readable:
            raise ConfigError(f"{file}, line {number}: {line!r:.80} has no {kind}, but most lines have one; add it")
    return found


def _numbered(line: str) -> tuple[int, str] | None:
    line = line.replace('"', "")
    first, last = _ID.fullmatch(line), _ID_LAST.fullmatch(line)
    if first:
        return int(first[1]), _unquoted(first[2] or "")
    return (int(last[2]), last[1]) if last else None


def _colored(line: str) -> tuple[Color, str] | None:
    line = line.replace('"', "")
    first, last = _COLOR_FIRST.fullmatch(line), _COLOR_LAST.fullmatch(line)
    if first:
        red, green, blue, name = first.groups()
    elif last:
        name, red, green, blue = last.groups()
    else:
        return None
    color = (int(red), int(green), int(blue))
    return (color, _unquoted(name)) if max(color) <= 255 else None


def _unquoted(name: str) -> str:
    return name.strip("\"'")


def _refuse_both(file: Path, colored: Sequence[tuple[int, tuple[Color, str]]]) -> None:
    """Refuse lines that have both a value and a color: label maps hold one of the two."""
    if all(_BEGINS_WITH_ID.match(name) for _, (_, name) in colored):
        raise ConfigError(f"{file}: lines have four numbers; keep the value or the color that label maps hold")


def _refuse_twice(file: Path, entries: Iterable[tuple[int, Hashable]], kind: str) -> None:
    first: dict[Hashable, int] = {}
    for number, entry in entries:
        if entry in first:
            raise ConfigError(
                f"{file}: lines {first[entry]} and {number} have the same {kind} {entry!r}; every {kind} must be unique"
            )
        first[entry] = number
