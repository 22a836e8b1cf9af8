"""From a manifest to pairs of image and label file, and the low-shot subset of them."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import regex

from seg_transfer.data.manifest import DatasetManifest, Pairing, Split, SplitName, stays_inside
from seg_transfer.data.segments import segments_file
from seg_transfer.errors import ConfigError, DataError

Key = tuple[str | None, ...]

# Seconds of processor time. An expression that takes more than microseconds for a path takes years for some.
_LONGEST_SEARCH = 1.0


@dataclass(frozen=True, slots=True)
class Record:
    """One image and its label map.

    ``image_id`` is the image's path below the dataset's root, without its suffix. ``segments`` is the file without
    which a panoptic label map cannot be read; other label maps have none.
    """

    image_id: str
    image: Path
    label: Path
    segments: Path | None = None


def list_records(manifest: DatasetManifest, data_root: Path, split: SplitName) -> list[Record]:
    """All pairs of a split, sorted by ``image_id``.

    DataError if a file has no partner, a key is ambiguous, a path leaves the root, or the split is empty.
    """
    records, problems = find_records(manifest, data_root, split)
    if problems:
        more = f" (and {len(problems) - 1} more: the audit lists them all)" if len(problems) > 1 else ""
        raise DataError(problems[0] + more)
    return records


def low_shot_records(manifest: DatasetManifest, data_root: Path) -> list[Record]:
    """The images that a target is scored and fine-tuned on: the manifest's low-shot subset of ``train``."""
    records = list_records(manifest, data_root, "train")
    return low_shot_subset(records, manifest.low_shot.limit, manifest.low_shot.seed, manifest.name)


def low_shot_subset(records: Iterable[Record], limit: int, seed: int, dataset: str) -> list[Record]:
    """``limit`` records (all, if there are fewer), sorted by ``image_id``; a smaller limit's are among a larger one's.

    A record's rank is the SHA-256 of (seed, dataset, image_id): no order of files, library version or platform
    changes the choice. ConfigError if ``limit`` is less than 1.
    """
    if limit < 1:
        raise ConfigError(f"low_shot.limit: {limit}: a target needs at least 1 image; raise it")

    def rank(record: Record) -> bytes:
        return hashlib.sha256(f"{seed}\0{dataset}\0{record.image_id}".encode("utf-8", "surrogateescape")).digest()

    return sorted(sorted(records, key=rank)[:limit], key=lambda record: record.image_id)


def find_records(manifest: DatasetManifest, data_root: Path, split: SplitName) -> tuple[list[Record], list[str]]:
    """What ``list_records`` returns, and every problem as one line instead of the first as an error."""
    where, wanted, root = f"{manifest.name} {split}", manifest.split(split), data_root / manifest.root
    if not root.is_dir():
        return [], [f"{where}: {_no_folder(manifest, root)}"]
    if wanted.lists:
        pairs, problems = _listed_pairs(root, wanted)
    else:
        pairs, problems = _globbed_pairs(root, wanted, manifest.pairing)
    records, more = _checked(root, pairs)
    problems += more
    if manifest.labels.encoding == "panoptic":
        records = [replace(record, segments=segments_file(record.label)) for record in records]
        needed = {record.segments.relative_to(root).as_posix() for record in records if record.segments}
        problems += [problem for path in sorted(needed) if (problem := _path_problem(root, path))]
    if wanted.count not in (None, len(records)):
        problems.append(
            f"{len(records)} pairs found, {split}.count says {wanted.count}; complete the files or correct it"
        )
    return records, [f"{where}: {problem}" for problem in problems]


def why_absent(manifest: DatasetManifest, data_root: Path) -> str:
    """Why a dataset is not there as far as a glance tells: no folder, or one without a file of some kind; "" if it is.

    No file is paired or counted: that is what ``find_records`` is for, which takes its time.
    """
    root = data_root / manifest.root
    if not root.is_dir():
        return _no_folder(manifest, root)
    splits = [split for split in (manifest.train, manifest.eval, manifest.source_train) if split is not None]
    lists = [path for split in splits for path in (*split.lists, *split.stems) if not (root / path).is_file()]
    kinds = [globs for split in splits for globs in (split.images, split.labels) if globs]
    bare = [" or ".join(globs) for globs in kinds if not any(True for glob in globs for _ in root.glob(glob))]
    return f"{root} has no {(lists + bare)[0]}{_obtained(manifest)}" if lists + bare else ""


def _no_folder(manifest: DatasetManifest, root: Path) -> str:
    return f"{root} is not a folder; correct the data root, or root in the manifest{_obtained(manifest)}"


def _obtained(manifest: DatasetManifest) -> str:
    return f"; to get the dataset: {manifest.obtain}" if manifest.obtain else ""


