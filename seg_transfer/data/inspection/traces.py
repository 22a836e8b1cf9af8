"""Tells classes from the values that compression and smoothing leave on edges."""

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise

from seg_transfer.data.inspection.answers import Answers
from seg_transfer.data.inspection.doubts import Doubt
from seg_transfer.data.inspection.evidence import MaskEvidence
from seg_transfer.data.inspection.pixels import Counts, Pixels, color_of
from seg_transfer.data.inspection.wording import counted

# A blend of two classes lies on a curve one pixel wide, so hardly any of its pixels fill a block of 2 x 2. Even the
# thinnest drawn classes (cracks, poles) fill some, where their lines bend or cross. A quarter in one mask is enough.
_SOLID_SHARE = 0.25
# Of fewer pixels, a single block by chance would be a large share.
_MIN_PIXELS = 16
# Ids are dense, so a smoothed mask may hold no new value. But smoothing turns the steps of an edge into pixels between
# both sides ("blends"), at about every second place; where classes only happen to lie in order, steps outnumber those.
# In one mask, blends must be as many as steps, and more than the border of one object; in all masks together, half as
# many as steps.
_BLEND_SHARE = 1 / 2
_COMMON_BLEND_SHARE = 1 / 3
_MIN_PLACES = 100
# In a mask that is known to be lossy, chance fills blocks too: there, more than half of all pixels must be solid.
_SOLID_SHARE_IN_LOSSY = 1 / 2
# JPEG shifts a color by a few levels, differently from block to block; people choose colors that the eye tells apart.
_NEARBY = 16
# A gray level is shifted less: by at most 1 down to quality 75, and by 2 at quality 50. Ids may be neighbors; levels
# that people draw are as far apart as colors, so nearby ones are variants only if what is left lies apart.
_NEARBY_LEVELS = 2
_SHOWN = 3
# Whatever compression and smoothing did to a label map, its classes keep large areas. If all class-like values together
# have less than a tenth of the pixels, and there are many others, there is no label map beneath.
_PICTURE_SHARE = 9 / 10
_PICTURE_VALUES = 64
# In a depth map, three of four neighbors that differ do so by 1. Ids of so many classes meet in any order.
_STEPS_OF_RAMP = 1 / 4

_READINGS = (
    ("--unlisted nearest", "each counts as the nearest class"),
    ("--unlisted ignore", "they are ignored"),
    ("--unlisted class", "each is a class"),
)


def class_like(counts: Sequence[Counts]) -> set[int]:
    """Return the values of which a fair share of pixels is solid in some mask.

    Args:
        counts: Raw value -> pixels, for every mask.

    Example:
        >>> from seg_transfer.data.inspection.statistics import ValueCount
        >>> class_like([{0: ValueCount(900, 890), 3: ValueCount(40, 0)}])  # no two pixels of 3 side by side
        {0}
    """
    solid = set()
    for mask in counts:
        for value, count in mask.items():
            if count.pixels >= _MIN_PIXELS and count.solid >= _SOLID_SHARE * count.pixels:
                solid.add(value)
    return solid


def class_like_in_lossy(
    values: Collection[int], pixels: Pixels, masks: Sequence[MaskEvidence], thin: Collection[int] = ()
) -> set[int]:
    """Select classes with more care, for masks that are known to be lossy.

    The pixels of all masks decide together, and a color or level close to a more frequent one is its variant. If at
    least half of the masks have no traces, then the classes are all values of these, however close they are.

    Args:
        values: Values that are class-like in some mask.
        pixels: All values of every mask.
        masks: The masks; a file that was compressed with loss is never without traces.
        thin: Other values that are no traces, such as those of borders.
    """
    fine = {*values, *thin}
    pairs = zip(pixels.counts, masks, strict=True)
    clean = [counts for counts, mask in pairs if not mask.is_lossy and counts.keys() <= fine]
    if clean and 2 * len(clean) >= len(masks):
        return {value for counts in clean for value in counts} & set(values)
    n_solid, n_pixels = Counter[int](), Counter[int]()
    for mask in pixels.counts:
        n_solid.update({value: count.solid for value, count in mask.items()})
        n_pixels.update({value: count.pixels for value, count in mask.items()})
    solid = [value for value in values if n_solid[value] > _SOLID_SHARE_IN_LOSSY * n_pixels[value]]
    kept: list[int] = []
    is_near = _is_near if pixels.encoding == "rgb" else _is_near_level
    for value in sorted(solid, key=lambda value: -n_pixels[value]):
        if not any(is_near(value, other) for other in kept):
            kept.append(value)
    are_ids = pixels.encoding != "rgb" and any(b - a <= _NEARBY for a, b in pairwise(sorted(kept)))
    return set(solid if are_ids else kept)


