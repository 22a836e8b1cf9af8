"""Pairs the images and label maps of a split: by the keys in their paths, or as list files say."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import regex

from seg_transfer.data.fields import composed
from seg_transfer.data.manifest import Pairing, Split
from seg_transfer.data.paths import Check
from seg_transfer.errors import ConfigError

PairKey = tuple[str | None, ...]
Pairs = list[tuple[str, str]]

# In CPU seconds. An expression that takes longer than microseconds for one path can take years for another.
_SEARCH_TIMEOUT = 1.0


def find_pairs(root: Path, split: Split, pairing: Pairing | None, check: Check) -> tuple[Pairs, list[str]]:
    """Pair the files of a split.

    Args:
        root: Folder of the dataset.
        split: Its globs or list files.
        pairing: Rule for files that globs match.
        check: Returns the problem of a path.

    Returns:
        (image, label map), as paths relative to the root; problems, one line each.
    """
    return _listed_pairs(root, split, check) if split.lists else _globbed_pairs(root, split, pairing, check)


def matching_files(root: Path, patterns: Iterable[str], exclude: Iterable[str]) -> list[str]:
    """List the files that match globs, as sorted paths relative to the root."""

    def matches(globs: Iterable[str]) -> set[str]:
        return {path.relative_to(root).as_posix() for glob in globs for path in root.glob(glob) if path.is_file()}

    return sorted(matches(patterns) - matches(exclude))


def _globbed_pairs(root: Path, split: Split, pairing: Pairing | None, check: Check) -> tuple[Pairs, list[str]]:
    images, labels = (matching_files(root, globs, split.exclude) for globs in (split.images, split.labels))
    if not images:
        return [], [f"no image in {root} matches {' or '.join(split.images)}; correct the pattern or the data root"]
    problems: list[str] = []
    if split.stems:
        images = _select_named(root, split.stems, images, problems, check)
    images_of, unmatched = _by_key(images, pairing.image if pairing else None, "image")
    labels_of, unmatched_labels = _by_key(labels, pairing.label if pairing else None, "label")
    if split.stems:
        # Labels of unnamed images are not an error, because VOC keeps the labels of all splits in one folder.
        labels_of = {key: paths for key, paths in labels_of.items() if key in images_of}
    both = images_of.keys() & labels_of.keys()
    unpaired = [*unmatched, *unmatched_labels]
    unpaired += [
        f"image {images_of[key][0]} has no label; add the label or exclude the image" for key in images_of.keys() - both
    ]
    unpaired += [
        f"label {labels_of[key][0]} has no image; add the image or exclude the label" for key in labels_of.keys() - both
    ]
    # What has no counterpart explains why there is no pair at all.
    problems += unpaired if split.unpaired == "error" or not both else []
    relevant = None if split.unpaired == "error" else both
    problems += _ambiguous(images_of, relevant, "image") + _ambiguous(labels_of, relevant, "label")
    return [(images_of[key][0], labels_of[key][0]) for key in both], sorted(problems)


def _select_named(
    root: Path, stems: Iterable[str], images: Iterable[str], problems: list[str], check: Check
) -> list[str]:
    """Select the images that the list files name; adds names without an image to ``problems``."""
    named = {composed_key([_stem_in(line)]): (where, line) for where, line in _lines(root, stems, problems, check)}
    key_of = {path: composed_key([PurePosixPath(path).stem]) for path in images}
    for where, line in sorted(named[key] for key in named.keys() - key_of.values()):
        problems.append(f"{where}: there is no image named {_stem_in(line)}; add it or remove the line")
    return [path for path, key in key_of.items() if key in named]


def _stem_in(line: str) -> str:
    """Return the file stem in the first field of a line, which is a name or a path."""
    first = line.split()[0]
    return PurePosixPath(first).stem if "/" in first else first


def _key_rule(expression: str | None) -> Callable[[str], PairKey | None]:
    if expression is None:
        return lambda path: composed_key((PurePosixPath(path).stem,))
    pattern = regex.compile(expression)

    def groups(path: str) -> PairKey | None:
        try:
            match = pattern.search(path, timeout=_SEARCH_TIMEOUT)
        except TimeoutError as error:
            raise ConfigError(
                f"pairing: {expression!r}: takes more than {_SEARCH_TIMEOUT:.0f} s for the path {path!r}; write it "
                "without nested repetitions"
            ) from error
        return composed_key(match.groups()) if match else None

    return groups


def _by_key(paths: Iterable[str], expression: str | None, kind: str) -> tuple[dict[PairKey, list[str]], list[str]]:
    """Group paths by their keys; list those without a key."""
    key_of, found, unmatched = _key_rule(expression), defaultdict[PairKey, list[str]](list), []
    for path in paths:
        key = key_of(path)
        if key is None:
            unmatched.append(f"{kind} {path} does not match pairing.{kind}; correct the expression or exclude the file")
        else:
            found[key].append(path)
    return found, unmatched


def _ambiguous(paths_of: Mapping[PairKey, list[str]], relevant: Collection[PairKey] | None, kind: str) -> list[str]:
    """List keys with several paths, among the relevant ones."""
    return [
        f"{kind}s {paths[0]} and {paths[1]} have the same key {'/'.join(map(str, key))!r}; change 'pairing'"
        for key, paths in paths_of.items()
        if len(paths) > 1 and (relevant is None or key in relevant)
    ]


def composed_key(parts: Iterable[str | None]) -> PairKey:
    """Return the key of parts of a name in Unicode's composed form."""
    return tuple(None if part is None else composed(part) for part in parts)


def _listed_pairs(root: Path, split: Split, check: Check) -> tuple[Pairs, list[str]]:
    excluded = set(matching_files(root, split.exclude, ()))
    label_of: dict[str, str] = {}
    problems: list[str] = []
    for where, line in _lines(root, split.lists, problems, check):
        # Fields may be separated by a tab, which allows spaces in file names.
        fields = [PurePosixPath(field).as_posix() for field in (line.split("\t") if "\t" in line else line.split())]
        if excluded.intersection(fields):
            continue
        if len(fields) != 2:
            problems.append(f"{where}: {line.strip()!r} is not 'image label'; correct the line")
        elif label_of.setdefault(fields[0], fields[1]) != fields[1]:
            problems.append(f"{where}: {fields[0]} has two labels; keep one of the lines")
    if not label_of and not problems:
        problems.append(f"the lists {', '.join(split.lists)} name no pair; add lines 'image label'")
    return list(label_of.items()), problems


def _lines(root: Path, lists: Iterable[str], problems: list[str], check: Check) -> Iterator[tuple[str, str]]:
    """Yield the position and text of every non-blank line; adds unreadable list files to ``problems``."""
    for name in lists:
        problem = check(name)
        if problem:
            problems.append(problem)
            continue
        for number, line in enumerate(
            (root / name).read_text(encoding="utf-8", errors="replace").splitlines(), start=1
        ):
            if line.strip():
                yield f"{name} line {number}", line
