"""What a pair shows beyond its class indices, under a manifest: each file is decoded by whoever counts its pixels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_transfer.data.decoding import ARRAY_SUFFIXES, any_size, open_image
from seg_transfer.data.encodings import ColorLabels, Labels, MatLabels, ValueLabels
from seg_transfer.data.encodings.base import RawValues
from seg_transfer.data.inspection.answers import Color
from seg_transfer.data.inspection.evidence import Kind, MaskEvidence, is_lossy
from seg_transfer.data.inspection.image_evidence import ImageEvidence, look_at_image
from seg_transfer.data.inspection.stated import stated_answers
from seg_transfer.data.inspection.statistics import ValueCount, count_values, edges_of
from seg_transfer.data.inspection.traces import class_like
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.numbers import palette_of
from seg_transfer.data.record import Record
from seg_transfer.errors import DataError

# Values of a mask that are kept until all masks are known; a mask that was smoothed may have thousands.
_MAX_OPEN = 256
_NO_SIZE = (0, 0)
Raw = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class PairEvidence:
    """What a pair shows beyond its class indices.

    Attributes:
        image: The header of the image; None if it cannot be read, or was looked at with another tile.
        mask: The label map. Its values are those that the manifest does not list one by one and that are not known to
            be classes; its size is (0, 0) if it is a tile.
        is_blank: Whether the image has one color although the label map shows several classes.
        has_zero: Whether the raw value 0 occurs.
        has_next: Whether the raw value after the last class occurs, and no higher one that is not ignored.
        n_pixels: Number of pixels of the label map.
    """

    image: ImageEvidence | None
    mask: MaskEvidence | None = None
    is_blank: bool = False
    has_zero: bool = False
    has_next: bool = False
    n_pixels: int = 0


def is_drawn(labels: Labels) -> bool:
    """Whether the pixels of label maps are those of files, and not made from annotations or ids of segments."""
    return isinstance(labels, ValueLabels | ColorLabels | MatLabels)


def lists_by_count(labels: Labels) -> bool:
    """Whether the number of classes is all that says which raw values are classes."""
    return isinstance(labels, RawValues) and labels.map is None


def look_at_pair(
    record: Record,
    manifest: DatasetManifest,
    raw: Raw | None,
    present: Collection[int] | None,
    known: Collection[int],
    *,
    is_constant: bool,
) -> PairEvidence:
    """Collect the evidence of a pair, from headers and from pixels that are decoded already.

    Args:
        record: The pair.
        manifest: Manifest of its dataset.
        raw: Raw values of the label map, (H, W); None if it cannot be read.
        present: Indices of the classes that the label map shows; None if it holds values that are not listed.
        known: Raw values that are known to be classes, from other label maps.
        is_constant: Whether all pixels of the image have one color.
    """
    is_first = record.window is None or record.window[:2] == (0, 0)
    image = _header_of_image(record, manifest) if is_first else None
    if raw is None:
        return PairEvidence(image)
    has_zero, has_next = _ends(raw, manifest) if lists_by_count(manifest.labels) else (False, False)
    mask = _look_at_mask(record, manifest, raw, present, known)
    if is_first and is_drawn(manifest.labels):
        mask = replace(mask, **_header_of_label(record, manifest, raw))
    return PairEvidence(image, mask, is_constant and len(present or ()) > 1, has_zero, has_next, raw.size)


def gather(seen: PairEvidence, known: set[int], colors: set[tuple[int, Color]]) -> PairEvidence:
    """Add to what is known of a dataset, and drop what is known from the evidence of a pair, to save memory.

    Args:
        seen: The evidence.
        known: Raw values that are known to be classes.
        colors: Palette indices with their colors.
    """
    if seen.mask is None:
        return seen
    known |= class_like([seen.mask.values])
    palette = {index: color for index, color in seen.mask.palette.items() if (index, color) not in colors}
    colors |= palette.items()
    values = {value: count for value, count in seen.mask.values.items() if value not in known}
    most = sorted(values, key=lambda value: -values[value].pixels)[:_MAX_OPEN]
    return replace(seen, mask=replace(seen.mask, values={value: values[value] for value in most}, palette=palette))


def _header_of_image(record: Record, manifest: DatasetManifest) -> ImageEvidence | None:
    check_range = manifest.images.range is None
    try:
        return look_at_image(record.image_source, check_constant=False, check_range=check_range)
    except DataError:  # whoever decodes the image reports this
        return None


def _look_at_mask(
    record: Record, manifest: DatasetManifest, raw: Raw, present: Collection[int] | None, known: Collection[int]
) -> MaskEvidence:
    labels = manifest.labels
    values: Mapping[int, ValueCount] = {}
    n_steps = n_blends = 0
    if is_drawn(labels) and stated_answers(manifest).unlisted is None:
        if not isinstance(labels, ColorLabels):
            _, n_steps, n_blends = edges_of(raw)
        if present is None or (lists_by_count(labels) and not all(index in known for index in present)):
            values = _open_values(raw, manifest, known)
    kind: Kind = "colors" if isinstance(labels, ColorLabels) else "array"
    height, width = raw.shape
    size = _NO_SIZE if record.window else (height, width)
    return MaskEvidence(
        record.label_name, "", kind, 8, size, values, len(values), n_steps=n_steps, n_blends=n_blends
    )  # fmt: skip


def _open_values(raw: Raw, manifest: DatasetManifest, known: Collection[int]) -> Mapping[int, ValueCount]:
    """Count the pixels of values that are neither listed one by one, nor known to be classes."""
    listed = manifest.raw_classes()
    if lists_by_count(manifest.labels):
        listed = {value: index for value, index in listed.items() if index == manifest.ignore_index}
    counts, _ = count_values(raw)
    return {value: count for value, count in counts.items() if value not in listed and value not in known}


def _ends(raw: Raw, manifest: DatasetManifest) -> tuple[bool, bool]:
    """Return whether 0 occurs, and whether the value after the last class is the highest one."""
    if (raw == 0).any():
        return True, False
    end = len(manifest.classes)
    listed = manifest.raw_classes()
    if end in listed or not (raw == end).any():
        return False, False
    return False, not set(np.unique(raw[raw > end]).tolist()) - listed.keys()


def _header_of_label(record: Record, manifest: DatasetManifest, raw: Raw) -> dict[str, Any]:
    """Return what the file of a label map says beyond its pixels, as fields of `MaskEvidence`."""
    labels, source = manifest.labels, record.label_source
    if isinstance(labels, MatLabels) or record.label.suffix.lower() in ARRAY_SUFFIXES:
        return {"format": "array"}
    with any_size(), open_image(source) as image:
        about = {"format": image.format or "unknown", "is_lossy": is_lossy(image, source)}
        if labels.encoding != "palette" or image.mode != "P":
            return about
        used = np.flatnonzero(np.bincount(raw.ravel(), minlength=256)).tolist()
        colors = _palette_of_header(image)
    palette = {index: (int(red), int(green), int(blue)) for index in used for red, green, blue in [colors[index]]}
    is_gray = all(color == (index, index, index) for index, color in palette.items())
    return about if is_gray else about | {"kind": "palette", "palette": palette}


def _palette_of_header(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return the colors of a palette image, (256, 3), without decoding its pixels where the format allows it."""
    palette = image.palette
    if palette is None or palette.rawmode != "RGB":
        return palette_of(image)
    colors = np.zeros((256, 3), np.uint8)
    stored = np.frombuffer(bytes(palette.palette), np.uint8)[: colors.size]
    colors.ravel()[: len(stored)] = stored
    return colors
