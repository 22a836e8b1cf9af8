"""Which values of masks are classes, which are ignored, and which are traces of compression or smoothing."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from seg_transfer.data.inspection.answers import Answers
from seg_transfer.data.inspection.doubts import Doubt
from seg_transfer.data.inspection.evidence import MaskEvidence
from seg_transfer.data.inspection.ignored import (
    MARKS,
    auto_ignored,
    doubts_of_two_ways,
    stated_ignored,
    too_much_ignored,
)
from seg_transfer.data.inspection.instances import doubts_of_instances
from seg_transfer.data.inspection.pixels import Pixels, color_of, value_text
from seg_transfer.data.inspection.traces import class_like, class_like_in_lossy, doubts_of_traces

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
    negative = {value for value in totals if value < 0} - set(stated or ())
    known, traces = _known(totals, pixels, masks, answers, set(named))
    known -= negative | set(stated or ())
    binary = pixels.encoding != "rgb" and n_names in (None, 2) and _is_binary(known, masks)
    ignore, doubts = set(stated or ()), list[Doubt]()
    absent = [value_text(value, pixels.encoding) for value in sorted(ignore - totals.keys())]
    notes = [f"{value} is to be ignored, but never occurs" for value in absent]
    if stated is None and pixels.encoding != "rgb" and not binary:
        doubts = doubts_of_two_ways(totals, named, pixels.counts, masks)
        if not doubts:
            ignore, notes, doubts = auto_ignored(totals, known, named, masks)
    doubts += too_much_ignored(totals, ignore & totals.keys(), negative, answers)
    of_traces = doubts_of_traces(
        traces - ignore - negative, _share_of_others(known, pixels, masks), pixels, masks, answers
    )
    doubts += of_traces
    if any(doubt.kind == "picture" for doubt in of_traces):
        doubts = of_traces  # what its values mean is no question
    doubts = doubts_of_instances(known - ignore, named, pixels, masks, answers) or doubts
    if binary and known != {0, 1}:
        notes.append(f"two values, 0 and {max(known)}: a binary mask")
    classes, unlisted = _in_order(known - ignore, pixels), _UNLISTED[answers.unlisted]
    return Values(classes, tuple(sorted(ignore)), unlisted, binary, tuple(notes), tuple(doubts))


def _known(
    totals: Counter[int], pixels: Pixels, masks: Sequence[MaskEvidence], answers: Answers, named: set[int]
) -> tuple[set[int], set[int]]:
    """Return the values that are classes, or ignored, and those that look like traces."""
    # Of two values, none is a blend: that takes a third.
    if answers.unlisted == "class" or len(totals) <= 2:
        return set(totals), set()
    known = class_like(pixels.counts) | (totals.keys() & named)
    # The borders that are to be ignored may be thin lines.
    traces = totals.keys() - known - {*(answers.ignore or ())}
    # Many lossy files may fill blocks of every value, so that none is left as a trace.
    if not traces - {*MARKS} and (answers.unlisted is None or not any(mask.is_lossy for mask in masks)):
        return known, traces
    # Where names are given, and the other values are no classes of their own, the names are the classes.
    unnamed = set() if named and answers.unlisted else class_like_in_lossy(known, pixels, masks, MARKS)
    return unnamed | (known & named), traces


def _share_of_others(known: set[int], pixels: Pixels, masks: Sequence[MaskEvidence]) -> float:
    """Return the share of pixels whose values are not known; of very many values, some are not even counted."""
    n_known = sum(count.pixels for mask in pixels.counts for value, count in mask.items() if value in known)
    return 1 - n_known / max(sum(mask.size[0] * mask.size[1] for mask in masks), 1)


def _is_binary(ids: set[int], masks: Sequence[MaskEvidence]) -> bool:
    """Whether the two values are 0 and 1, 0 and 255, or 0 and the highest value of the masks' bits."""
    highest = {1, 255, *(2**mask.bits - 1 for mask in masks if mask.bits <= 16)}
    return len(ids) == 2 and min(ids) == 0 and max(ids) in highest


def _in_order(values: set[int], pixels: Pixels) -> tuple[int, ...]:
    return tuple(sorted(values, key=color_of if pixels.encoding == "rgb" else None))
