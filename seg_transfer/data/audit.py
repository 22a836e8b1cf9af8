"""Audits a dataset: reads every file once, and reports its contents and problems."""

import os
from collections import defaultdict
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_transfer.data.images import read_image, read_raw, to_classes
from seg_transfer.data.inspection.answers import Color
from seg_transfer.data.inspection.audit_doubts import doubts_of_dataset
from seg_transfer.data.inspection.audit_evidence import PairEvidence, gather, look_at_pair
from seg_transfer.data.inspection.doubts import Doubt
from seg_transfer.data.manifest import DatasetManifest, Split, SplitName
from seg_transfer.data.record import Record
from seg_transfer.data.records import find_records, low_shot_subset
from seg_transfer.errors import DataError

Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]
_Read = TypeVar("_Read")
_DOUBTS_ARE_NO_PROBLEMS = " (no problems: until other lines are stated, files are read as the manifest says)"


@dataclass(frozen=True, slots=True, eq=False)
class SplitAudit:
    """Statistics of the readable pairs of a split; ``+`` combines the statistics of two sets of pairs.

    Attributes:
        n_images: Number of pairs.
        smallest: Minimum height and minimum width, in pixels.
        largest: Maximum height and maximum width, in pixels.
        class_pixels: (C,), number of pixels of each class.
        class_images: (C,), number of images that show each class.
        ignored_pixels: Number of ignored pixels.
        color_sums: (2, 3), sums of R, G and B over all pixels, and of their squares.
    """

    n_images: int
    smallest: tuple[int, int]
    largest: tuple[int, int]
    class_pixels: Counts
    class_images: Counts
    ignored_pixels: int
    color_sums: Counts

    def __add__(self, other: Self) -> "SplitAudit":
        return SplitAudit(
            self.n_images + other.n_images,
            (min(self.smallest[0], other.smallest[0]), min(self.smallest[1], other.smallest[1])),
            (max(self.largest[0], other.largest[0]), max(self.largest[1], other.largest[1])),
            self.class_pixels + other.class_pixels,
            self.class_images + other.class_images,
            self.ignored_pixels + other.ignored_pixels,
            self.color_sums + other.color_sums,
        )

    @property
    def n_pixels(self) -> int:
        """Total number of pixels, including ignored ones."""
        return int(self.class_pixels.sum()) + self.ignored_pixels

    @property
    def ignored_share(self) -> float:
        """Share of ignored pixels, in [0, 1]."""
        return self.ignored_pixels / self.n_pixels

    @property
    def class_shares(self) -> Shares:
        """Share of each class among all labeled pixels, (C,); zeros if no pixel is labeled."""
        return self.class_pixels / max(int(self.class_pixels.sum()), 1)

    @property
    def mean(self) -> Shares:
        """Mean of R, G, B over all pixels, as fractions of 255; a manifest's ``mean`` is that of ``train``."""
        mean: Shares = self.color_sums[0] / (255 * self.n_pixels)
        return mean

    @property
    def std(self) -> Shares:
        """Standard deviation of R, G, B over all pixels, as fractions of 255."""
        variance: Shares = self.color_sums[1] / (255**2 * self.n_pixels) - self.mean**2
        # Rounding can make the variance of a constant image negative.
        std: Shares = np.sqrt(variance.clip(min=0))
        return std


@dataclass(frozen=True, slots=True, eq=False)
class AuditReport:
    """The audit of one dataset.

    Attributes:
        manifest: Its manifest.
        splits: Name -> statistics of ``train``, ``eval``, ``source_train`` where the manifest has one, and
            ``low_shot``, the chosen subset of ``train``. A split without readable pairs is missing, and is a problem.
        low_shot: Records of the low-shot subset.
        problems: All problems, one line each.
        doubts: What files show and the manifest does not state; their readings are lines of the manifest.
    """

    manifest: DatasetManifest
    splits: dict[str, SplitAudit]
    low_shot: tuple[Record, ...]
    problems: tuple[str, ...]
    doubts: tuple[Doubt, ...] = ()

    def missing_classes(self, split: str) -> tuple[str, ...]:
        """Return the names of the classes without any pixel in a split."""
        present = self.splits[split].class_pixels > 0
        return tuple(name for name, is_present in zip(self.manifest.classes, present, strict=True) if not is_present)


