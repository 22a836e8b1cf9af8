"""Which name belongs to which raw value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from seg_transfer.data.inspection.answers import Answers, Color
from seg_transfer.data.inspection.doubts import Doubt
from seg_transfer.data.inspection.evidence import MaskEvidence
from seg_transfer.data.inspection.pixels import Pixels, allowed_ignored, color_of, value_of
from seg_transfer.data.inspection.values import Values
from seg_transfer.data.inspection.wording import counted
from seg_transfer.errors import ConfigError, DataError

_SHOWN = 3


class NamesFile(Protocol):
    """Class names, in one of three forms; the other two are empty."""

    @property
    def file(self) -> Path:
        """Where they are from."""

    @property
    def by_line(self) -> tuple[str, ...]:
        """A name per line; an empty line is a value to ignore."""

    @property
    def by_id(self) -> Mapping[int, str]:
        """A name per value."""

    @property
    def by_color(self) -> Mapping[Color, str]:
        """A name per color."""


@dataclass(frozen=True, slots=True)
class Naming:
    """Names of raw values, in the order of class indices.

    Attributes:
        names: Raw value -> class name.
        ignore: Raw values whose line in the names file is empty.
        notes: What was decided on the way.
        doubts: What the names leave open.
    """

    names: Mapping[int, str]
    ignore: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()


def named_values(names: NamesFile | None, pixels: Pixels, answers: Answers) -> frozenset[int]:
    """Return the raw values that a names file may mean.

    Args:
        names: The names; None if there are none.
        pixels: The values of all masks: names by line may begin at 1 if 0 never occurs.
        answers: What is stated.

    Returns:
        Raw values, also those whose line is empty; none without a file.
    """
    if names is None:
        return frozenset()
    if names.by_color:
        return frozenset(map(value_of, names.by_color))
    if names.by_id:
        return frozenset(names.by_id)
    may_shift = not any(0 in counts for counts in pixels.counts)
    firsts = ((0, 1) if may_shift else (0,)) if answers.first_id is None else (answers.first_id,)
    # The additional value of a second reading is named too, so that it is no trace.
    return frozenset(range(min(firsts), max(firsts) + len(names.by_line)))


def conclude_names(
    values: Values, pixels: Pixels, masks: Sequence[MaskEvidence], names: NamesFile | None, answers: Answers
) -> Naming:
    """Name every class.

    Args:
        values: The values that are classes.
        pixels: All values of every mask.
        masks: The masks.
        names: Class names; without them, classes are named after their values.
        answers: What is stated.

    Returns:
        The names, with a doubt if ids may begin at 1, or if a name never occurs.

    Raises:
        DataError: A value has no name, or the names file names colors and masks hold numbers.
        ConfigError: The first value is stated, but names have values or colors of their own.
    """
    if names is None:
        return Naming(_own_names(values, pixels))
    if names.by_color or names.by_id:
        if answers.first_id is not None:
            raise ConfigError(
                f"--first-id {answers.first_id}: {names.file} says which {'color' if names.by_color else 'value'} each "
                "name has; leave it out"
            )
        given = {value_of(color): name for color, name in names.by_color.items()} or dict(names.by_id)
        if bool(names.by_color) != (pixels.encoding == "rgb"):
            raise DataError(_wrong_form(names))
        _refuse_unnamed(values, pixels, masks, given, f"{names.file} names {len(given)} others; add it")
        return _by_value(given, values, pixels)
    if pixels.encoding == "rgb":
        raise DataError(_wrong_form(names))
    if values.is_binary and len(names.by_line) == 2 and answers.first_id != 1:
        return _by_value(dict(zip(values.classes, names.by_line, strict=True)), values, pixels)
    return _by_line(names, values, pixels, masks, answers)


def _own_names(values: Values, pixels: Pixels) -> dict[int, str]:
    if values.is_binary:
        return dict(zip(values.classes, ("background", "foreground"), strict=True))
    if pixels.encoding == "rgb":
        return {value: "color_" + "_".join(map(str, color_of(value))) for value in values.classes}
    return {value: f"class_{value}" for value in values.classes}


def _by_line(
    names: NamesFile, values: Values, pixels: Pixels, masks: Sequence[MaskEvidence], answers: Answers
) -> Naming:
    lines, first = names.by_line, answers.first_id or 0
    given = {first + position: name for position, name in enumerate(lines)}
    shifts = answers.first_id is None and bool(values.classes) and _shift_fits(values.classes, len(lines))
    if shifts and values.classes[-1] == len(lines):
        seen = (
            f"values are {values.classes[0]} to {len(lines)}, 0 never occurs, and {names.file} has {len(lines)} lines"
        )
        return Naming({value + 1: name for value, name in enumerate(lines) if name}, (), (), (_shift(seen),))
    rule = f"the {len(lines)} lines of {names.file} name {first} to {first + len(lines) - 1}; add a line"
    if values.classes[:1] == (0,) and values.classes[-1] == len(lines) and answers.first_id is None:
        # Many datasets keep 0 for pixels without a label, and name the others only.
        rule += f", state --first-id 1 --ignore 0 if they name 1 to {len(lines)}"
    _refuse_unnamed(values, pixels, masks, given, rule)
    naming = _by_value(given, values, pixels)
    unseen = [name for value, name in naming.names.items() if value not in values.classes]
    if not unseen or answers.first_id is not None:
        return naming
    more = f" and {len(unseen) - _SHOWN} more" if len(unseen) > _SHOWN else ""
    absent = f"names {', '.join(unseen[:_SHOWN])}{more} never occur" if unseen[1:] else f"name {unseen[0]} never occurs"
    seen = f"{names.file}: {absent} in {counted(len(masks), 'label map')}"
    absent_here = (("--first-id 0", "line 1 names value 0: such classes may be absent"),)
    doubt = _shift(seen, "unseen") if shifts else Doubt("unseen", seen, absent_here)
    return Naming(naming.names, naming.ignore, naming.notes, (doubt,))


def _shift_fits(classes: tuple[int, ...], n_names: int) -> bool:
    return classes[0] >= 1 and classes[-1] <= n_names


def _shift(seen: str, kind: str = "first_id") -> Doubt:
    readings = (("--first-id 1", "line 1 names value 1"), ("--first-id 0", "line 1 names value 0"))
    return Doubt("unseen" if kind == "unseen" else "first_id", seen, readings)


def _by_value(given: Mapping[int, str], values: Values, pixels: Pixels) -> Naming:
    """Drop blank names, names of values that are ignored, and names of numbers that no class can have."""
    lowest, largest = (0, 2**24) if pixels.encoding == "rgb" else allowed_ignored(pixels)
    occurs = {*values.classes, *values.ignore}
    possible = {value: name for value, name in given.items() if lowest <= value <= largest or value in occurs}
    blank = tuple(value for value, name in possible.items() if not name)
    names = {value: name for value, name in possible.items() if name and value not in values.ignore and value >= 0}
    dropped = [name for value, name in possible.items() if name and value in values.ignore]
    notes = [f"{', '.join(dropped)} is ignored, so it is no class"] if dropped else []
    absent = [value for value in given if not (value in names or value in values.ignore or value in blank)]
    if absent:
        shown = ", ".join(f"{given[value] or 'the blank name'} ({value})" for value in absent[:_SHOWN])
        more = f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else ""
        notes.append(f"{shown}{more}: classes have numbers from 0 to {largest}, so such names are left out")
    return Naming(names, blank, tuple(notes))


def _refuse_unnamed(
    values: Values, pixels: Pixels, masks: Sequence[MaskEvidence], given: Mapping[int, str], rule: str
) -> None:
    unnamed = [value for value in values.classes if value not in given]
    if not unnamed:
        return
    value = unnamed[0]
    file = next(mask.file for mask, counts in zip(masks, pixels.counts, strict=True) if value in counts)
    is_color = pixels.encoding == "rgb"
    what = f"color {color_of(value)}" if is_color else f"value {value}"
    # What is ignored by itself must be stated too, once a value is.
    ignored = sorted({*values.ignore, value})
    option = ",".join(":".join(map(str, color_of(each))) if is_color else str(each) for each in ignored)
    raise DataError(f"{file}: {what} has no name: {rule}, or state --ignore {option}")


def _wrong_form(names: NamesFile) -> str:
    if names.by_color:
        return (
            f"{names.file} names colors, but label maps hold numbers; name one class per line, or state --labels-are "
            "colors"
        )
    return f"{names.file} names numbers, but label maps hold colors; write 'R G B name' in each line"