def _globbed_pairs(root: Path, split: Split, pairing: Pairing | None) -> tuple[list[tuple[str, str]], list[str]]:
    images, labels = _glob(root, split.images, split.exclude), _glob(root, split.labels, split.exclude)
    if not images:
        return [], [f"no image in {root} matches {' or '.join(split.images)}; correct the pattern or the data root"]
    problems: list[str] = []
    if split.stems:
        images = _only_named(root, split.stems, images, problems)
    image_of, more = _by_key(images, _key_rule(pairing.image if pairing else None), "image")
    problems += more
    label_of, more = _by_key(labels, _key_rule(pairing.label if pairing else None), "label")
    problems += more
    if split.stems:
        # A label of an image that is not named is no mistake: VOC keeps those of all splits in one folder.
        label_of = {key: path for key, path in label_of.items() if key in image_of}
    for path in (image_of[key] for key in image_of.keys() - label_of.keys()):
        problems.append(f"image {path} has no label; add the label or exclude the image")
    for path in (label_of[key] for key in label_of.keys() - image_of.keys()):
        problems.append(f"label {path} has no image; add the image or exclude the label")
    return [(image_of[key], label_of[key]) for key in image_of.keys() & label_of.keys()], sorted(problems)


def _only_named(root: Path, stems: Iterable[str], images: Iterable[str], problems: list[str]) -> list[str]:
    """The images that the list files name; a name without an image is added to ``problems``."""
    named = {_stem_in(line): where for where, line in _lines(root, stems, problems)}
    found = [path for path in images if PurePosixPath(path).stem in named]
    for name in sorted(named.keys() - {PurePosixPath(path).stem for path in found}):
        problems.append(f"{named[name]}: no image is called {name}; add it or remove the line")
    return found


def _stem_in(line: str) -> str:
    """The first field of a line: a name as it stands, or that of the file at the end of a path."""
    first = line.split()[0]
    return PurePosixPath(first).stem if "/" in first else first


def _glob(root: Path, patterns: Iterable[str], exclude: Iterable[str]) -> list[str]:
    def matches(globs: Iterable[str]) -> set[str]:
        return {path.relative_to(root).as_posix() for glob in globs for path in root.glob(glob) if path.is_file()}

    return sorted(matches(patterns) - matches(exclude))


def _key_rule(expression: str | None) -> Callable[[str], Key | None]:
    if expression is None:
        return lambda path: (PurePosixPath(path).stem,)
    pattern = regex.compile(expression)

    def groups(path: str) -> Key | None:
        try:
            match = pattern.search(path, timeout=_LONGEST_SEARCH)
        except TimeoutError as error:
            raise ConfigError(
                f"pairing: {expression!r}: needs more than {_LONGEST_SEARCH:.0f} s for the path {path!r}; write it "
                "without a repetition inside another"
            ) from error
        return match.groups() if match else None

    return groups


def _by_key(paths: Iterable[str], key_of: Callable[[str], Key | None], kind: str) -> tuple[dict[Key, str], list[str]]:
    """The path of every key, and the problems: paths without a key, keys with several paths (the first is taken)."""
    found: dict[Key, list[str]] = defaultdict(list)
    problems = []
    for path in paths:
        key = key_of(path)
        if key is None:
            problems.append(f"{kind} {path} does not match pairing.{kind}; correct the expression or exclude the file")
        else:
            found[key].append(path)
    for key, (first, *others) in found.items():
        if others:
            name = "/".join(map(str, key))
            problems.append(f"{kind}s {first} and {others[0]} have the same key {name!r}; tell them apart by 'pairing'")
    return {key: same[0] for key, same in found.items()}, problems


def _listed_pairs(root: Path, split: Split) -> tuple[list[tuple[str, str]], list[str]]:
    excluded = set(_glob(root, split.exclude, ()))
    label_of: dict[str, str] = {}
    problems: list[str] = []
    for where, line in _lines(root, split.lists, problems):
        # A tab, where there is one, lets file names hold blanks.
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
    """Every line that is not blank, with the place it stands; a list that cannot be read is added to ``problems``."""
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


def _checked(root: Path, pairs: Iterable[tuple[str, str]]) -> tuple[list[Record], list[str]]:
    """Records of the pairs whose files exist inside the root, under an ``image_id`` that is theirs alone."""
    records: dict[str, Record] = {}
    problems = []
    for image, label in sorted(pairs):
        wrong = [problem for path in (image, label) if (problem := _path_problem(root, path))]
        image_id = PurePosixPath(image).with_suffix("").as_posix()
        if image_id in records:
            wrong.append(f"{image} and {records[image_id].image.name} would both be {image_id}; exclude one")
        if wrong:
            problems += wrong
        else:
            records[image_id] = Record(image_id, root / image, root / label)
    return sorted(records.values(), key=lambda record: record.image_id), problems


def _path_problem(root: Path, path: str) -> str | None:
    # The root itself may be a link that the user has made; a link inside a downloaded dataset must not lead out of it.
    if not (stays_inside(path) and (root / path).resolve().is_relative_to(root.resolve())):
        return f"{path} leads out of {root}; put the file inside"
    return None if (root / path).is_file() else f"{path} does not exist in {root}; add the file or correct its name"
