"""Finds out where the images and label maps of a dataset lie: the parts of a manifest that need no pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from seg_transfer.data.inspection.answers import Answers
from seg_transfer.data.inspection.containers import entries_without, image_columns, is_coco, is_labelme
from seg_transfer.data.inspection.doubts import Doubt
from seg_transfer.data.inspection.globs import glob_of, globs_for, globs_for_hidden
from seg_transfer.data.inspection.listing import IMAGE_SUFFIXES, LABEL_SUFFIXES, Listing, list_files
from seg_transfer.data.inspection.pairing import Pairs, find_pairing
from seg_transfer.data.inspection.places import all_skipped, as_given, beside, common_root, paths_in, relative_to
from seg_transfer.data.inspection.rivals import refuse_rivals, refuse_same_names, with_stray_labels
from seg_transfer.data.inspection.roles import possible_roles, roles_by_format
from seg_transfer.data.inspection.wording import counted
from seg_transfer.data.manifest import Pairing, Split
from seg_transfer.data.record import Columns
from seg_transfer.errors import DataError

Kind = Literal["masks", "coco", "labelme", "table"]


@dataclass(frozen=True)
class Layout:
    """Where images and label maps lie.

    Attributes:
        kind: Label maps are images ("masks"), one JSON file of all images ("coco") or of each ("labelme"), or images
            and label maps are columns of tables ("table").
        root: The folder that holds both; relative if both were given so.
        rule: How images and label maps pair up, for people.
        split: Their files.
        pairing: The rule as a manifest has it; None where files pair by themselves.
        columns: The columns of the tables.
        unlabeled: Images without a label map, relative to the root.
        unpaired: Label maps without an image.
        skipped: Reason -> files that are neither, relative to the root.
        others: Other notes on what was left out.
        doubts: What is open.
    """

    kind: Kind
    root: Path
    rule: str
    split: Split
    pairing: Pairing | None = None
    columns: Columns | None = None
    unlabeled: tuple[str, ...] = ()
    unpaired: tuple[str, ...] = ()
    skipped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, one line for each kind."""
        left_out = [("image", " without a label map", self.unlabeled)]
        if not self.doubts:
            left_out.append(("label map", " without an image", self.unpaired))
        left_out += [("other file", f" ({reason})", files) for reason, files in self.skipped.items()]
        lines = (
            f"{counted(len(files), kind)}{why} left out{', such as' if files[1:] else ':'} {self.root / files[0]}"
            for kind, why, files in left_out
            if files
        )
        return (*lines, *self.others)


def find_layout(images: Path, labels: Path, answers: Answers) -> Layout:
    """Find out which files are images and label maps, and which belong together.

    Args:
        images: Folder of images, or of tables; or a table.
        labels: Folder of label maps, or of annotations; or one file of annotations, or the same table.
        answers: What is stated.

    Returns:
        The layout, which lists doubts instead of raising them.

    Raises:
        DataError: A folder is missing or empty, or no image has a label map.
    """
    for path in (images, labels):
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; name the folder that holds the files")
    layout = _found(images, labels, answers)
    return replace(layout, root=as_given(layout.root, images, labels))


def _found(images: Path, labels: Path, answers: Answers) -> Layout:
    tables = tables_of(images, labels)
    if tables:
        return _tabular(images, labels, tables, answers)
    if images.is_file():
        raise DataError(f"{images}: is neither a folder nor a Parquet file; name the folder that holds the images")
    return _annotated(images, labels) if labels.is_file() else _in_folders(images, labels, answers)


def tables_of(images: Path, labels: Path) -> list[Path]:
    """Return the Parquet files of images, if they are stored in such; beside image files, one is about these."""
    if images.is_file():
        return [images] if images.suffix.lower() == ".parquet" else []
    tables = list_files(images, {".parquet"}).files
    if tables and images.resolve() != labels.resolve() and list_files(images, IMAGE_SUFFIXES).files:
        return []
    return [images / name for name in tables]