def doubts_of_traces(
    rest: Collection[int], share: float, pixels: Pixels, masks: Sequence[MaskEvidence], answers: Answers
) -> list[Doubt]:
    """Doubt lossy files, values that lie only on edges, and masks whose edges are smooth; at most one doubt each.

    Args:
        rest: Values that are neither classes nor ignored.
        share: Share of all pixels that have such values.
        pixels: The values of the masks.
        masks: The masks.
        answers: What is stated.
    """
    if answers.unlisted is not None:
        return []
    picture = _picture(rest, share, pixels, masks)
    if picture:
        return [picture]
    doubts = []
    lossy = [mask for mask in masks if mask.is_lossy]
    if lossy:
        more = f" and {counted(len(lossy) - 1, 'more label map')} use" if len(lossy) > 1 else " uses"
        doubts.append(Doubt("lossy", f"{lossy[0].file}{more} lossy compression ({lossy[0].format})", _READINGS))
    elif rest:  # the files explain the values, and both doubts would have the same answers
        doubts.append(Doubt("rare", _rare_values(rest, pixels, masks), _READINGS))
    smooth = smooth_masks([mask for mask in masks if not mask.is_lossy])
    if smooth and not rest:
        more = f" and {counted(len(smooth) - 1, 'more label map')} run" if len(smooth) > 1 else " runs"
        text = f"{smooth[0].file}{more} smoothly from class to class along edges, as after resizing with smoothing"
        readings = (("--unlisted class", "the pixels are right as they are"),)
        doubts.append(Doubt("lossy", f"{text} (store label maps without smoothing)", readings))
    return doubts


def _picture(rest: Collection[int], share: float, pixels: Pixels, masks: Sequence[MaskEvidence]) -> Doubt | None:
    """Doubt photographs, depth maps and the like in the place of label maps."""
    ramps = [
        mask for mask in masks if mask.n_values >= _PICTURE_VALUES and mask.n_steps < _STEPS_OF_RAMP * mask.n_edges
    ]
    if ramps and 2 * len(ramps) > len(masks):
        n = max(mask.n_values for mask in ramps)
        seen = f"{ramps[0].file} and others: up to {n} values run into each other step by step, as in depth maps"
    elif len(rest) >= _PICTURE_VALUES and share > _PICTURE_SHARE:
        n, what = max(mask.n_values for mask in masks), "colors" if pixels.encoding == "rgb" else "values"
        seen = (
            f"{masks[0].file} and others: up to {n} {what}, and {share:.0%} of the pixels form no areas, as in pictures"
        )
    else:
        return None
    text = f"{seen}; give label maps, or exchange --images and --labels"
    return Doubt("picture", text, (("--unlisted class", "these are label maps, and each value is a class"),))


def smooth_masks(masks: Sequence[MaskEvidence]) -> list[MaskEvidence]:
    """Return the masks of numbers whose edges run through the values between both sides: all, some, or none."""
    n_blends, n_places = sum(mask.n_blends for mask in masks), sum(map(_n_places, masks))
    if n_blends >= max(_MIN_PLACES, _COMMON_BLEND_SHARE * n_places):
        return [mask for mask in masks if mask.n_blends]
    return [mask for mask in masks if mask.n_blends >= max(_MIN_PLACES, _BLEND_SHARE * _n_places(mask))]


def _n_places(mask: MaskEvidence) -> int:
    return mask.n_blends + mask.n_steps


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
    others = f" ({n_masks} label maps have such {what}s)" if n_masks > 1 else ""
    return (
        f"{masks[worst].file}: {verb} only on edges or in spots, as after JPEG compression or smooth resizing{others}"
    )


def _is_near(color: int, other: int) -> bool:
    return all(abs(a - b) <= _NEARBY for a, b in zip(color_of(color), color_of(other), strict=True))


def _is_near_level(level: int, other: int) -> bool:
    return abs(level - other) <= _NEARBY_LEVELS
