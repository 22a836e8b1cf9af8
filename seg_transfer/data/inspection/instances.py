"""Tells maps of classes from maps of instances, in which every object has a number or color of its own."""

from collections import Counter
from collections.abc import Collection, Sequence

from seg_transfer.data.inspection.answers import Answers
from seg_transfer.data.inspection.doubts import Doubt
from seg_transfer.data.inspection.evidence import MaskEvidence
from seg_transfer.data.inspection.ignored import MARKS
from seg_transfer.data.inspection.pixels import Pixels, color_of

# Objects are counted from 1 in every mask, so its numbers have hardly a gap (an object may be covered by others), and
# every mask ends at a number of its own. Classes are present or not whatever their number, so they leave gaps; where
# nearly all classes are in every mask, most masks end at the same one. With few numbers, all that happens by chance.
_FILLED = 0.9
_MASKS_FILLED = 3 / 4
_MIN_COUNT = 10
_FEW_OBJECTS = 3 / 4
_SAME_END = 1 / 2
# Numbers made of a class and an object, such as 1000 * class + object, lie far apart. Ids beyond 8 bits are those of
# large vocabularies, of which even a few images use more than this share.
_MAX_SPARSE = 1 / 16
_MIN_VALUES = 16
# Objects with a random color or a number that no other mask repeats. Even of large vocabularies, a few images share
# more classes than the background.
_OWN_SHARE = 0.95
_MIN_MASKS = 4
# Nobody gives more classes than this a color each; numbers of classes are not written as colors.
_MAX_COLORS = 256


def doubts_of_instances(
    classes: Collection[int],
    named: Collection[int],
    pixels: Pixels,
    masks: Sequence[MaskEvidence],
    answers: Answers,
) -> list[Doubt]:
    """Doubt masks whose values look like objects.

    Args:
        classes: Values that are classes otherwise.
        named: Values that a names file names; these are classes.
        pixels: The values of the masks.
        masks: The masks.
        answers: What is stated; ``unlisted`` says that values are classes, or traces.
    """
    if answers.unlisted or set(classes) <= set(named):
        return []
    wanted = set(classes) - {*MARKS}
    found = [sorted(wanted & counts.keys()) for counts in pixels.counts]
    seen = (pixels.encoding != "rgb" and (_counted(found, masks) or _far_apart(sorted(wanted)))) or _own(found, pixels)
    if not seen:
        return []
    text = f"{masks[0].file} and others: {seen}, as in maps of instances; give maps of classes"
    return [Doubt("instances", text, (("--unlisted class", "each is a class"),))]


def _counted(found: Sequence[Sequence[int]], masks: Sequence[MaskEvidence]) -> str:
    """Describe masks that count from 1, each up to a number of its own; "" if they do not."""
    counted = [[value for value in values if value > 0] for values in found]
    several = [(len(values), values[-1], mask) for values, mask in zip(counted, masks, strict=True) if values]
    if len(several) < 2:
        return ""
    ends = Counter(last for _, last, _ in several)
    fewest, most = (choose(several, key=lambda each: each[1]) for choose in (min, max))
    varies = fewest[1] <= _FEW_OBJECTS * most[1] and max(ends.values()) <= _SAME_END * len(several)
    n_filled = sum(n >= _FILLED * last for n, last, _ in several)
    if most[1] < _MIN_COUNT or not varies or n_filled < _MASKS_FILLED * len(several):
        return ""
    return f"label maps count from 1, such as to {fewest[1]} in {fewest[2].file} and to {most[1]} in {most[2].file}"


def _far_apart(values: Sequence[int]) -> str:
    """Describe large numbers with large gaps; "" if they have none."""
    if len(values) < _MIN_VALUES or values[-1] <= 255 or len(values) >= _MAX_SPARSE * values[-1]:
        return ""
    return f"{len(values)} values up to {values[-1]} lie far apart, such as {', '.join(map(str, values[-3:]))}"


def _own(found: Sequence[Sequence[int]], pixels: Pixels) -> str:
    """Describe values of which nearly each occurs in one label map only, or too many colors; "" if they are neither."""
    n_masks = Counter(value for values in found for value in values)
    is_rgb = pixels.encoding == "rgb"
    if is_rgb and len(n_masks) > _MAX_COLORS:
        return f"{len(n_masks)} colors are more than people tell apart"
    own = [value for value, n in n_masks.items() if n == 1]
    if len(found) < _MIN_MASKS or len(n_masks) < _MIN_VALUES or len(own) < _OWN_SHARE * (len(n_masks) - 1):
        return ""
    what, example = ("colors", color_of(own[0])) if is_rgb else ("values", own[0])
    return f"{len(own)} of {len(n_masks)} {what}, such as {example}, occur in one label map only"
