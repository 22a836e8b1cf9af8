"""Finds the rule by which images and label maps pair up, from their paths alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

import regex

from seg_transfer.data.inspection.affixes import Affixes, candidate_affixes
from seg_transfer.data.manifest import Pairing
from seg_transfer.data.pairs import composed_key

_SUFFIX = r"\.[^./]+$"
_NAME = "([^/]+)"
# 1.jpg and 001.png: what stands before a number at the end of the name, and the number without zeros before it.
_NUMBERED = r"([^/]*?)0*([0-9]+)" + _SUFFIX
_MAX_SWAPS = 4
# A folder among more than these is one of many, such as that of a city or a scene, and not that of all images.
_MAX_OTHERS = 16


class Rule(NamedTuple):
    """A rule: its description for people, and the expressions whose groups are equal for an image and its label map."""

    text: str
    image: str
    label: str


@dataclass(frozen=True)
class Pairs:
    """Images and label maps that belong together.

    Attributes:
        rule: The rule, for people.
        pairing: The rule as a manifest has it.
        pairs: (image, label map).
        unlabeled: Images without a label map.
        unpaired: Label maps without an image, or with the same one as another.
    """

    rule: str
    pairing: Pairing
    pairs: tuple[tuple[str, str], ...]
    unlabeled: tuple[str, ...]
    unpaired: tuple[str, ...]


def find_pairing(
    images: Sequence[str],
    labels: Sequence[str],
    image_folder: str = "",
    label_folder: str = "",
    mixed: Sequence[str] = (),
) -> Pairs:
    """Pair by the first rule that gives every label map an image of its own; if none does, by the best one.

    The rules: the same path below both folders; the same name; the same with a constant beginning or end; the name of
    the image with one more suffix; the same number, with zeros before it or without; the same path but for one folder.

    Args:
        images: Paths of images, relative to a common root.
        labels: Paths of label maps, relative to the same root.
        image_folder: Folder that all images lie in; "" for the root.
        label_folder: Folder that all label maps lie in.
        mixed: Files that lie in both folders. The patterns of a manifest match them as images and as label maps, so
            the rule must tell them apart.

    Example:
        >>> found = find_pairing(["a.jpg", "b.jpg"], ["a_mask.png", "b_mask.png"])
        >>> found.rule, found.pairs
        ('same path; label maps end with _mask', (('a.jpg', 'a_mask.png'), ('b.jpg', 'b_mask.png')))
    """
    best: Pairs | None = None
    for rule in _rules(images, labels, image_folder, label_folder):
        found = _pair(rule, images, labels)
        if mixed and found.pairs != _pair(rule, _with(mixed, images), _with(mixed, labels)).pairs:
            continue
        if best is None or len(found.pairs) > len(best.pairs):
            best = found
        if not found.unpaired:
            return found
    return best or Pairs("none", Pairing(image="(.+)", label="(.+)"), (), tuple(images), tuple(labels))


def _with(mixed: Sequence[str], files: Sequence[str]) -> list[str]:
    """Add the files that the patterns for some files match as well: those with the same suffixes."""
    suffixes = {PurePosixPath(file).suffix for file in files}
    return sorted({*files, *(file for file in mixed if PurePosixPath(file).suffix in suffixes)})


def _pair(rule: Rule, images: Sequence[str], labels: Sequence[str]) -> Pairs:
    image_of, label_of = _by_key(rule.image, images), _by_key(rule.label, labels)
    pairs = sorted(
        (image_of[key][0], paths[0])
        for key, paths in label_of.items()
        if len(paths) == 1 and len(image_of.get(key, ())) == 1
    )
    paired_images, paired_labels = {image for image, _ in pairs}, {label for _, label in pairs}
    return Pairs(
        rule.text,
        Pairing(image=rule.image, label=rule.label),
        tuple(pairs),
        tuple(image for image in images if image not in paired_images),
        tuple(label for label in labels if label not in paired_labels),
    )


def _by_key(expression: str, paths: Iterable[str]) -> dict[tuple[str | None, ...], list[str]]:
    pattern, found = regex.compile(expression), defaultdict(list)
    for path in paths:
        match = pattern.search(path)
        if match:
            found[composed_key(match.groups())].append(path)
    return found


def _rules(images: Sequence[str], labels: Sequence[str], image_folder: str, label_folder: str) -> Iterator[Rule]:
    folders = (_below(image_folder), _below(label_folder))
    places = [("same path", *(f"{folder}(.*/)?" for folder in folders)), ("same name", *("(?:^|/)",) * 2)]
    affixes = candidate_affixes(*([PurePosixPath(path).stem for path in paths] for paths in (images, labels)))
    for text, image, label in places:
        yield Rule(text, image + _NAME + _SUFFIX, label + _NAME + _SUFFIX)
    for affix in affixes:
        for text, image, label in places:
            yield _with_affixes(text, image, label, affix)
    for text, image, label in places:
        yield Rule(f"{text}, and one more suffix", f"{image}{_NAME}$", label + _NAME + _SUFFIX)
    for text, image, label in places:
        yield Rule(f"{text}, zeros before numbers aside", image + _NUMBERED, label + _NUMBERED)
    for ours, theirs in _swapped_folders(images, labels):  # takes long, and most files pair before
        text = f"folder {theirs} in the place of folder {ours}"
        image, label = (
            f"{folder}(.*/)?{regex.escape(part)}/(.*/)?" for folder, part in zip(folders, (ours, theirs), strict=True)
        )
        yield Rule(text, image + _NAME + _SUFFIX, label + _NAME + _SUFFIX)
        for affix in affixes:
            yield _with_affixes(text, image, label, affix)
        yield Rule(f"{text}, and one more suffix", f"{image}{_NAME}$", label + _NAME + _SUFFIX)


def _with_affixes(text: str, image: str, label: str, affixes: Affixes) -> Rule:
    start, end, label_start, label_end = map(regex.escape, affixes)
    details = [
        f"{kind} {verb} with {affix}"
        for kind, verb, affix in (
            ("images", "begin", affixes.image_start),
            ("images", "end", affixes.image_end),
            ("label maps", "begin", affixes.label_start),
            ("label maps", "end", affixes.label_end),
        )
        if affix
    ]
    return Rule(
        f"{text}; {', '.join(details)}",
        f"{image}{start}{_NAME}{end}{_SUFFIX}",
        f"{label}{label_start}{_NAME}{label_end}{_SUFFIX}",
    )


def _swapped_folders(images: Sequence[str], labels: Sequence[str]) -> list[tuple[str, str]]:
    """List pairs of folder names such that the paths of label maps are those of images with the one for the other."""
    names: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for parts in {PurePosixPath(path).parts[:-1] for path in images}:
        for position, name in enumerate(parts):
            names[parts[:position], parts[position + 1 :]].append(name)
    counts: Counter[tuple[str, str]] = Counter()
    for parts in sorted({PurePosixPath(path).parts[:-1] for path in labels}):
        for position, name in enumerate(parts):
            others = names.get((parts[:position], parts[position + 1 :]), ())
            if len(others) <= _MAX_OTHERS:
                counts.update((other, name) for other in sorted(others) if other != name)
    return [swap for swap, _ in counts.most_common(_MAX_SWAPS)]


def _below(folder: str) -> str:
    return f"^{regex.escape(folder)}/" if folder else "^"
