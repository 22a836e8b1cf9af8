"""Finds files that could be label maps, or images, as well as those that pair up: people know which ones they mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import regex

from seg_transfer.data.inspection.affixes import cuts_number
from seg_transfer.data.inspection.pairing import Pairs, find_pairing
from seg_transfer.errors import DataError

# Of the images with a label map, at least this share must have a second one, for these to be label maps of another
# kind; fewer are rests of something else.
_SHARE = 1 / 2
# The parts of a folder's path; None for those that tell label maps from images.
_Place = tuple[str | None, ...]


def refuse_rivals(found: Pairs, root: Path, *, mixed: bool) -> None:
    """Refuse several kinds of label maps for the same images, and several kinds of images for the same label maps.

    Args:
        found: Images and label maps by the first rule that fits.
        root: What their paths are relative to, for messages.
        mixed: Whether both lie in one folder, so that label maps of another kind count as images without a label map.

    Raises:
        DataError: There are some.
    """
    images, labels = [image for image, _ in found.pairs], [label for _, label in found.pairs]
    others = [*found.unpaired, *(_in_place_of_labels(found) if mixed else ())]
    for image, also in _paired_again(images, others, len(images)):
        label = dict(found.pairs)[image]
        raise DataError(
            f"{root / image}: has several label maps, {root / label} and {root / also}; {_choose(label, also)} by "
            "--labels, or name them in a manifest by 'labels' and 'pairing'"
        )
    if _has_name_of_label(found):
        return
    folders = {PurePosixPath(image).parent for image in images}
    beside = [image for image in found.unlabeled if PurePosixPath(image).parent in folders]
    for also, label in _paired_again(beside, labels, len(labels)):
        image = images[labels.index(label)]
        raise DataError(
            f"{root / label}: has several images, {root / image} and {root / also}; {_choose(image, also)} by "
            "--images, or name them in a manifest by 'images' and 'pairing'"
        )


def _choose(file: str, other: str) -> str:
    """Say what to do about two files of which one is meant."""
    if PurePosixPath(file).parent == PurePosixPath(other).parent:
        return "move the ones you mean into a folder of their own and name it"
    return "name the folder of the ones you mean"


def refuse_same_names(found: Pairs, root: Path) -> None:
    """Refuse files of one name, of which any could belong to a file of this name on the other side.

    Args:
        found: Images and label maps by a rule.
        root: What their paths are relative to, for messages.

    Raises:
        DataError: There are some among the files that are not paired.
    """
    images, labels = _by_stem(found.unlabeled), _by_stem(found.unpaired)
    for stem, of_label in labels.items():
        of_image = images.get(stem, [])
        for files, others, option in ((of_image, of_label, "--images"), (of_label, of_image, "--labels")):
            if len(files) > 1 and others:
                raise DataError(
                    f"{root / files[0]} and {root / files[1]}: both have the name of {root / others[0]}; keep one of "
                    f"them, or name the folder of the ones you mean by {option}"
                )


def _by_stem(files: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(PurePosixPath(file).stem, []).append(file)
    return found


def with_stray_labels(found: Pairs) -> Pairs:
    """Count files whose name continues that of a label map, as ``a_mask_1`` that of ``a_mask``, as label maps too.

    They hold a part of the truth, so that a label map without them is not whole.
    """
    labels = {str(PurePosixPath(label).with_suffix("")) for _, label in found.pairs}
    strays = [
        file for file in _in_place_of_labels(found) if _continues(str(PurePosixPath(file).with_suffix("")), labels)
    ]
    known = set(strays)
    unlabeled = tuple(file for file in found.unlabeled if file not in known)
    return replace(found, unlabeled=unlabeled, unpaired=(*found.unpaired, *strays))


def _continues(stem: str, others: Collection[str]) -> bool:
    """Whether a name starts with another one; but 11 does not continue 1."""
    cuts = range(1, len(stem))
    return any(stem[:cut] in others and not cuts_number(stem, cut) for cut in cuts)


def _in_place_of_labels(found: Pairs) -> Iterator[str]:
    """Yield files without a label map that lie where label maps do, or in another folder in the place of theirs."""
    suffixes = {PurePosixPath(label).suffix for _, label in found.pairs}
    pairs = {(PurePosixPath(image).parent, PurePosixPath(label).parent) for image, label in found.pairs}
    folders = {labels for _, labels in pairs}
    images_at: dict[_Place, set[PurePosixPath]] = defaultdict(set)
    for images, labels in pairs:
        if images != labels and len(images.parts) == len(labels.parts):
            common = zip(images.parts, labels.parts, strict=True)
            images_at[tuple(image if image == label else None for image, label in common)].add(images)
    varying = {tuple(part is None for part in place) for place in images_at}
    for file in found.unlabeled:
        path = PurePosixPath(file)
        if path.suffix in suffixes and (path.parent in folders or _is_at(path.parent, varying, images_at)):
            yield file


def _is_at(
    folder: PurePosixPath, varying: Collection[tuple[bool, ...]], images_at: Mapping[_Place, set[PurePosixPath]]
) -> bool:
    """Whether a folder has a place of label maps, and is not that of their images."""
    places = [
        tuple(None if varies else part for part, varies in zip(folder.parts, each, strict=True))
        for each in varying
        if len(each) == len(folder.parts)
    ]
    return any(images_at.get(place, set()) - {folder} for place in places)


def _paired_again(images: Sequence[str], labels: Sequence[str], n_pairs: int) -> list[tuple[str, str]]:
    """Return further pairs if they are many, compared with those that there are."""
    if min(len(images), len(labels)) < _SHARE * n_pairs:
        return []
    found = find_pairing(images, labels)
    pairs = [
        (image, label)
        for image, label in found.pairs
        if not _cuts_number(found.pairing.image, image) and not _cuts_number(found.pairing.label, label)
    ]
    if n_pairs == 1:
        # Any two names differ by a beginning and an end.
        return [(image, label) for image, label in pairs if _continue_each_other(image, label)]
    return pairs if len(pairs) >= max(2, _SHARE * n_pairs) else []


def _continue_each_other(*files: str) -> bool:
    """Whether the name of one of two files is a part of that of the other."""
    short, long = sorted((PurePosixPath(file).stem for file in files), key=len)
    return short in long


def _has_name_of_label(found: Pairs) -> bool:
    """Whether images have the whole name that pairs them, so that no other image can."""
    image, _ = found.pairs[0]
    match = regex.search(found.pairing.image, image)
    return bool(match) and match.groups()[-1] in (PurePosixPath(image).stem, PurePosixPath(image).name)


def _cuts_number(expression: str, path: str) -> bool:
    """Whether the part of a name that pairs it begins or ends inside a number, as 1 in 11."""
    match = regex.search(expression, path)
    if not match:
        return False
    start, end = match.span(len(match.groups()))
    return cuts_number(path, start) or cuts_number(path, end)
