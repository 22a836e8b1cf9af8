"""Concludes how a folder of images and masks is to be read, from what they show and what is stated."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from seg_transfer.data.inspection.answers import Answers
from seg_transfer.data.inspection.doubts import ClassRow, Conclusion, Doubt, DoubtKind
from seg_transfer.data.inspection.evidence import MaskEvidence
from seg_transfer.data.inspection.image_evidence import ImageEvidence
from seg_transfer.data.inspection.naming import NamesFile, Naming, conclude_names, named_values
from seg_transfer.data.inspection.pixels import Pixels, allowed_ignored, color_of, conclude_pixels
from seg_transfer.data.inspection.reading import conclude_reading
from seg_transfer.data.inspection.values import Values, conclude_values
from seg_transfer.data.inspection.wording import counted
from seg_transfer.errors import DataError

__all__ = ["ClassRow", "Conclusion", "Doubt", "DoubtKind", "conclude"]

MAX_CLASSES = 4096
_NO_ANSWERS = Answers()


def conclude(
    masks: Sequence[MaskEvidence],
    images: Sequence[ImageEvidence],
    names: NamesFile | None = None,
    answers: Answers = _NO_ANSWERS,
) -> Conclusion:
    """Conclude from masks and images how they are to be read.

    Args:
        masks: What the masks show.
        images: What the image of every mask shows, in the same order; empty leaves images out.
        names: Class names.
        answers: What is stated.

    Returns:
        The conclusion, which lists doubts instead of raising them.

    Raises:
        DataError: Files contradict each other, the names or the answers; or fewer than 2, or more than 4096, values
            are classes.
    """
    if not masks:
        raise DataError("there is no label map to look at; name the folder that holds them")
    pixels = conclude_pixels(masks, answers, has_color_names=bool(names and names.by_color))
    values = conclude_values(pixels, masks, answers, named_values(names, pixels, answers), _n_names(names))
    naming = conclude_names(values, pixels, masks, names, answers)
    block, image_notes, image_doubts = conclude_reading(images, masks, answers)
    doubts = (*pixels.doubts, *values.doubts, *naming.doubts, *image_doubts)
    _check_number(naming, masks, doubts)
    ignore = tuple(sorted({*values.ignore, *naming.ignore}))
    _check_range(naming.names, ignore, pixels, masks)
    counts = _as_read(pixels, (*naming.names, *ignore), values)
    n_unlisted = _unlisted(counts, (*naming.names, *ignore), values)
    labels = _labels(pixels, values, naming, ignore) | ({"unlisted": values.unlisted} if answers.unlisted else {})
    return Conclusion(
        labels=None if any(doubt.kind == "mixed" for doubt in doubts) else labels,
        classes=tuple(naming.names.values()),
        images=block,
        notes=(*pixels.notes, *values.notes, *naming.notes, *image_notes),
        doubts=doubts,
        table=tuple(_row(value, name, counts) for value, name in naming.names.items()),
        ignored={value: n for value in ignore if (n := _pixels_of(value, counts))},
        n_unlisted=n_unlisted,
        n_pixels=sum(mask.size[0] * mask.size[1] for mask in masks),
    )


def _n_names(names: NamesFile | None) -> int | None:
    """Return the number of names that have no value of their own, or of those that do."""
    return None if names is None else len(names.by_line or names.by_id or names.by_color)


def _check_number(naming: Naming, masks: Sequence[MaskEvidence], doubts: Sequence[Doubt]) -> None:
    n = len(naming.names)
    # With a doubt about values, their number depends on the answer.
    if 2 <= n <= MAX_CLASSES or (n < 2 and doubts):
        return
    found = ", ".join(map(str, naming.names)) or "none"
    seen = f"only one class ({found})" if n == 1 else "no class" if n == 0 else f"{n} classes"
    raise DataError(
        f"{masks[0].file}: {seen} in {counted(len(masks), 'label map')}, but 2 to {MAX_CLASSES} are needed; look at "
        "the label maps, or state --ignore none if an ignored value is a class"
    )


def _check_range(classes: Iterable[int], ignored: Iterable[int], pixels: Pixels, masks: Sequence[MaskEvidence]) -> None:
    """Refuse values that no manifest can list."""
    if pixels.encoding == "rgb":
        return
    lowest, largest = allowed_ignored(pixels)
    for value in sorted({*classes, *ignored}, reverse=True):
        if lowest <= value <= largest:
            continue
        file = next((mask.file for mask, counts in zip(masks, pixels.counts, strict=True) if value in counts), None)
        bound = f"at most {largest}" if value > largest else f"at least {lowest}"
        if file:
            raise DataError(f"{file}: value {value} cannot be read, because values are {bound}; store smaller ids")
        raise DataError(
            f"--ignore {value}: label maps cannot hold it, because they hold {lowest} to {largest}; leave it out"
        )


def _labels(pixels: Pixels, values: Values, naming: Naming, ignore: tuple[int, ...]) -> dict[str, Any]:
    """Return the block ``labels`` of a manifest."""
    block: dict[str, Any] = {"encoding": pixels.encoding}
    if pixels.encoding == "rgb":
        block["colours"] = [list(color_of(value)) for value in naming.names]
        block["ignore"] = [list(color_of(value)) for value in ignore]
    else:
        block["map"] = {value: index for index, value in enumerate(naming.names)}
        block["ignore"] = list(ignore)
    return block


def _as_read(pixels: Pixels, listed: Sequence[int], values: Values) -> list[Counter[int]]:
    """Count the pixels of every mask; an unlisted value counts as the nearest listed one if it is read so."""
    known, nearest = set(listed), dict[int, int]()
    if values.unlisted == "nearest" and known:
        unlisted = {value for counts in pixels.counts for value in counts} - known
        nearest = _nearest(sorted(unlisted), sorted(known), pixels)
    read = []
    for counts in pixels.counts:
        mask = Counter[int]()
        for value, count in counts.items():
            mask[nearest.get(value, value)] += count.pixels
        read.append(mask)
    return read


def _nearest(unlisted: Sequence[int], listed: Sequence[int], pixels: Pixels) -> dict[int, int]:
    """Return the nearest listed value of each unlisted one; of equally near ones, the smallest."""
    places = np.array([_place(value, pixels) for value in listed], float)
    return {value: listed[int(((places - np.array(_place(value, pixels))) ** 2).sum(1).argmin())] for value in unlisted}


def _place(value: int, pixels: Pixels) -> tuple[int, ...]:
    return color_of(value) if pixels.encoding == "rgb" else (value,)


def _unlisted(counts: Sequence[Counter[int]], listed: Sequence[int], values: Values) -> int:
    """Return the number of pixels that are ignored because their values are not listed."""
    if values.unlisted != "ignore":
        return 0
    known = set(listed)
    return sum(n for mask in counts for value, n in mask.items() if value not in known)


def _row(value: int, name: str, counts: Sequence[Counter[int]]) -> ClassRow:
    return ClassRow(name, (value,), _pixels_of(value, counts), sum(each[value] > 0 for each in counts))


def _pixels_of(value: int, counts: Sequence[Counter[int]]) -> int:
    return sum(each[value] for each in counts)
