"""Looks at images and label maps before anything is computed on them: what they hold, and how they are to be read."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median_low
from typing import Any

from pydantic import ValidationError

from seg_transfer.data.inspection.annotations import conclude_annotations
from seg_transfer.data.inspection.answers import Answers
from seg_transfer.data.inspection.conclusions import Conclusion, Doubt, conclude
from seg_transfer.data.inspection.containers import rows_left_out
from seg_transfer.data.inspection.evidence import MaskEvidence, look_at_label
from seg_transfer.data.inspection.image_evidence import ImageEvidence, look_at_images_of
from seg_transfer.data.inspection.layout import Layout, find_layout, tables_of
from seg_transfer.data.inspection.names import read_names
from seg_transfer.data.manifest import SCRATCH, DatasetManifest, LowShot
from seg_transfer.data.paths import path_checker
from seg_transfer.data.record import Record
from seg_transfer.data.records import list_records, low_shot_subset
from seg_transfer.data.scene_tiles import MAX_PIXELS, Tiles
from seg_transfer.data.validation import one_line
from seg_transfer.errors import ConfigError, DataError, DoubtfulError
from seg_transfer.progress import progress_of

# Larger images take time and add little information; users can change this in the manifest that is written.
MAX_SHORT_SIDE = 512
# ImageNet statistics, because the statistics of the images are unknown; only used with `normalisation: target`.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_NO_ANSWERS = Answers()
_PLACEHOLDERS: dict[str, Any] = {
    "coco": {"encoding": "coco"},
    "labelme": {"encoding": "labelme", "names": {"unknown": 1}, "background": 0},
}
_NO_NAMES = ("images", "image", "img", "train", "/")


@dataclass(frozen=True)
class Inspection:
    """What is known about images and label maps.

    Attributes:
        manifest: How they are read, without an eval split; while there are doubts, the likeliest reading.
        layout: Where they lie, how they pair up, and what was left out.
        records: All pairs.
        sizes: (height, width) of the images that were looked at.
        conclusion: What the pixels of these images and of their label maps say.
    """

    manifest: DatasetManifest
    layout: Layout
    records: Sequence[Record]
    sizes: Sequence[tuple[int, int]]
    conclusion: Conclusion

    @property
    def root(self) -> Path:
        """The data root that the manifest is relative to."""
        return self.layout.root

    @property
    def file_notes(self) -> tuple[str, ...]:
        """What was left out, and whether images are read as tiles, one line each."""
        tiles = self.manifest.tiles
        if tiles is None:
            return self.layout.notes
        return (
            *self.layout.notes,
            f"images above {tiles.above} pixels are read as tiles of {tiles.size} x {tiles.size}",
        )

    @property
    def n_pairs(self) -> int:
        """Number of images that have a label map; tiles of one image are one."""
        return len({(record.image, record.row) for record in self.records})

    @property
    def encoding(self) -> str:
        """How label maps are read, even where there are too few classes for a manifest."""
        return str((self.conclusion.labels or self.manifest.labels.model_dump())["encoding"])

    @property
    def needs_links(self) -> bool:
        """Whether files are links that lead out of the root, which a manifest alone must not follow."""
        check = path_checker(self.root)
        files = {path for record in self.records for path in (record.image, record.label)}
        return any(check(file.relative_to(self.root).as_posix()) for file in files)

    @property
    def notes(self) -> tuple[str, ...]:
        """`file_notes`, and what was decided although pixels differ from the plain case."""
        return (*self.file_notes, *self.conclusion.notes)

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """What people could read in more than one way."""
        return (*self.layout.doubts, *self.conclusion.doubts)

    def require_certain(self) -> None:
        """Raise DoubtfulError, whose message is the line of the first doubt, if there is a doubt."""
        if self.doubts:
            more = f" (and {len(self.doubts) - 1} more: seg-transfer inspect lists them)" if self.doubts[1:] else ""
            raise DoubtfulError(f"{self.doubts[0].line}{more}")


def inspect_folders(
    images: Path,
    labels: Path,
    names: Path | None = None,
    answers: Answers = _NO_ANSWERS,
    *,
    limit: int | None = None,
    everything: bool = False,
) -> Inspection:
    """Find out how images and label maps pair up and how they are to be read, from their names and pixels.

    The pixels of the low-shot subset are looked at: those that a target is scored on.

    Args:
        images: Folder of images, searched recursively, whose links are followed; or Parquet files.
        labels: Folder of label maps, which may be the same; or of LabelMe's files; or a JSON file of COCO instances.
        names: File of class names.
        answers: What is stated; it is not doubted.
        limit: Number of pairs to look at, the size of the low-shot subset; 150 by default.
        everything: Look at all pairs instead.

    Returns:
        The inspection, which lists doubts instead of raising them.

    Raises:
        DataError: A folder is missing or empty, or files cannot be read in any way.
        ConfigError: The file of class names breaks a rule, an answer has nothing to answer, or the limit is below 1.
    """
    layout = find_layout(images, labels, answers)
    _refuse_idle(answers, layout, names)
    named = read_names(names) if names else None
    draft = _draft(layout, _dataset_name(images), answers, limit)
    records = list_records(draft, layout.root, "train")
    if layout.kind == "table":
        layout = replace(layout, others=rows_left_out(tables_of(images, labels), len(records)))
    chosen = _chosen(records, draft, everything)
    image_evidence = _look_at_images(chosen)
    most = min(answers.max_pixels or MAX_PIXELS, MAX_PIXELS)
    if any(height * width > most for height, width in (image.size for image in image_evidence)):
        draft = draft.model_copy(update={"tiles": Tiles(above=most)})
        records = list_records(draft, layout.root, "train")
        chosen = _chosen(records, draft, everything)
        image_evidence = _look_at_images(chosen)
    if layout.kind in ("coco", "labelme"):
        conclusion = conclude_annotations(layout.kind, chosen, image_evidence, answers)
    else:
        conclusion = conclude(_look_at_labels(chosen), image_evidence, named, answers)
    sizes = [image.size for image in image_evidence]
    return Inspection(_completed(draft, conclusion, sizes, labels), layout, records, sizes, conclusion)


def _look_at_images(records: Sequence[Record]) -> list[ImageEvidence]:
    """Look at images; tiles are cut from the upright image if EXIF data are applied, so that they need no turn."""
    seen = look_at_images_of(records)
    is_turned = [record.window is not None and record.reading.exif == "apply" for record in records]
    return [replace(image, orientation=1) if turned else image for image, turned in zip(seen, is_turned, strict=True)]


def _look_at_labels(records: Sequence[Record]) -> list[MaskEvidence]:
    seen: list[MaskEvidence] = []
    with ThreadPoolExecutor(os.cpu_count()) as threads, progress_of("looking at label maps") as tick:
        for label in threads.map(look_at_label, records):
            seen.append(label)
            tick(len(seen), len(records))
    return seen


def _refuse_idle(answers: Answers, layout: Layout, names: Path | None) -> None:
    """Refuse answers that would change nothing, because their user expects that they do."""
    if layout.kind in ("coco", "labelme"):
        if names is not None:
            raise ConfigError(f"{names}: annotations name their classes themselves; leave --names out")
        idle = [name for name in ("labels_are", "unlisted", "first_id") if getattr(answers, name) is not None]
        if idle:
            raise ConfigError(f"--{idle[0].replace('_', '-')}: is for label maps, not for annotations; leave it out")
    if answers.first_id is not None and names is None:
        raise ConfigError(f"--first-id {answers.first_id}: says which value the first name belongs to; give --names")
    if answers.columns is not None and layout.kind != "table":
        raise ConfigError(f"--columns {','.join(answers.columns)}: is for Parquet files; leave it out")
    if answers.max_pixels is not None and layout.kind == "table":
        raise ConfigError(f"--max-pixels {answers.max_pixels}: images in tables have no tiles; leave it out")


def _draft(layout: Layout, name: str, answers: Answers, limit: int | None) -> DatasetManifest:
    """Return a manifest that has the records of the dataset, but none of what pixels say.

    Tiles are parts of what an image is read as, so what is stated about that counts already.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"{limit} images: at least one must be looked at; state 1 or more")
    stated = {"exif": answers.exif, "bands": answers.bands, "range": answers.range}
    reading = {field: value for field, value in stated.items() if value is not None}
    return DatasetManifest.model_validate(
        {
            "name": name,
            "title": name,
            "domain": "unknown",
            "classes": ("class_0", "class_1"),
            "labels": _PLACEHOLDERS.get(layout.kind, {"encoding": "id"}),
            "columns": layout.columns,
            **({"images": reading} if reading else {}),
            "root": ".",
            "train": layout.split,
            "pairing": layout.pairing,
            "low_shot": LowShot() if limit is None else LowShot(limit=limit),
            "mean": _MEAN,
            "std": _STD,
            "crop_size": (MAX_SHORT_SIDE, MAX_SHORT_SIDE),
            "notes": "Made by seg-transfer inspect.",
        }
    ).following_links()


