"""Finds the records of a dataset, and chooses its low-shot subset."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from seg_transfer.data.containers import find_entries, find_rows
from seg_transfer.data.manifest import DatasetManifest, Split, SplitName
from seg_transfer.data.pairs import find_pairs, matching_files
from seg_transfer.data.paths import Check, path_checker
from seg_transfer.data.record import Record
from seg_transfer.data.scene_tiles import with_tiles
from seg_transfer.errors import ConfigError, DataError


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
    check = path_checker(root, follows_links=manifest.follows_links)
    if manifest.columns is not None or manifest.labels.describes_many:
        records, problems = _contained_records(manifest, root, wanted, check)
    else:
        pairs, problems = find_pairs(root, wanted, manifest.pairing, check)
        records, more = _to_records(root, pairs, check)
        problems += more
    records = [
        replace(record, companion=manifest.labels.companion(record.label), reading=manifest.images)
        for record in records
    ]
    companions = {record.companion.relative_to(root).as_posix() for record in records if record.companion}
    problems += [problem for path in sorted(companions) if (problem := check(path))]
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


def _contained_records(
    manifest: DatasetManifest, root: Path, split: Split, check: Check
) -> tuple[list[Record], list[str]]:
    """List the records of tables, or of files that describe many images, and problems."""
    images, labels = (matching_files(root, globs, split.exclude) for globs in (split.images, split.labels))
    for paths, patterns in ((images, split.images), (labels, split.labels)):
        if not paths:
            return [], [f"no file in {root} matches {' or '.join(patterns)}; correct the pattern or the data root"]
    # Of tables, images and label maps are the same files; images of annotations are checked with their pairs.
    outside = [problem for path in labels if (problem := check(path))]
    if outside:
        return [], outside
    if manifest.columns is not None:
        records, unpaired, problems = find_rows(root, images, labels, manifest.columns)
    else:
        entry_of, unpaired, problems = find_entries(root, images, labels, manifest.labels.entries)
        records, more = _to_records(root, ((image, label) for image, (label, _) in entry_of.items()), check)
        problems += more
        records = [replace(record, entry=entry_of[record.image.relative_to(root).as_posix()][1]) for record in records]
    # What has no counterpart explains why there is no pair at all.
    return records, problems + (unpaired if split.unpaired == "error" or not records else [])


def _to_records(root: Path, pairs: Iterable[tuple[str, str]], check: Check) -> tuple[list[Record], list[str]]:
    """Make records of the pairs whose files exist inside the root and whose ``image_id`` is unique; list problems."""
    records: dict[str, Record] = {}
    problems = []
    for image, label in sorted(pairs):
        wrong = [problem for path in (image, label) if (problem := check(path))]
        image_id = _as_text(PurePosixPath(image).with_suffix("").as_posix())
        if image_id in records:
            wrong.append(f"{image} and {records[image_id].image.name} would both have the id {image_id}; exclude one")
        if wrong:
            problems += wrong
        else:
            records[image_id] = Record(image_id, root / image, root / label)
    return sorted(records.values(), key=lambda record: record.image_id), problems


def _as_text(path: str) -> str:
    r"""Write the bytes of a path that are not UTF-8 as ``\\xff``, because results hold text."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
