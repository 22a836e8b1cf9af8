"""Which values of masks are classes, which are ignored, and which are traces of compression or smoothing."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from seg_transfer.data.inspection.answers import Answers
from seg_transfer.data.inspection.doubts import Doubt
from seg_transfer.data.inspection.evidence import MaskEvidence
from seg_transfer.data.inspection.ignored import auto_ignored, stated_ignored, too_much_ignored
from seg_transfer.data.inspection.pixels import Pixels, color_of
from seg_transfer.data.inspection.traces import class_like, doubts_of_traces, without_neighbors

Unlisted = Literal["error", "nearest", "ignore"]
_UNLISTED: Mapping[str | None, Unlisted] = {None: "error", "class": "error", "nearest": "nearest", "ignore": "ignore"}


@dataclass(frozen=True, slots=True)
class Values:
    """The raw values of all masks.

    Attributes:
        classes: Those that are classes, ascending.
        ignore: Those that are ignored, ascending.
        unlisted: What all others are: ``labels.unlisted`` of a manifest.
        is_binary: Whether the classes are 0 and the highest value, which are background and foreground.
        notes: What was decided on the way.
        doubts: What the values leave open.
    """

    classes: tuple[int, ...]
    ignore: tuple[int, ...]
    unlisted: Unlisted
    is_binary: bool
    notes: tuple[str, ...]
    doubts: tuple[Doubt, ...]


def conclude_values(
    pixels: Pixels,
    masks: Sequence[MaskEvidence],
    answers: Answers,
    named: Collection[int] = (),
    n_names: int | None = None,
) -> Values:
    """Sort the raw values into classes, ignored values and others.

    Args:
        pixels: The values under the encoding of the masks.
        masks: The masks.
        answers: What is stated.
        named: Values that a names file names or leaves blank; these are never traces.
        n_names: Number of classes in the names file; None without one.

    Raises:
        DataError: A stated value to ignore has another form than the values, or a negative value is left as a class.
    """
    totals = Counter[int]()
    for counts in pixels.counts:
        totals.update({value: count.pixels for value, count in counts.items()})
    stated = stated_ignored(answers, pixels.encoding)
    known = class_like(pixels.counts) | (totals.keys() & set(named))
    ids = {value for value in known if value >= 0} - set(stated or ())
    binary = pixels.encoding != "rgb" and n_names in (None, 2) and _is_binary(ids, masks)
    ignore, notes, doubts = set(stated or ()), list[str](), list[Doubt]()
    if stated is None and pixels.encoding != "rgb" and not binary:
        ignore, notes, doubts = auto_ignored(totals, ids, named, masks)
    negative = {value for value in totals if value < 0} - ignore
    doubts += too_much_ignored(totals, ignore & totals.keys(), negative, answers)
    rest = totals.keys() - known - ignore - negative
    doubts += doubts_of_traces(rest, pixels, masks, answers)
    if answers.unlisted == "class":
        known = set(totals)
    elif rest or answers.unlisted:
        known = without_neighbors(known - ignore, pixels, totals) | (known & set(named))
    classes = known - ignore - negative
    if binary and classes not in ({0, 1}, set()):
        notes.append(f"two values, 0 and {max(ids)}: a binary mask")
    is_binary = binary and classes == ids
    ordered, unlisted = _in_order(classes, pixels), _UNLISTED[answers.unlisted]
    return Values(ordered, tuple(sorted(ignore)), unlisted, is_binary, tuple(notes), tuple(doubts))


def _is_binary(ids: set[int], masks: Sequence[MaskEvidence]) -> bool:
    """Whether the two values are 0 and 1, 0 and 255, or 0 and the highest value of the masks' bits."""
    highest = {1, 255, *(2**mask.bits - 1 for mask in masks if mask.bits <= 16)}
    return len(ids) == 2 and min(ids) == 0 and max(ids) in highest


def _in_order(values: set[int], pixels: Pixels) -> tuple[int, ...]:
    return tuple(sorted(values, key=color_of if pixels.encoding == "rgb" else None))