def _tabular(images: Path, labels: Path, tables: Sequence[Path], answers: Answers) -> Layout:
    if images.resolve() != labels.resolve():
        raise DataError(f"{labels}: label maps must lie in the tables of the images; give --labels {images}")
    columns = image_columns(tables[0])
    named = answers.columns or (columns.image, columns.label)
    if not all(named) and not columns.candidates:
        raise DataError(
            f"{tables[0]}: has {counted(len(columns.found), 'column')} of images ({', '.join(columns.found)}), but "
            "images and label maps are needed; state --columns IMAGE,LABEL"
        )
    doubts: tuple[Doubt, ...] = ()
    if not all(named):
        readings = tuple(
            (f"--columns {image},{label}", f"{label} has the label maps") for image, label in columns.candidates
        )
        doubts = (Doubt("columns", f"{tables[0]}: columns {', '.join(columns.found)} hold images", readings),)
        named = columns.candidates[0]
    root = common_root(images if images.is_dir() else images.parent)
    patterns = tuple(glob_of(table.resolve().relative_to(root).as_posix()) for table in tables)
    image, label = named
    return Layout(
        "table",
        root,
        f"rows of {counted(len(tables), 'Parquet file')}, columns {image} and {label}",
        Split(images=patterns, labels=patterns, unpaired="ignore"),
        columns=Columns(image=str(image), label=str(label)),
        doubts=doubts,
    )


def _annotated(images: Path, file: Path) -> Layout:
    if file.suffix.lower() != ".json":
        raise DataError(f"{file}: is no folder; name the folder that holds the label maps, or a JSON file of COCO")
    root, listing = common_root(images, file.parent), list_files(images, IMAGE_SUFFIXES)
    split = Split(
        images=globs_for(root, images, listing),
        labels=glob_of(relative_to(root, file)),
        exclude=globs_for_hidden(root, images, listing),
        unpaired="ignore",
    )
    unlabeled, alone = entries_without(
        root, paths_in(relative_to(root, images), listing.files), relative_to(root, file)
    )
    return Layout(
        "coco",
        root,
        f"the file names in {file.name}",
        split,
        unlabeled=unlabeled,
        skipped=all_skipped(root, (images, listing)),
        others=alone,
    )


def _in_folders(images: Path, labels: Path, answers: Answers) -> Layout:
    images, labels = beside(images, labels, IMAGE_SUFFIXES), beside(labels, images, LABEL_SUFFIXES)
    root = common_root(images, labels)
    ours, theirs = list_files(images, IMAGE_SUFFIXES), list_files(labels, LABEL_SUFFIXES)
    if not ours.files:
        raise DataError(f"{images}: no image in it ({_suffixes_of(ours)}); name the folder that holds the images")
    best = _best_roles(root, images, labels, ours, theirs)
    if best is None or not best.pairs:
        return _from_json(images, labels, root, ours, best, answers)
    is_one_folder = images.resolve() == labels.resolve()
    refuse_rivals(best, as_given(root, images, labels), mixed=is_one_folder)
    refuse_same_names(best, as_given(root, images, labels))
    best = with_stray_labels(best) if is_one_folder else best
    nested = images.resolve().is_relative_to(labels.resolve()) or labels.resolve().is_relative_to(images.resolve())
    split = Split(
        images=globs_for(root, images, ours, [image for image, _ in best.pairs]),
        labels=globs_for(root, labels, theirs, [label for _, label in best.pairs]),
        exclude=tuple(dict.fromkeys((*globs_for_hidden(root, images, ours), *globs_for_hidden(root, labels, theirs)))),
        unpaired="ignore" if nested or best.unlabeled or best.unpaired else "error",
    )
    return Layout(
        "masks",
        root,
        best.rule,
        split,
        best.pairing,
        unlabeled=best.unlabeled,
        unpaired=best.unpaired,
        skipped=all_skipped(root, (images, ours), (labels, theirs)),
        doubts=_unpaired(best, as_given(root, images, labels), answers),
    )


