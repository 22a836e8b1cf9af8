"""Finds the records of a dataset, and chooses its low-shot subset."""

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import regex

from seg_transfer.data.containers import find_entries, find_rows
from seg_transfer.data.fields import stays_inside
from seg_transfer.data.manifest import DatasetManifest, Pairing, Split, SplitName
from seg_transfer.data.record import Record
from seg_transfer.data.scene_tiles import with_tiles
from seg_transfer.errors import ConfigError, DataError

PairKey = tuple[str | None, ...]

# In CPU seconds. An expression that takes longer than microseconds for one path can take years for another.
_SEARCH_TIMEOUT = 1.0


def list_records(manifest: DatasetManifest, data_root: Path, split: SplitName) -> list[Record]:
    """List the records of a split, sorted by ``image_id``.

    Args:
        manifest: Manifest of the dataset.
        data_root: Folder that the root of the manifest is relative to.
        split: "train", "eval" or "source_train".

    Raises:
        DataError: A file has no counterpart, a key is ambiguous, a path leads out of the root, or the split is empty.
    """
    records, problems = find_records(manifest, data_root, split)
    if problems:
        more = f" (and {len(problems) - 1} more: the audit lists them all)" if len(problems) > 1 else ""
        raise DataError(problems[0] + more)
    return records


def low_shot_records(manifest: DatasetManifest, data_root: Path) -> list[Record]:
    """List the records that a target is scored and fine-tuned on: the low-shot subset of ``train``."""
    records = list_records(manifest, data_root, "train")
    return low_shot_subset(records, manifest.low_shot.limit, manifest.low_shot.seed, manifest.name)


def low_shot_subset(records: Iterable[Record], limit: int, seed: int, dataset: str) -> list[Record]:
    """Choose a subset of records; a smaller limit gives a subset of what a larger limit gives.

    Records are ordered by the SHA-256 of (seed, dataset, image_id), so the choice does not depend on file order,
    library versions or the platform.

    Args:
        records: All records.
        limit: Number of records to choose; all if there are fewer.
        seed: Seed of the choice.
        dataset: Name of the dataset.

    Returns:
        The chosen records, sorted by ``image_id``.

    Raises:
        ConfigError: ``limit`` is less than 1.
    """
    if limit < 1:
        raise ConfigError(f"low_shot.limit: {limit}: a target needs at least 1 image; raise it")

    def rank(record: Record) -> bytes:
        return hashlib.sha256(f"{seed}\0{dataset}\0{record.image_id}".encode("utf-8", "surrogateescape")).digest()

    return sorted(sorted(records, key=rank)[:limit], key=lambda record: record.image_id)


def find_records(manifest: DatasetManifest, data_root: Path, split: SplitName) -> tuple[list[Record], list[str]]:
    """List the records of a split, and the problems as one line each, for which `list_records` would raise an error."""
    where, wanted, root = f"{manifest.name} {split}", manifest.split(split), data_root / manifest.root
    if not root.is_dir():
        return [], [f"{where}: {_missing_folder_message(manifest, root)}"]
    if manifest.columns is not None or manifest.labels.describes_many:
        records, problems = _contained_records(manifest, root, wanted)
    else:
        listed = bool(wanted.lists)
        pairs, problems = _listed_pairs(root, wanted) if listed else _globbed_pairs(root, wanted, manifest.pairing)
        records, more = _to_records(root, pairs)
        problems += more
    records = [
        replace(record, companion=manifest.labels.companion(record.label), reading=manifest.images)
        for record in records
    ]
    companions = {record.companion.relative_to(root).as_posix() for record in records if record.companion}
    problems += [problem for path in sorted(companions) if (problem := _path_problem(root, path))]
    if wanted.count not in (None, len(records)):
        problems.append(
            f"found {len(records)} pairs, but {split}.count is {wanted.count}; add files or correct the count"
        )
    if manifest.tiles:
        records, more = with_tiles(records, manifest.tiles)
        problems += more
    return records, [f"{where}: {problem}" for problem in problems]


def absence_reason(manifest: DatasetManifest, data_root: Path) -> str:
    """Check quickly whether a dataset is present.

    Files are neither paired nor counted; `find_records` does that, but takes longer.

    Returns:
        The reason why the dataset is absent (no folder, or no file of some kind), or "" if it is present.
    """
    root = data_root / manifest.root
    if not root.is_dir():
        return _missing_folder_message(manifest, root)
    splits = [split for split in (manifest.train, manifest.eval, manifest.source_train) if split is not None]
    lists = [path for split in splits for path in (*split.lists, *split.stems) if not (root / path).is_file()]
    kinds = [globs for split in splits for globs in (split.images, split.labels) if globs]
    unmatched = [" or ".join(globs) for globs in kinds if not any(True for glob in globs for _ in root.glob(glob))]
    return f"{root} has no {(lists + unmatched)[0]}{_obtain_hint(manifest)}" if lists + unmatched else ""


def _missing_folder_message(manifest: DatasetManifest, root: Path) -> str:
    return f"{root} is not a folder; correct the data root, or root in the manifest{_obtain_hint(manifest)}"


def _obtain_hint(manifest: DatasetManifest) -> str:
    return f"; to get the dataset: {manifest.obtain}" if manifest.obtain else ""


