"""Doubts about a dataset with a manifest: what its files show, and nobody has stated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from seg_transfer.data.inspection.audit_evidence import PairEvidence, is_drawn, lists_by_count
from seg_transfer.data.inspection.doubts import Doubt
from seg_transfer.data.inspection.ignored import MAX_SHARE
from seg_transfer.data.inspection.pixels import Pixels, differing_palettes
from seg_transfer.data.inspection.reading import doubts_of_reading
from seg_transfer.data.inspection.stated import in_manifest_lines, stated_answers
from seg_transfer.data.inspection.traces import doubts_of_traces
from seg_transfer.data.manifest import DatasetManifest

_SHOWN = 3


def doubts_of_dataset(
    manifest: DatasetManifest,
    pairs: Sequence[PairEvidence],
    known: set[int],
    class_pixels: Sequence[int],
    ignored_shares: Mapping[str, float],
    *,
    is_complete: bool,
) -> tuple[Doubt, ...]:
    """Doubt what the files of a dataset show and its manifest does not state; readings are lines of the manifest.

    Args:
        manifest: The manifest.
        pairs: The evidence of all pairs.
        known: Raw values that are known to be classes.
        class_pixels: (C,), number of pixels of each class in all readable pairs.
        ignored_shares: Name of a split -> share of its pixels that are ignored.
        is_complete: Whether all pairs are readable; those that are not may show any class.
    """
    both = [(pair.image, pair.mask) for pair in pairs if pair.image is not None and pair.mask is not None]
    masks = [pair.mask for pair in pairs if pair.mask is not None]
    doubts = doubts_of_reading([image for image, _ in both], [mask for _, mask in both], stated_answers(manifest))
    doubts += _traces(manifest, pairs, known, class_pixels)
    doubts += differing_palettes([mask for mask in masks if mask.kind == "palette"])
    doubts = [in_manifest_lines(doubt) for doubt in doubts]
    first_id = _first_id(manifest, pairs)
    unseen = _unseen(manifest, class_pixels) if is_complete and not first_id else []
    return (*doubts, *_blank(pairs), *first_id, *unseen, *_ignored(manifest, ignored_shares))


def _traces(
    manifest: DatasetManifest, pairs: Sequence[PairEvidence], known: set[int], class_pixels: Sequence[int]
) -> list[Doubt]:
    """Doubt lossy masks, values that are rare everywhere, and smooth edges."""
    if not is_drawn(manifest.labels):
        return []
    masks = [pair.mask for pair in pairs if pair.mask is not None]
    rest = {value for mask in masks for value in mask.values} - known
    # Without a map, the raw value is the index. Of two classes, none is a blend: that takes a third.
    by_count = lists_by_count(manifest.labels)
    n_classes = sum(pixels > 0 and not (by_count and index in rest) for index, pixels in enumerate(class_pixels))
    rest = rest if n_classes + len(rest) > 2 else set()
    pixels = Pixels("rgb" if manifest.labels.encoding == "rgb" else "id", tuple(mask.values for mask in masks))
    doubts = doubts_of_traces(rest, _share_of(rest, pairs), pixels, masks, stated_answers(manifest))
    return [_as_list(doubt, manifest.labels.listed_in) if doubt.kind == "rare" else doubt for doubt in doubts]


def _share_of(rest: set[int], pairs: Sequence[PairEvidence]) -> float:
    kept = [pair.mask.values for pair in pairs if pair.mask is not None]
    n_rest = sum(count.pixels for values in kept for value, count in values.items() if value in rest)
    return n_rest / max(sum(pair.n_pixels for pair in pairs), 1)


def _as_list(doubt: Doubt, field: str) -> Doubt:
    """Let the list of classes decide: without one, all values below the number of classes are listed."""
    with_them = (f"{field} with these values", "they are classes")
    without = (f"{field} without them, and labels.unlisted: nearest or ignore", "they are traces")
    return replace(doubt, readings=(with_them, without))


def _blank(pairs: Sequence[PairEvidence]) -> list[Doubt]:
    blank = [pair.mask.file for pair in pairs if pair.is_blank and pair.mask is not None]
    if not blank:
        return []
    more = f" ({len(blank)} such pairs)" if len(blank) > 1 else ""
    seen = f"{blank[0]}: shows several classes, but its image has one color{more}"
    return [Doubt("constant", seen, (("exclude in the split", "leaves the pair out"),))]


def _first_id(manifest: DatasetManifest, pairs: Sequence[PairEvidence]) -> list[Doubt]:
    """Doubt ids that may begin at 1; a ``labels.map`` settles this."""
    if not any(pair.has_next for pair in pairs) or any(pair.has_zero for pair in pairs):
        return []
    first, n_classes = manifest.classes[0], len(manifest.classes)
    seen = f"label maps: 0 never occurs, and {n_classes} is the highest value of {n_classes} classes"
    shifted = f"labels.map: {{1: 0, ..., {n_classes}: {n_classes - 1}}}"
    readings = ((shifted, f"value 1 is {first}"), ("one more name in classes", f"value 0 is {first}"))
    return [Doubt("first_id", seen, readings)]


def _unseen(manifest: DatasetManifest, class_pixels: Sequence[int]) -> list[Doubt]:
    """Doubt classes that never occur; a ``labels.map`` settles this, too."""
    unseen = [name for name, pixels in zip(manifest.classes, class_pixels, strict=True) if not pixels]
    if not unseen or not lists_by_count(manifest.labels):
        return []
    more = f" and {len(unseen) - _SHOWN} more" if len(unseen) > _SHOWN else ""
    seen = f"label maps: {', '.join(unseen[:_SHOWN])}{more} never occur{'s' * (len(unseen) == 1)} in any split"
    readings = (("labels.map with all values", "the names are right"), ("classes without them", "they do not exist"))
    return [Doubt("unseen", seen, readings)]


def _ignored(manifest: DatasetManifest, shares: Mapping[str, float]) -> list[Doubt]:
    split = max(shares, key=lambda name: shares[name], default="")
    if not split or shares[split] <= MAX_SHARE:
        return []
    seen = f"{split}: {shares[split]:.0%} of all pixels are ignored"
    fields = "labels.ignore" if manifest.labels.unlisted != "ignore" else "labels.ignore and labels.unlisted"
    readings = ((fields, "they are, as stated there"), (manifest.labels.listed_in, "they are a class, to be listed"))
    return [Doubt("ignored", seen, readings)]