class _Everything(NamedTuple):
    """What all pairs hold: statistics of splits and of all pairs once, problems, evidence, and what is known."""

    splits: dict[str, SplitAudit]
    total: SplitAudit | None
    problems: list[str]
    pairs: list[PairEvidence]
    known: set[int]


def audit(manifest: DatasetManifest, data_root: Path) -> AuditReport:
    """Decode every image and label map of every split that the manifest has, each file once.

    Args:
        manifest: Manifest of the dataset.
        data_root: Folder that the root of the manifest is relative to.

    Returns:
        The audit, which lists problems instead of raising them.
    """
    stated: dict[SplitName, Split | None] = {"eval": manifest.eval, "source_train": manifest.source_train}
    names: list[SplitName] = ["train", *(name for name, split in stated.items() if split is not None)]
    records: dict[str, list[Record]] = {}
    problems: list[str] = []
    for name in names:
        records[name], record_problems = find_records(manifest, data_root, name)
        problems += record_problems
    problems += _leaks(manifest, records)
    records["low_shot"] = low_shot_subset(
        records["train"], manifest.low_shot.limit, manifest.low_shot.seed, manifest.name
    )
    read = _read_all(manifest, records)
    pixels = [0] * len(manifest.classes) if read.total is None else read.total.class_pixels.tolist()
    shares = {name: split.ignored_share for name, split in read.splits.items()}
    is_complete = bool(read.pairs) and not read.problems
    doubts = doubts_of_dataset(manifest, read.pairs, read.known, pixels, shares, is_complete=is_complete)
    low_shot = tuple(records["low_shot"])
    return AuditReport(manifest, read.splits, low_shot, (*problems, *read.problems), doubts)


def audit_dict(report: AuditReport) -> dict[str, Any]:
    """Convert the report to plain data for JSON."""
    manifest = report.manifest
    low_shot = {"count": len(report.low_shot), "limit": manifest.low_shot.limit, "seed": manifest.low_shot.seed}
    splits = {name: _split_dict(report, name) for name in report.splits}
    doubts = [
        {"kind": doubt.kind, "line": doubt.line, "options": [option for option, _ in doubt.readings]}
        for doubt in report.doubts
    ]
    problems = list(report.problems)
    return {"dataset": manifest.name, "problems": problems, "doubtful": doubts, "low_shot": low_shot, "splits": splits}


def audit_lines(report: AuditReport) -> list[str]:
    """Format the report as lines of text: splits, the share of every class in each split, problems, doubts."""
    manifest, splits = report.manifest, report.splits
    limit, seed = manifest.low_shot.limit, manifest.low_shot.seed
    heading = "share of labeled pixels"
    width = max(len(heading), *map(len, manifest.classes))
    lines = [f"{manifest.name}: {manifest.title}"]
    lines += [_split_line(report, name) for name in splits]
    if splits:
        lines.append(f"low_shot is {len(report.low_shot)} images of train: limit {limit}, seed {seed}")
        lines.append(f"{heading:{width}}" + "".join(f"{name:>14}" for name in splits))
        for index, name in enumerate(manifest.classes):
            shares = "".join(f"{split.class_shares[index]:14.5f}" for split in splits.values())
            lines.append(f"{name:{width}}{shares}")
    lines.append(f"problems: {len(report.problems)}")
    lines += [f"  {problem}" for problem in report.problems]
    lines.append(f"doubtful: {len(report.doubts)}" + (_DOUBTS_ARE_NO_PROBLEMS if report.doubts else ""))
    return lines + [f"  {doubt.line}" for doubt in report.doubts]


def _leaks(manifest: DatasetManifest, records: dict[str, list[Record]]) -> list[str]:
    """Return one problem per image that is in eval and in another split, whatever the number of its tiles."""
    held_out = {(record.image, record.row) for record in records.get("eval", ())}
    return [
        f"{manifest.name} {name}: image {_image_id(record)} is also in eval; exclude it from one of them"
        for name, members in records.items()
        if name != "eval"
        for record in {(record.image, record.row): record for record in members}.values()
        if (record.image, record.row) in held_out
    ]


def _image_id(record: Record) -> str:
    return record.image_id.rpartition("@")[0] if record.window else record.image_id


