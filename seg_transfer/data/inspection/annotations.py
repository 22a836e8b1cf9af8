"""Concludes how annotations, in JSON files of COCO or LabelMe, are to be read: they name their classes themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from seg_transfer.data.encodings import CocoLabels, LabelmeLabels
from seg_transfer.data.inspection.answers import Answers, Color
from seg_transfer.data.inspection.containers import coco_classes, labelme_classes
from seg_transfer.data.inspection.doubts import ClassRow, Conclusion
from seg_transfer.data.inspection.image_evidence import ImageEvidence
from seg_transfer.data.inspection.reading import Sized, conclude_reading
from seg_transfer.data.record import Record
from seg_transfer.errors import DataError

_BACKGROUND = "background"
Ignored = int | Color


def conclude_annotations(
    kind: Literal["coco", "labelme"], records: Sequence[Record], images: Sequence[ImageEvidence], answers: Answers
) -> Conclusion:
    """Conclude how images with annotations are to be read: pixels without an object are a class, the background.

    Args:
        kind: Whose annotations they are.
        records: Images and their annotations.
        images: What the images show, in the same order.
        answers: What is stated; ``ignore`` has 0 for the background, and other categories of COCO.

    Returns:
        The conclusion; its values are ids of categories, or positions of labels from 1, and 0 for the background.

    Raises:
        DataError: A file is damaged, or an ignored value is unknown.
    """
    ignored_values = answers.ignore or ()
    has_background = 0 not in ignored_values
    labels, values = (_coco if kind == "coco" else _labelme)(records, ignored_values)
    if len(values) < 2:
        raise DataError(
            f"{records[0].label}: only one class ({', '.join(values.values())}), but at least 2 are needed; leave "
            "--ignore out, or annotate more"
        )
    counts: dict[int, list[int]] = {}
    sizes = []
    for record in records:
        raw = labels.read_raw(record)
        sizes.append(Sized(str(record.label), raw.shape))
        for value, pixels in zip(*(part.tolist() for part in np.unique(raw, return_counts=True)), strict=True):
            counts.setdefault(value, []).append(pixels)
    block, notes, doubts = conclude_reading(images, sizes, answers)
    ignored = {value: sum(pixels) for value, pixels in counts.items() if value not in values}
    crowd = "; regions of many objects are ignored" if kind == "coco" else ""
    about = f"pixels without an object are {'the class background' if has_background else 'ignored'}{crowd}"
    return Conclusion(
        labels=labels.model_dump(),
        classes=tuple(values.values()),
        images=block,
        notes=(about, *notes),
        doubts=tuple(doubts),
        table=tuple(_row(name, value, counts.get(value, ())) for value, name in values.items()),
        ignored=ignored,
        n_pixels=sum(height * width for _, (height, width) in sizes),
    )


def _row(name: str, value: int, pixels: Sequence[int]) -> ClassRow:
    return ClassRow(name, (value,), sum(pixels), len(pixels))


def _coco(records: Sequence[Record], ignored: Sequence[Ignored]) -> tuple[CocoLabels, Mapping[int, str]]:
    """Return the encoding, and the name of every raw value that is a class."""
    categories = coco_classes(records[0].label)
    background = 0 if 0 not in categories else max(categories) + 1
    named = {background: _named(_BACKGROUND, categories.values()), **categories}
    # People call the background 0, even where a category has this id.
    left_out = {background if value == 0 else value for value in ignored}
    _refuse_unknown(left_out - named.keys(), records, "the id of a category, or 0 for the background")
    values = {value: name for value, name in named.items() if value not in left_out}
    mapped = {value: index for index, value in enumerate(values)}
    return CocoLabels(encoding="coco", background=background, map=mapped, ignore=tuple(sorted(left_out))), values


def _labelme(records: Sequence[Record], ignored: Sequence[Ignored]) -> tuple[LabelmeLabels, Mapping[int, str]]:
    names = labelme_classes(record.label for record in records)
    _refuse_unknown(set(ignored) - {0}, records, "0, for pixels without a shape")
    first = 0 if ignored else 1
    labels = LabelmeLabels(
        encoding="labelme",
        names={name: first + index for index, name in enumerate(names)},
        background="ignore" if ignored else 0,
    )
    values = dict(enumerate(names, start=1))
    return labels, values if ignored else {0: _named(_BACKGROUND, names), **values}


def _refuse_unknown(values: Collection[Ignored], records: Sequence[Record], known: str) -> None:
    if values:
        raise DataError(f"--ignore {min(map(str, values))}: is unknown in {records[0].label}; state {known}")


def _named(wanted: str, taken: Any) -> str:
    """Return a name that is not taken yet."""
    return f"{wanted} without an object" if wanted in taken else wanted
