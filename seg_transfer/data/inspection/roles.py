"""Tells label maps from images where both lie in one folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import PurePosixPath

_ARRAYS = frozenset((".npy", ".npz"))
# Beside images of a format for photographs, these hold the label maps. TIFF files hold either.
_LOSSLESS = frozenset((".gif", ".pgm", ".png"))
_PHOTOGRAPHS = frozenset((".bmp", ".jfif", ".jpe", ".jpeg", ".jpg"))
_LABEL_WORDS = frozenset(
    (
        *("ann", "anno", "annotation", "annotations", "gt", "gtfine", "label", "labels", "labelids", "lbl"),
        *("mask", "masks", "msk", "seg"),
        *("segmentation", "segmentationclass", "segmentations", "semantic", "target", "targets"),
    )
)

Roles = tuple[list[str], list[str]]


def possible_roles(files: Sequence[str]) -> Iterator[Roles]:
    """Yield ways to divide the files of one folder into images and label maps, likely ones first.

    Args:
        files: Paths relative to the folder.

    Yields:
        (images, label maps), both in the order of the files.

    Example:
        >>> next(possible_roles(["a.jpg", "a_mask.jpg", "b.jpg"]))
        (['a.jpg', 'b.jpg'], ['a_mask.jpg'])
    """
    for is_label in (_is_array, _has_affix(files), _has_two_suffixes(files), _is_called_label):
        labels = [file for file in files if is_label(file)]
        if 0 < len(labels) < len(files):
            yield [file for file in files if not is_label(file)], labels


def roles_by_format(files: Sequence[str]) -> Roles | None:
    """Divide the files of one folder by their formats: files without loss beside photographs are label maps.

    Names say more than formats do, so this is for files that no way of `possible_roles` pairs.

    Args:
        files: Paths relative to the folder.

    Returns:
        (images, label maps); None if formats do not tell.

    Example:
        >>> roles_by_format(["a.jpg", "a.png"])
        (['a.jpg'], ['a.png'])
    """
    labels = [file for file in files if _suffix(file) in _LOSSLESS]
    images = [file for file in files if _suffix(file) in _PHOTOGRAPHS]
    return (images, labels) if images and labels and len(images) + len(labels) == len(files) else None


def _is_array(file: str) -> bool:
    return _suffix(file) in _ARRAYS


def _has_affix(files: Sequence[str]) -> Callable[[str], bool]:
    """Return whether a file has the name of another one with the most frequent addition, such as ``_mask``."""
    stems = {_stem(file) for file in files}
    counts: Counter[tuple[str, str]] = Counter(
        addition for stem in sorted(stems) for addition in _additions(stem, stems)
    )
    if not counts:
        return lambda file: False
    addition = counts.most_common(1)[0][0]
    return lambda file: addition in _additions(_stem(file), stems)


def _additions(stem: str, stems: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield (beginning, end) that another stem in the same folder lacks; additions of digits alone count images."""
    folder, _, name = stem.rpartition("/")
    above = f"{folder}/" if folder else ""
    for position in range(1, len(name)):
        if above + name[:position] in stems and not name[position:].isdigit():
            yield "", name[position:]
        if above + name[position:] in stems and not name[:position].isdigit():
            yield name[:position], ""


def _has_two_suffixes(files: Sequence[str]) -> Callable[[str], bool]:
    known = set(files)
    return lambda file: _stem(file) in known


def _is_called_label(file: str) -> bool:
    return not _LABEL_WORDS.isdisjoint(re.findall("[a-z]+", file.lower()))


def _suffix(file: str) -> str:
    return PurePosixPath(file).suffix.lower()


def _stem(file: str) -> str:
    return file[: len(file) - len(PurePosixPath(file).suffix)]
