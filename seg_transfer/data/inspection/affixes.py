"""Finds constant beginnings and ends of file names, such as ``_mask``, that tell label maps from images."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

# Names of label maps that are compared with all names of images; one of them may have no image.
_PROBES = 3
_MAX_CANDIDATES = 12


class Affixes(NamedTuple):
    """Constant beginnings and ends of the names of images and label maps; "" where there is none."""

    image_start: str = ""
    image_end: str = ""
    label_start: str = ""
    label_end: str = ""


def candidate_affixes(image_stems: Sequence[str], label_stems: Sequence[str]) -> list[Affixes]:
    """List affixes that at least some images and label maps could have, likely ones first; each is still to be tested.

    Args:
        image_stems: Names of images without suffix.
        label_stems: Names of label maps without suffix.

    Example:
        >>> candidate_affixes(["1", "11"], ["1_m", "11_m"])[0].label_end
        '_m'
    """
    images, labels = set(image_stems), set(label_stems)
    found: dict[Affixes, None] = {}
    for stem in _probes(label_stems):
        found |= {Affixes(label_start=start, label_end=end): None for start, end in _around(stem, images)}
    for stem in _probes(image_stems):
        found |= {Affixes(start, end): None for start, end in _around(stem, labels)}
    found |= dict.fromkeys(_different_ends(image_stems, label_stems))
    for image_start in ("", _common_start(image_stems)):
        for image_end in ("", _common_end(image_stems)):
            for label_start in ("", _common_start(label_stems)):
                for label_end in ("", _common_end(label_stems)):
                    found[Affixes(image_start, image_end, label_start, label_end)] = None
    found.pop(Affixes(), None)
    return list(found)[: 2 * _MAX_CANDIDATES]


def _probes(stems: Sequence[str]) -> list[str]:
    return [stems[index] for index in sorted({0, len(stems) // 2, len(stems) - 1})] if stems else []


def _around(stem: str, others: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield what stands before and after those of the other stems that are a part of a stem, longest first."""
    n = 0
    for length in range(len(stem) - 1, 0, -1):
        for start in range(len(stem) - length + 1):
            end = start + length
            if stem[start:end] in others and not (cuts_number(stem, start) or cuts_number(stem, end)):
                yield stem[:start], stem[end:]
                n += 1
                if n == _PROBES:
                    return


def _different_ends(image_stems: Sequence[str], label_stems: Sequence[str]) -> Iterator[Affixes]:
    """Yield the ends of label maps and of the images whose names agree with theirs the longest.

    This finds ``a_leftImg8bit`` and ``a_gtFine_labelIds`` even where label maps of other kinds lie beside, so that
    these have no end in common.
    """
    ordered = sorted(image_stems)
    for stem in _probes(label_stems):
        place = bisect(ordered, stem)
        for other in ordered[max(place - 1, 0) : place + 1]:
            n = len(_shared([stem, other]))
            if n and (stem[n:] or other[n:]) and not (stem[n:].isdigit() or other[n:].isdigit()):
                n -= len(stem[:n]) - len(stem[:n].rstrip("_-. "))
                yield Affixes(image_end=other[n:], label_end=stem[n:])


def cuts_number(text: str, position: int) -> bool:
    """Whether a cut before a position divides a number: 1 is no part of 10.

    Example:
        >>> cuts_number("a_10", 3), cuts_number("a_10", 2)
        (True, False)
    """
    return 0 < position < len(text) and text[position - 1].isdigit() and text[position].isdigit()


def _common_start(stems: Sequence[str]) -> str:
    """Return the common beginning, without digits at its end: they belong to numbers that happen to agree."""
    return _shared(stems).rstrip("0123456789")


def _common_end(stems: Sequence[str]) -> str:
    return _shared([stem[::-1] for stem in stems])[::-1].lstrip("0123456789")


def _shared(texts: Sequence[str]) -> str:
    """Return the beginning that all texts share."""
    first, last = min(texts, default=""), max(texts, default="")
    return first[: next((index for index, letter in enumerate(first) if last[index : index + 1] != letter), len(first))]