def _globbed_pairs(root: Path, split: Split, pairing: Pairing | None) -> tuple[list[tuple[str, str]], list[str]]:
    images, labels = _glob(root, split.images, split.exclude), _glob(root, split.labels, split.exclude)
    if not images:
        return [], [f"no image in {root} matches {' or '.join(split.images)}; correct the pattern or the data root"]
    problems: list[str] = []
    if split.stems:
        images = _select_named(root, split.stems, images, problems)
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
    problems += unpaired if split.unpaired == "error" else []
    relevant = None if split.unpaired == "error" else both
    problems += _ambiguous(images_of, relevant, "image") + _ambiguous(labels_of, relevant, "label")
    return [(images_of[key][0], labels_of[key][0]) for key in both], sorted(problems)


def _contained_records(manifest: DatasetManifest, root: Path, split: Split) -> tuple[list[Record], list[str]]:
    """List the records of tables, or of files that describe many images, and problems."""
    images, labels = _glob(root, split.images, split.exclude), _glob(root, split.labels, split.exclude)
    for paths, patterns in ((images, split.images), (labels, split.labels)):
        if not paths:
            return [], [f"no file in {root} matches {' or '.join(patterns)}; correct the pattern or the data root"]
    # Of tables, images and label maps are the same files; images of annotations are checked with their pairs.
    outside = [problem for path in labels if (problem := _path_problem(root, path))]
    if outside:
        return [], outside
    if manifest.columns is not None:
        records, unpaired, problems = find_rows(root, images, labels, manifest.columns)
    else:
        entry_of, unpaired, problems = find_entries(root, images, labels, manifest.labels.entries)
        records, more = _to_records(root, ((image, label) for image, (label, _) in entry_of.items()))
        problems += more
        records = [replace(record, entry=entry_of[record.image.relative_to(root).as_posix()][1]) for record in records]
    # What has no counterpart explains why there is no pair at all.
    return records, problems + (unpaired if split.unpaired == "error" or not records else [])


def _select_named(root: Path, stems: Iterable[str], images: Iterable[str], problems: list[str]) -> list[str]:
    """Select the images that the list files name; adds names without an image to ``problems``."""
    named = {_stem_in(line): where for where, line in _lines(root, stems, problems)}
    selected = [path for path in images if PurePosixPath(path).stem in named]
    for name in sorted(named.keys() - {PurePosixPath(path).stem for path in selected}):
        problems.append(f"{named[name]}: there is no image named {name}; add it or remove the line")
    return selected


def _stem_in(line: str) -> str:
    """Return the file stem in the first field of a line, which is a name or a path."""
    first = line.split()[0]
    return PurePosixPath(first).stem if "/" in first else first


def _glob(root: Path, patterns: Iterable[str], exclude: Iterable[str]) -> list[str]:
    def matches(globs: Iterable[str]) -> set[str]:
        return {path.relative_to(root).as_posix() for glob in globs for path in root.glob(glob) if path.is_file()}

    return sorted(matches(patterns) - matches(exclude))


def _key_rule(expression: str | None) -> Callable[[str], PairKey | None]:
    if expression is None:
        return lambda path: composed((PurePosixPath(path).stem,))
    pattern = regex.compile(expression)

    def groups(path: str) -> PairKey | None:
        try:
            match = pattern.search(path, timeout=_SEARCH_TIMEOUT)
        except TimeoutError as error:
            raise ConfigError(
                f"pairing: {expression!r}: takes more than {_SEARCH_TIMEOUT:.0f} s for the path {path!r}; write it "
                "without nested repetitions"
            ) from error
        return composed(match.groups()) if match else None

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


def composed(key: Iterable[str | None]) -> PairKey:
    """Compose letters and accents, which some systems store apart, so that equal names are equal."""
    return tuple(None if part is None else unicodedata.normalize("NFC", part) for part in key)


def _listed_pairs(root: Path, split: Split) -> tuple[list[tuple[str, str]], list[str]]:
    excluded = set(_glob(root, split.exclude, ()))
    label_of: dict[str, str] = {}
    problems: list[str] = []
    for where, line in _lines(root, split.lists, problems):
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


def _lines(root: Path, lists: Iterable[str], problems: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the position and text of every non-blank line; adds unreadable list files to ``problems``."""
    for name in lists:
        problem = _path_problem(root, name)
        if problem:
            problems.append(problem)
            continue
        for number, line in enumerate(
            (root / name).read_text(encoding="utf-8", errors="replace").splitlines(), start=1
        ):
            if line.strip():
                yield f"{name} line {number}", line


def _to_records(root: Path, pairs: Iterable[tuple[str, str]]) -> tuple[list[Record], list[str]]:
    """Make records of the pairs whose files exist inside the root and whose ``image_id`` is unique; list problems."""
    records: dict[str, Record] = {}
    problems = []
    for image, label in sorted(pairs):
        wrong = [problem for path in (image, label) if (problem := _path_problem(root, path))]
        image_id = _as_text(PurePosixPath(image).with_suffix("").as_posix())
        if image_id in records:
            wrong.append(f"{image} and {records[image_id].image.name} would both have the id {image_id}; exclude one")
        if wrong:
            problems += wrong
        else:
            records[image_id] = Record(image_id, root / image, root / label)
    return sorted(records.values(), key=lambda record: record.image_id), problems


def _as_text(path: str) -> str:
    r"""Write the bytes of a path that are no UTF-8 as ``\\xff``, because results hold text."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _path_problem(root: Path, path: str) -> str | None:
    # The root itself may be a link that the user made, but a link in a downloaded dataset must not lead out of it.
    if not (stays_inside(path) and (root / path).resolve().is_relative_to(root.resolve())):
        return f"{path} leads out of {root}; move the file inside"
    return None if (root / path).is_file() else f"{path} does not exist in {root}; add the file or correct its name"
