"""Labeled images that neither scores nor training see, so that networks can be judged by them."""

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from seg_transfer.data.record import Record
from seg_transfer.errors import DataError

MIN_IMAGES = 30
"""With fewer images, a part of them would judge too coarsely: each half then judges what the other one trained."""


@dataclass(frozen=True)
class Fold:
    """A division of the labeled images of a target.

    Attributes:
        train: The records that networks are fine-tuned on.
        held_out: The records that they are judged by.
    """

    train: tuple[Record, ...]
    held_out: tuple[Record, ...]


def folds_of(records: Sequence[Record], share: float, seed: int) -> tuple[Fold, ...]:
    """Divide labeled images into those to train on and those to judge by.

    Tiles of one image are never separated. Which images are held out depends on their ids and the seed alone.

    Args:
        records: All records, in any order.
        share: Share of the images that is held out, in (0, 1).
        seed: Seed of the choice.

    Returns:
        One fold, or two with fewer than `MIN_IMAGES` images: the halves, each held out once. Records are in the order
        in which they were given.

    Raises:
        DataError: There are fewer than two images.
    """
    members: dict[Hashable, list[str]] = {}
    for record in records:
        members.setdefault(image_of(record), []).append(record.image_id)
    if len(members) < 2:
        raise DataError(f"{len(members)} labeled image: one to train on and one to judge by are needed; add images")
    ordered = sorted(members, key=lambda image: _place(min(members[image]), seed))
    if len(members) < MIN_IMAGES:
        half = set(ordered[: len(members) // 2])
        return _fold(records, half), _fold(records, set(ordered) - half)
    number = min(max(1, round(share * len(members))), len(members) - 1)
    return (_fold(records, set(ordered[:number])),)


def image_of(record: Record) -> Hashable:
    """Return what the tiles of one image have in common."""
    return record.image, record.row


def _fold(records: Sequence[Record], held_out: set[Hashable]) -> Fold:
    return Fold(
        tuple(record for record in records if image_of(record) not in held_out),
        tuple(record for record in records if image_of(record) in held_out),
    )


def _place(image_id: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0held out\0{image_id}".encode("utf-8", "surrogateescape")).digest()
