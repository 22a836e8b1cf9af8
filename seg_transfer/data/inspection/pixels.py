"""What the pixels of masks are: numbers, palette indices or colors."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from seg_transfer.data.inspection.answers import Answers, Color
from seg_transfer.data.inspection.doubts import Doubt
from seg_transfer.data.inspection.evidence import MaskEvidence
from seg_transfer.data.inspection.statistics import ValueCount
from seg_transfer.data.inspection.wording import counted
from seg_transfer.errors import DataError

Encoding = Literal["id", "palette", "rgb"]
Counts = Mapping[int, ValueCount]
_ENCODINGS: Mapping[str, Encoding] = {"gray": "id", "palette": "palette", "colors": "rgb"}


@dataclass(frozen=True, slots=True)
class Pixels:
    """The values of all masks under one encoding.

    Attributes:
        encoding: How masks are read.
        counts: Raw value -> pixels, for every mask.
        notes: What was decided on the way.
        doubts: What the files leave open.
    """

    encoding: Encoding
    counts: tuple[Counts, ...]
    notes: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()


def conclude_pixels(masks: Sequence[MaskEvidence], answers: Answers, *, has_color_names: bool = False) -> Pixels:
    """Decide between numbers, palette indices and colors, from all masks.

    Args:
        masks: The masks.
        answers: What is stated.
        has_color_names: Whether a names file names colors, which settles the question.

    Returns:
        The encoding, and the values of every mask under it.

    Raises:
        DataError: A mask cannot be read in the way that is stated.
    """
    stated = answers.labels_are or ("colors" if has_color_names else None)
    if stated:
        decided: tuple[Encoding, tuple[str, ...], tuple[Doubt, ...]] = (_ENCODINGS[stated], (), ())
    else:
        decided = _decided(masks)
    encoding, notes, doubts = decided
    counts = tuple(_counts(mask, encoding) for mask in masks)
    return Pixels(encoding, counts, (*notes, *_said(masks)), doubts)


def allowed_ignored(pixels: Pixels) -> tuple[int, int]:
    """Return the lowest and the largest number that a manifest can ignore; classes are at least 0.

    Example:
        >>> allowed_ignored(Pixels("palette", ()))
        (0, 255)
    """
    return (0, 255) if pixels.encoding == "palette" else (-(2**31), 65535)


def value_text(value: int, encoding: str) -> str:
    """Write a raw value as options have it: a number, or a color as R:G:B."""
    return ":".join(map(str, color_of(value))) if encoding == "rgb" else str(value)


def color_of(value: int) -> Color:
    """Return (R, G, B) of R + 256 G + 65536 B.

    Example:
        >>> color_of(513)
        (1, 2, 0)
    """
    return value % 256, value // 256 % 256, value // 65536


def value_of(color: Color) -> int:
    """Return R + 256 G + 65536 B.

    Example:
        >>> value_of((1, 2, 0))
        513
    """
    return color[0] + 256 * color[1] + 65536 * color[2]


def _decided(masks: Sequence[MaskEvidence]) -> tuple[Encoding, tuple[str, ...], tuple[Doubt, ...]]:
    of_kind = defaultdict(list)
    for mask in masks:
        of_kind[mask.kind].append(mask)
    palettes, colored = of_kind["palette"], of_kind["colors"]
    if palettes and colored:
        return "rgb", *_mixed(palettes, colored)
    if colored:
        return "rgb", (), _gray_beside_colors(of_kind["gray"], colored)
    if not palettes:
        return "id", (), ()
    return "palette", _gray_beside(palettes, masks), differing_palettes(palettes)


def _gray_beside(palettes: Sequence[MaskEvidence], masks: Sequence[MaskEvidence]) -> tuple[str, ...]:
    others = [mask for mask in masks if mask.kind != "palette"]
    if not others:
        return ()
    seen = f"{_number(palettes)} with a palette and {_number(others)} in gray, such as {others[0].file}"
    return (f"{seen}: palette indices and gray values are the same ids",)


def _mixed(
    palettes: Sequence[MaskEvidence], colored: Sequence[MaskEvidence]
) -> tuple[tuple[str, ...], tuple[Doubt, ...]]:
    seen = {value for mask in colored for value in mask.values}
    for mask in palettes:
        new = [color for color in mask.palette.values() if value_of(color) not in seen]
        if new:
            text = (
                f"{mask.file} has a palette whose color {new[0]} no true-color label map has, such as {colored[0].file}"
            )
            readings = (
                ("--labels-are colors", "the colors of palettes and of true-color label maps are classes"),
                ("--labels-are palette", "indices are classes; leave true-color label maps out"),
            )
            return (), (Doubt("mixed", text, readings),)
    seen_in = f"{_number(palettes)} with a palette and {_number(colored)} of the same true colors"
    return (f"{seen_in}: label maps are read as colors",), ()


def _gray_beside_colors(gray: Sequence[MaskEvidence], colored: Sequence[MaskEvidence]) -> tuple[Doubt, ...]:
    """Doubt gray label maps with a gray that no true-color label map has: it may be an id."""
    seen = {value for mask in colored for value in mask.values}
    for mask in gray:
        new = [value for value in mask.values if mask.bits <= 8 and _as_color(mask, value) not in seen]
        if new:
            text = (
                f"{mask.file} is gray and has value {min(new)}, but {colored[0].file} has colors, and no such one "
                "has that gray (if gray values are ids, store all label maps alike)"
            )
            readings = (("--labels-are colors", "gray is one of the colors"),)
            return (Doubt("mixed", text, readings),)
    return ()


def differing_palettes(palettes: Sequence[MaskEvidence]) -> tuple[Doubt, ...]:
    """Doubt palettes in which one used index has different colors: then either indices or colors are the classes."""
    first: dict[int, tuple[Color, str]] = {}
    for mask in palettes:
        for index, color in mask.palette.items():
            known, file = first.setdefault(index, (color, mask.file))
            if known != color:
                text = f"palette index {index} is color {known} in {file}, but {color} in {mask.file}"
                readings = (
                    ("--labels-are palette", "indices are classes"),
                    ("--labels-are colors", "colors are classes"),
                )
                return (Doubt("palettes", text, readings),)
    return ()


def _counts(mask: MaskEvidence, encoding: Encoding) -> Counts:
    if encoding == "id" and mask.kind in ("gray", "array"):
        return mask.values
    if encoding == "palette" and mask.kind == "gray" and mask.format == "GIF":
        raise DataError(
            f"{mask.file}: is a gray GIF file, whose palette indices are not its gray values, so it cannot be read as "
            "palette; state --labels-are gray if no label map has colors, or store all label maps as PNG"
        )
    if encoding == "palette" and mask.kind != "colors":
        return mask.values
    if encoding == "rgb" and mask.kind != "array" and mask.bits <= 8:
        return _merged(mask, lambda value: _as_color(mask, value)) if mask.kind != "colors" else mask.values
    if encoding == "id" and mask.kind == "palette" and all(len(set(color)) == 1 for color in mask.palette.values()):
        return _merged(mask, lambda index: mask.palette[index][0])
    what = {"palette": "palette colors", "colors": "colored pixels"}.get(mask.kind, f"numbers of {mask.bits} bits")
    raise DataError(
        f"{mask.file}: has {what}, so it cannot be read as {_word(encoding)}; state another --labels-are, or store all "
        "label maps alike"
    )


def _word(encoding: Encoding) -> str:
    return next(word for word, name in _ENCODINGS.items() if name == encoding)


def _as_color(mask: MaskEvidence, value: int) -> int:
    if mask.kind == "palette":
        return value_of(mask.palette[value])
    gray = value * 255 // (2**mask.bits - 1)  # as a viewer shows it
    return value_of((gray, gray, gray))


def _merged(mask: MaskEvidence, value_of_index: Callable[[int], int]) -> Counts:
    merged: dict[int, ValueCount] = {}
    for index, count in mask.values.items():
        value = value_of_index(index)
        old = merged.get(value, ValueCount(0, 0))
        merged[value] = ValueCount(old.pixels + count.pixels, old.solid + count.solid)
    return merged


def _said(masks: Sequence[MaskEvidence]) -> tuple[str, ...]:
    """Say what every person would do with the files."""
    triple = [mask for mask in masks if mask.kind == "gray" and mask.channels == 3]
    opaque = [mask for mask in masks if mask.has_alpha]
    notes = []
    if triple:
        notes.append(f"{_number(triple)} with R = G = B, such as {triple[0].file}: read as gray")
    if opaque:
        notes.append(f"{_number(opaque)} with an opaque alpha channel, such as {opaque[0].file}: alpha is dropped")
    depths = sorted({mask.bits for mask in masks if mask.kind in ("gray", "array")})
    if len(depths) > 1:
        notes.append(f"label maps have {', '.join(map(str, depths))} bits: the stored numbers are the same ids")
    return tuple(notes)


def _number(masks: Sequence[MaskEvidence]) -> str:
    return counted(len(masks), "label map")
