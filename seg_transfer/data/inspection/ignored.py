"""Which values of masks are ignored: what is stated, else 255 or 65535 where they stand apart from the ids."""

from collections.abc import Collection, Mapping, Sequence

from seg_transfer.data.inspection.answers import Answers
from seg_transfer.data.inspection.doubts import Doubt
from seg_transfer.data.inspection.evidence import MaskEvidence
from seg_transfer.data.inspection.pixels import Counts, Encoding, value_of
from seg_transfer.errors import DataError

# More ignored pixels than this are more often a class that was taken for "ignore" than a choice of the annotators.
MAX_SHARE = 0.2
"""The largest share of ignored pixels that is no doubt."""
# Ids from 0 use at least every second number; levels of gray that stand for classes do not.
_DENSITY = 2
MARKS = (255, 65535)
"""Values that stand for "ignore" in many datasets."""
# Between ids up to this one and 255, there is a gap.
_MAX_ID = 250


def stated_ignored(answers: Answers, encoding: Encoding) -> tuple[int, ...] | None:
    """Return the raw values that are stated to be ignored; None if nothing is stated.

    Args:
        answers: What is stated.
        encoding: How masks are read; colors are stated for "rgb", and numbers for all others.

    Raises:
        DataError: Colors are stated for numbers, or numbers for colors.

    Example:
        >>> stated_ignored(Answers(ignore=(0, 255)), "id"), stated_ignored(Answers(ignore=((1, 2, 0),)), "rgb")
        ((0, 255), (513,))
    """
    if answers.ignore is None:
        return None
    for value in answers.ignore:
        if isinstance(value, tuple) != (encoding == "rgb"):
            form = "colors, such as --ignore 0:0:0" if encoding == "rgb" else "numbers, such as --ignore 255"
            raise DataError(f"--ignore {_option((value,))}: label maps are read as {form}; correct it")
    return tuple(value_of(value) if isinstance(value, tuple) else value for value in answers.ignore)


def auto_ignored(
    totals: Mapping[int, int], ids: Collection[int], named: Collection[int], masks: Sequence[MaskEvidence]
) -> tuple[set[int], list[str], list[Doubt]]:
    """Decide about 255, and about 65535 in masks of more than 8 bits.

    Args:
        totals: Raw value -> pixels.
        ids: Values that look like classes.
        named: Values that a names file names.
        masks: The masks.

    Returns:
        Ignored values, notes and doubts.
    """
    is_deep = any(mask.bits > 8 for mask in masks)
    candidates = [value for value in MARKS if value in totals and value not in named and (value == 255 or is_deep)]
    others = sorted(set(ids) - set(candidates))
    ignored: set[int] = set()
    notes: list[str] = []
    doubts: list[Doubt] = []
    for value in candidates:
        if value == 255 and others and others[-1] > 255:
            continue  # an id between others
        levels = [*(other for other in others if other < value), value]
        beside = [other for other in others if value - 2 <= other < value]
        if _are_levels(levels) or beside:
            seen = f"{beside[0]} occurs too" if beside else f"it is the last of {len(levels)} equally spaced levels"
            doubts.append(
                Doubt("levels", f"label maps: {value} may be a class, or ignored ({seen})", _readings((value,)))
            )
        elif _stands_apart(others, value, named):
            ignored.add(value)
            notes.append(f"{value} is ignored: all other values are ids from {others[0]} to {others[-1]}")
        else:
            where = f"other values are {', '.join(map(str, others[:4]))}" if others else "it is the only value"
            doubts.append(
                Doubt("ignored", f"label maps: {value} may be a class, or ignored ({where})", _readings((value,)))
            )
    return ignored, notes, doubts


def doubts_of_two_ways(
    totals: Mapping[int, int], named: Collection[int], counts: Sequence[Counts], masks: Sequence[MaskEvidence]
) -> list[Doubt]:
    """Doubt binary masks of which some hold 0 and 1, others 0 and 255 or 65535: "ignore", or the same foreground.

    Where 1 and 255 stand for different things, they meet in some mask, as 255 is mostly the border of 1.

    Args:
        totals: Raw value -> pixels.
        named: Values that a names file names.
        counts: Raw value -> pixels, for every mask.
        masks: The masks.

    Returns:
        No doubt, or one.
    """
    tops = sorted(totals.keys() - {0})
    if len(tops) < 2 or 0 not in totals or not {1, *MARKS}.issuperset(tops) or set(tops) <= set(named):
        return []
    if any(sum(top in mask for top in tops) > 1 for mask in counts):
        return []
    shown = []
    for top in tops:
        file = next(mask.file for mask, values in zip(masks, counts, strict=True) if top in values)
        shown.append(f"{file} holds 0 and {top}")
    marks = tuple(top for top in tops if top != 1)
    seen = f"{', but '.join(shown)}, as if one class were stored in {len(tops)} ways (then store all label maps alike)"
    # Without the number 1, nothing would be left beside 0.
    return [Doubt("ignored", seen, _readings(marks)[0 if 1 in tops else 1 :])]


def too_much_ignored(
    totals: Mapping[int, int], ignored: Collection[int], negative: Collection[int], answers: Answers
) -> list[Doubt]:
    """Doubt negative values, and a large share of ignored pixels that nobody stated.

    Args:
        totals: Raw value -> pixels.
        ignored: Those values that would be ignored.
        negative: Negative values that are not stated to be ignored.
        answers: What is stated.

    Returns:
        No doubt, or one.

    Raises:
        DataError: A negative value is left although ignored values are stated.
    """
    if negative and answers.ignore is not None:
        raise DataError(
            f"label maps: value {min(negative)} is negative, so it can only be ignored; add it to --ignore "
            f"{_option((*answers.ignore, min(negative)))}"
        )
    if negative:
        option = _option(tuple(sorted({*ignored, *negative})))
        seen = f"label maps: value {min(negative)} is negative, so it cannot be a class"
        return [Doubt("negative", seen, ((f"--ignore {option}", "it is ignored"),))]
    share = sum(totals[value] for value in ignored) / max(sum(totals.values()), 1)
    if share <= MAX_SHARE or answers.ignore is not None:
        return []
    seen = f"label maps: {share:.0%} of all pixels are {_option(tuple(sorted(ignored)))} and would be ignored"
    return [Doubt("ignored", seen, _readings(tuple(sorted(ignored))))]


def _readings(values: tuple[int, ...]) -> tuple[tuple[str, str], ...]:
    it = "it" if len(values) == 1 else "each"
    return ((f"--ignore {_option(values)}", f"{it} is ignored"), ("--ignore none", f"{it} is a class"))


def _option(values: Sequence[object]) -> str:
    texts = [":".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in values]
    return ",".join(texts) or "none"


def _stands_apart(others: Sequence[int], value: int, named: Collection[int]) -> bool:
    if not others:
        return False
    if named and set(others) <= set(named):
        return True
    gap = _MAX_ID if value == 255 else value - (255 - _MAX_ID)
    return others[-1] + 1 <= _DENSITY * len(others) and others[-1] < gap


def _are_levels(values: Sequence[int]) -> bool:
    """Whether at least three values divide the range up to the last one evenly, with steps above 1."""
    if len(values) < 3 or values[0] != 0:
        return False
    step = values[-1] / (len(values) - 1)
    return step > 2 and all(abs(value - index * step) < 1 for index, value in enumerate(values))
