"""Doubts, and the other parts of a conclusion: plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

DoubtKind = Literal[
    "exif", "lossy", "rare", "ignored", "levels", "palettes", "mixed", "negative", "first_id", "unseen", "range",
    "bands", "columns", "unpaired", "constant", "instances", "picture",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something in the files that people would read differently.

    Attributes:
        kind: A stable name.
        seen: What is seen, with file and value.
        readings: (option, what it means) of every reading.
    """

    kind: DoubtKind
    seen: str
    readings: tuple[tuple[str, str], ...]

    @property
    def line(self) -> str:
        """One line: what is seen, and the option for each reading."""
        return f"{self.seen}; state {' or '.join(f'{option} ({meaning})' for option, meaning in self.readings)}"


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class: its name, its raw values, and how often it occurs in the looked-at masks."""

    name: str
    values: tuple[int, ...]
    pixels: int
    images: int


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How images and masks are to be read.

    Attributes:
        labels: The block ``labels`` of a manifest; None if the doubts leave no reading.
        classes: Class names, in the order of class indices.
        images: The block ``images`` of a manifest; empty if images are read as usual.
        notes: What was decided although files differ from the plain case, one line each.
        doubts: Doubts that no answer settles.
        table: Classes with counts.
        ignored: Ignored raw value -> pixels.
        n_unlisted: Number of pixels that are ignored because their value is not listed.
        n_pixels: Number of looked-at pixels.
    """

    labels: Mapping[str, Any] | None
    classes: tuple[str, ...]
    images: Mapping[str, Any]
    notes: tuple[str, ...]
    doubts: tuple[Doubt, ...]
    table: tuple[ClassRow, ...]
    ignored: Mapping[int, int] = field(default_factory=dict)
    n_unlisted: int = 0
    n_pixels: int = 0

    @property
    def ignored_share(self) -> float:
        """Share of ignored pixels among all looked-at pixels."""
        return (sum(self.ignored.values()) + self.n_unlisted) / max(self.n_pixels, 1)