def _read_all(manifest: DatasetManifest, records: dict[str, list[Record]]) -> _Everything:
    member_of: dict[Record, list[str]] = defaultdict(list)
    for name, members in records.items():
        for record in members:
            member_of[record].append(name)
    splits: dict[str, SplitAudit] = {}
    total: SplitAudit | None = None
    problems: list[str] = []
    pairs: list[PairEvidence] = []
    known, colors = set[int](), set[tuple[int, Color]]()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(partial(_read_one, manifest=manifest, known=known), member_of)
        for names, (content, file_problems, seen) in zip(member_of.values(), results, strict=True):
            problems += file_problems
            pairs.append(gather(seen, known, colors))
            if content is None:
                continue
            total = content if total is None else total + content
            for name in names:
                splits[name] = splits[name] + content if name in splits else content
    splits = {name: splits[name] for name in records if name in splits}
    return _Everything(splits, total, problems, pairs, known)


def _read_one(
    record: Record, manifest: DatasetManifest, known: Collection[int]
) -> tuple[SplitAudit | None, list[str], PairEvidence]:
    problems: list[str] = []
    image = _attempt(partial(read_image, record), problems)
    raw = _attempt(partial(read_raw, record, manifest), problems)
    label = None if raw is None else _attempt(partial(to_classes, raw, record, manifest), problems)
    if image is not None and label is not None:
        _attempt(partial(record.check_sizes, label.shape, image.shape[:2]), problems)
    histograms = None if image is None else _histograms(image)
    counts = None if label is None else np.bincount(label.ravel(), minlength=manifest.ignore_index + 1)
    present = None if counts is None else np.flatnonzero(counts[: len(manifest.classes)]).tolist()
    is_constant = histograms is not None and bool((np.count_nonzero(histograms, axis=1) == 1).all())
    seen = look_at_pair(record, manifest, raw, present, known, is_constant=is_constant)
    if problems or histograms is None or counts is None or label is None:
        return None, problems, seen
    height, width = label.shape
    return _statistics(histograms, counts, (height, width), manifest), problems, seen


def _attempt(read: Callable[[], _Read], problems: list[str]) -> _Read | None:
    try:
        return read()
    except DataError as error:
        problems.append(str(error))
        return None


def _histograms(image: npt.NDArray[np.uint8]) -> Counts:
    """Count the values of each channel, (3, 256); Pillow does so several times faster than NumPy."""
    return np.array(Image.fromarray(image).histogram(), np.int64).reshape(3, 256)


def _statistics(histograms: Counts, counts: Counts, size: tuple[int, int], manifest: DatasetManifest) -> SplitAudit:
    # A view would keep the counts of all possible indices, 512 KiB per image with many classes.
    classes = counts[: len(manifest.classes)].copy()
    values = np.arange(256)
    sums = np.array([histograms @ values, histograms @ values**2], np.int64)
    ignored = int(counts[manifest.ignore_index])
    return SplitAudit(1, size, size, classes, (classes > 0).astype(np.int64), ignored, sums)


def _split_dict(report: AuditReport, name: str) -> dict[str, Any]:
    split = report.splits[name]
    pixels, shares, images = split.class_pixels.tolist(), split.class_shares.tolist(), split.class_images.tolist()
    return {
        "n_images": split.n_images,
        "height": [split.smallest[0], split.largest[0]],
        "width": [split.smallest[1], split.largest[1]],
        "n_pixels": split.n_pixels,
        "ignored_share": split.ignored_share,
        "mean": split.mean.tolist(),
        "std": split.std.tolist(),
        "missing_classes": list(report.missing_classes(name)),
        "classes": {
            label: {"pixels": pixels[index], "share": shares[index], "images": images[index]}
            for index, label in enumerate(report.manifest.classes)
        },
    }


def _split_line(report: AuditReport, name: str) -> str:
    split, missing = report.splits[name], report.missing_classes(name)
    low, high = split.smallest, split.largest
    sizes = " x ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(low, high, strict=True))
    absent = f", missing {', '.join(missing)}" if missing else ""
    return f"{name}: {split.n_images} images of {sizes} pixels, {split.ignored_share:.1%} ignored{absent}"