def _best_roles(root: Path, images: Path, labels: Path, ours: Listing, theirs: Listing) -> Pairs | None:
    """Pair the files of two folders, or of one, where images and label maps must be told apart first."""
    image_folder, label_folder = relative_to(root, images), relative_to(root, labels)
    paths, label_paths = paths_in(image_folder, ours.files), paths_in(label_folder, theirs.files)
    if image_folder != label_folder:
        shared = set(paths) & set(label_paths)  # one folder lies in the other
        inner = max(image_folder, label_folder, key=len)
        paths = [path for path in paths if inner == image_folder or path not in shared]
        label_paths = [path for path in label_paths if inner == label_folder or path not in shared]
        mixed = sorted(shared)
        return find_pairing(paths, label_paths, image_folder, label_folder, mixed) if label_paths else None
    best: Pairs | None = None
    for roles in possible_roles(label_paths):
        found = find_pairing(*roles, image_folder, label_folder, label_paths)
        if found.pairs and not found.unpaired:
            return found
        if best is None or len(found.pairs) > len(best.pairs):
            best = found
    by_format = None if best and best.pairs else roles_by_format(label_paths)
    return find_pairing(*by_format, image_folder, label_folder, label_paths) if by_format else best


def _from_json(
    images: Path, labels: Path, root: Path, listing: Listing, found: Pairs | None, answers: Answers
) -> Layout:
    """Find JSON files in the place of label maps: one of COCO, or LabelMe's of every image."""
    annotations = list_files(labels, {".json"})
    if len(annotations.files) == 1 and is_coco(labels / annotations.files[0]):
        return _annotated(images, labels / annotations.files[0])
    described = [name for name in annotations.files if is_labelme(labels / name)]
    image_folder, label_folder = relative_to(root, images), relative_to(root, labels)
    if described:
        found = find_pairing(
            paths_in(image_folder, listing.files), paths_in(label_folder, described), image_folder, label_folder
        )
    if found is None or not found.pairs:
        raise DataError(_nothing_pairs(images, labels, found, annotations))
    split = Split(
        images=globs_for(root, images, listing, [image for image, _ in found.pairs]),
        labels=globs_for(root, labels, annotations, [label for _, label in found.pairs]),
        exclude=globs_for_hidden(root, images, listing),
        unpaired="ignore",
    )
    skipped = all_skipped(root, (images, listing)) if labels.resolve() != images.resolve() else {}
    return Layout(
        "labelme",
        root,
        found.rule,
        split,
        found.pairing,
        unlabeled=found.unlabeled,
        unpaired=found.unpaired,
        skipped=skipped,
        doubts=_unpaired(found, as_given(root, images, labels), answers),
    )


def _nothing_pairs(images: Path, labels: Path, found: Pairs | None, listing: Listing) -> str:
    if found is None and images.resolve() == labels.resolve():
        return (
            f"{labels}: label maps and images cannot be told apart by their names; move one of both into a folder of "
            "its own, and name it by --images or --labels"
        )
    if found is None:
        return (
            f"{labels}: no label map in it ({_suffixes_of(listing)}); name the folder that holds one for each image, "
            "or a JSON file of COCO"
        )
    refuse_same_names(found, as_given(common_root(images, labels), images, labels))
    examples = f"such as {found.unlabeled[0]} and {found.unpaired[0]}" if found.unlabeled and found.unpaired else ""
    return (
        f"{images}: no image has a label map in {labels} by its name ({examples}); names must be equal, but for a "
        "constant beginning, end or folder: rename the files, or write a manifest with 'pairing' or 'lists'"
    )


def _unpaired(found: Pairs, root: Path, answers: Answers) -> tuple[Doubt, ...]:
    if answers.unpaired or not found.unpaired:
        return ()
    n, first = len(found.unpaired), root / found.unpaired[0]
    seen = f"{first}: has no image ({n} of {n + len(found.pairs)} label maps, by the rule: {found.rule})"
    return (Doubt("unpaired", seen, (("--unpaired ignore", "leave them out"),)),)


def _suffixes_of(listing: Listing) -> str:
    """Say what else there is, for people whose files have a format that is not read."""
    others = [
        *listing.files,
        *(file for reason, files in listing.skipped.items() if reason != "hidden" for file in files),
    ]
    return f"{counted(len(others), 'other file')}, such as {others[0]}" if others else "it is empty"
