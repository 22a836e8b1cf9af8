"""Finds the records of files that hold many images or label maps: tables, and annotations of many images."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from seg_transfer.data.cells import rows_without
from seg_transfer.data.fields import composed
from seg_transfer.data.record import Columns, Record
from seg_transfer.errors import DataError


class _Claim(NamedTuple):
    """An entry that names an image: number of parts of the path that agree, annotation file, position, name."""

    agreement: int
    label: str
    position: int
    name: str


def find_entries(
    root: Path, images: Sequence[str], labels: Sequence[str], entries_of: Callable[[Path], tuple[str, ...]]
) -> tuple[dict[str, tuple[str, int]], list[str], list[str]]:
    """Pair images with the entries of annotation files.

    File names must be equal; where that leaves a choice, the path decides that agrees longest, from its end.

    Args:
        root: Folder of the dataset.
        images: Images, relative to the root.
        labels: Annotation files, relative to the root.
        entries_of: Names of the images in an annotation file.

    Returns:
        Image -> its annotation file, and its position there; images and entries without counterpart, one line each;
        problems, such as an entry that fits several images.
    """
    by_name: dict[str, list[str]] = defaultdict(list)
    for image in images:
        by_name[composed(PurePosixPath(image).name)].append(image)
    claims: dict[str, list[_Claim]] = defaultdict(list)
    unpaired, problems = [], []
    for label in labels:
        try:
            names = entries_of(root / label)
        except DataError as error:
            problems.append(str(error))
            continue
        for position, name in enumerate(names):
            agreement, fitting = _best(name, by_name)
            if len(fitting) == 1:
                claims[fitting[0]].append(_Claim(agreement, label, position, name))
            elif fitting:
                problems.append(
                    f"{label}: {name!r:.200} fits both {fitting[0]} and {fitting[1]}; write one's path there"
                )
            else:
                unpaired.append(f"{label}: there is no image {name!r:.200}; add the image or remove the entry")
    found = {image: _winner(image, claims[image], unpaired, problems) for image in images if image in claims}
    named = ", ".join(labels)
    unpaired += [
        f"image {image} has no entry in {named:.200}; add the entry or exclude the image"
        for image in images
        if image not in found
    ]
    return found, unpaired, problems


def find_rows(
    root: Path, images: Sequence[str], labels: Sequence[str], columns: Columns
) -> tuple[list[Record], list[str], list[str]]:
    """List the rows of tables as records, whose ids are the path of the table without suffix, and the row.

    Args:
        root: Folder of the dataset.
        images: Parquet files, relative to the root.
        labels: The same files.
        columns: Names of the columns.

    Returns:
        The records; rows without image or label map, one line per table; problems.
    """
    if images != labels:
        odd = min(set(images) ^ set(labels))
        return [], [], [f"{odd} is among images or labels, but not both; tables need the same patterns for the two"]
    records: list[Record] = []
    unpaired, problems = [], []
    for name in images:
        path = root / name
        try:
            # Images are too large to be read for this; a missing one is an error when its row is read.
            n_rows, no_image = rows_without(path, columns.image, read_bytes=False)
            _, no_label = rows_without(path, columns.label, read_bytes=True)
        except DataError as error:
            problems.append(str(error))
            continue
        for column, rows in ((columns.image, no_image), (columns.label, no_label)):
            if rows:
                unpaired.append(
                    f"{name}: {len(rows)} of {n_rows} rows, the first of them row {min(rows)}, are empty in column "
                    f"{column}; fill them, or set 'unpaired: ignore' to leave them out"
                )
        stem, digits = PurePosixPath(name).with_suffix("").as_posix(), len(str(max(n_rows - 1, 0)))
        # Leading zeros keep the rows, which are read in the order of their ids, in the order of the table.
        records += [
            Record(f"{stem}/{row:0{digits}}", path, path, row=row, columns=columns)
            for row in range(n_rows)
            if row not in no_image and row not in no_label
        ]
    return records, unpaired, problems


def _best(name: str, by_name: dict[str, list[str]]) -> tuple[int, list[str]]:
    """Return how many parts of its path the best image for a name shares with it, and all such images."""
    # Some tools write Windows paths.
    parts = PurePosixPath(composed(name).replace("\\", "/")).parts
    images = by_name.get(parts[-1], []) if parts else []
    agreements = [_agreement(parts, PurePosixPath(composed(image)).parts) for image in images]
    best = max(agreements, default=0)
    return best, [image for image, agreement in zip(images, agreements, strict=True) if agreement == best]


def _agreement(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    pairs = zip(reversed(first), reversed(second), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _winner(image: str, claims: list[_Claim], unpaired: list[str], problems: list[str]) -> tuple[str, int]:
    """Return the entry that agrees best with an image; adds the others to ``unpaired``, or a tie to ``problems``."""
    best, *others = sorted(claims, key=lambda claim: -claim.agreement)
    for other in others:
        if other.agreement == best.agreement:
            problems.append(
                f"{other.label}: entry {other.position} names the image {image}, as entry {best.position} of "
                f"{best.label} does; remove one of them"
            )
        else:
            unpaired.append(f"{other.label}: there is no image {other.name!r:.200}; add the image or remove the entry")
    return best.label, best.position