def _completed(
    draft: DatasetManifest, conclusion: Conclusion, sizes: Sequence[tuple[int, int]], labels: Path
) -> DatasetManifest:
    """Add what pixels say; raises DataError if that breaks a rule of manifests."""
    if conclusion.labels is None or len(conclusion.classes) < 2:  # only an answer can complete it
        return draft
    short_side = min(median_low(min(size) for size in sizes), MAX_SHORT_SIDE)
    fields = draft.model_dump(exclude_none=True)
    known = {"classes": conclusion.classes, "labels": conclusion.labels, "images": conclusion.images}
    data = {**fields, **known, "crop_size": (short_side, short_side)}
    try:
        return DatasetManifest.model_validate(data).following_links()
    except ValidationError as error:  # names and values of any file can break a rule of manifests
        raise DataError(f"{labels}: no manifest can describe it: {one_line(error, data)}") from error


def _chosen(records: Sequence[Record], draft: DatasetManifest, everything: bool) -> Sequence[Record]:
    if everything:
        return records
    return low_shot_subset(records, draft.low_shot.limit, draft.low_shot.seed, draft.name)


def _dataset_name(images: Path) -> str:
    """Derive a name from the path: ``data/city/images`` gives city."""
    parts = [part for part in images.resolve().parts if part not in _NO_NAMES]
    name = re.sub("[^a-z0-9_-]+", "_", (parts or ["target"])[-1].lower()).strip("_-")[:64]
    return name if name and name != SCRATCH else "target"
