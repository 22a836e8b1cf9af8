"""Tells classes from the values that compression and smoothing leave on edges."""

from collections.abc import Collection, Mapping, Sequence

from seg_transfer.data.inspection.answers import Answers
from seg_transfer.data.inspection.doubts import Doubt
from seg_transfer.data.inspection.evidence import MaskEvidence
from seg_transfer.data.inspection.pixels import Counts, Pixels, color_of

# A blend of two classes lies on a curve one pixel wide, so hardly any of its pixels fill a block of 2 x 2. Even the
# thinnest drawn classes (cracks, poles) fill some, where their lines bend or cross. A quarter in one mask is enough.
_SOLID_SHARE = 0.25
# Of fewer pixels, a single block by chance would be a large share.
_MIN_PIXELS = 16
# Ids are dense, so a smoothed mask may hold no new value. But smoothing turns the steps of an edge into pixels between
# both sides, at about every second place or more; where classes only happen to lie in order, steps outnumber those.
_BLEND_SHARE = 0.4
_MIN_BLENDS = 20
# In a mask that is known to be lossy, ringing fills small blocks with values close to a class that covers far more.
_NEARBY = 16
_OVERWHELMING = 50
_SHOWN = 3

_READINGS = (
    ("--unlisted nearest", "each counts as the nearest class"),
    ("--unlisted ignore", "they are ignored"),
    ("--unlisted class", "each is a class"),
)


def class_like(counts: Sequence[Counts]) -> set[int]:
    """Return the values of which a fair share of pixels is solid in some mask.

    Args:
        counts: Raw value -> pixels, for every mask.
    """
    solid = set()
    for mask in counts:
        for value, count in mask.items():
            if count.pixels >= _MIN_PIXELS and count.solid >= _SOLID_SHARE * count.pixels:
                solid.add(value)
    return solid


def without_neighbors(values: Collection[int], pixels: Pixels, totals: Mapping[int, int]) -> set[int]:
    """Leave out values that are few against an overwhelming nearby one; for masks that are known to be lossy."""
    by_size = sorted(values, key=lambda value: -totals[value])
    kept: set[int] = set()
    for value in by_size:
        if not any(_outweighs(other, value, pixels, totals) for other in kept):
            kept.add(value)
    return kept


def doubts_of_traces(
    rest: Collection[int], pixels: Pixels, masks: Sequence[MaskEvidence], answers: Answers
) -> list[Doubt]:
    """Doubt lossy files, values that lie only on edges, and masks whose edges are smooth; at most one doubt each.

    Args:
        rest: Values that are neither classes nor ignored.
        pixels: The values of the masks.
        masks: The masks.
        answers: What is stated.
    """
    if answers.unlisted is not None:
        return []
    doubts = []
    lossy = [mask for mask in masks if mask.is_lossy]
    if lossy:
        more = f" and {len(lossy) - 1} more masks are" if len(lossy) > 1 else " is a mask"
        doubts.append(Doubt("lossy", f"{lossy[0].file}{more} compressed with loss ({lossy[0].format})", _READINGS))
    if rest:
        doubts.append(Doubt("rare", _rare_values(rest, pixels, masks), _READINGS))
    smooth = [mask for mask in masks if is_smooth(mask) and not mask.is_lossy]
    if smooth and not rest:
        more = f" and {len(smooth) - 1} more masks run" if len(smooth) > 1 else " runs"
        text = f"{smooth[0].file}{more} smoothly from class to class along edges, as after resizing with smoothing"
        readings = (("--unlisted class", "the pixels are right as they are"),)
        doubts.append(Doubt("lossy", f"{text}; store masks without smoothing", readings))
    return doubts


def is_smooth(mask: MaskEvidence) -> bool:
    """Whether the edges of a mask of numbers run through the values between both sides."""
    places = mask.n_blends + mask.n_steps
    return mask.n_blends >= _MIN_BLENDS and mask.n_blends >= _BLEND_SHARE * places


def _rare_values(rest: Collection[int], pixels: Pixels, masks: Sequence[MaskEvidence]) -> str:
    """Name the mask with most of these values, and some of them."""
    rare = set(rest)
    found = [sum(count.pixels for value, count in mask.items() if value in rare) for mask in pixels.counts]
    worst = found.index(max(found))
    n_masks = sum(number > 0 for number in found)
    here = sorted(rare & pixels.counts[worst].keys(), key=lambda value: -pixels.counts[worst][value].pixels)
    named = ", ".join(str(color_of(value) if pixels.encoding == "rgb" else value) for value in here[:_SHOWN])
    what = "color" if pixels.encoding == "rgb" else "value"
    verb = f"{what} {named} lies" if len(here) == 1 else f"{len(here)} {what}s, such as {named}, lie"
    others = f" ({n_masks} masks have such {what}s)" if n_masks > 1 else ""
    return (
        f"{masks[worst].file}: {verb} only on edges or in spots, as after JPEG compression or smooth resizing{others}"
    )


def _outweighs(other: int, value: int, pixels: Pixels, totals: Mapping[int, int]) -> bool:
    if totals[other] < _OVERWHELMING * totals[value]:
        return False
    if pixels.encoding != "rgb":
        return abs(other - value) <= _NEARBY
    return all(abs(a - b) <= _NEARBY for a, b in zip(color_of(other), color_of(value), strict=True))
