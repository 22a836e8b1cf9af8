"""The base classes of all encodings of label maps, and of encodings whose pixels are numbers."""

from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from seg_transfer.data.decoding import MAX_DECODED_PIXELS, any_size
from seg_transfer.data.fields import Block, Integer, ignore_index, refuse_duplicates
from seg_transfer.data.record import Record, Window
from seg_transfer.data.scenes import cut, kept_scene


class LabelEncoding(Block):
    """The way in which the label maps of a dataset are read.

    A subclass sets ``encoding`` to its own name and declares its fields. Its field ``unlisted`` says whether raw values
    that the manifest does not list are an error, count as the nearest listed one, or are ignored.
    """

    listed_in: ClassVar[str] = "labels.map"
    """The field of a manifest that lists raw values, for messages."""

    describes_many: ClassVar[bool] = False
    """Whether a label file describes many images, which it names."""

    bytes_per_pixel: ClassVar[int] = 4
    """What a label map takes while it is decoded, as a rule."""

    encoding: str

    @abstractmethod
    def read_raw(self, record: Record) -> npt.NDArray[np.integer]:
        """Read the raw values of a label map, (H, W); raises DataError if it cannot be read."""

    def read_tile(self, record: Record, window: Window, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        """Read the raw values of a part of a label map, (H, W); the whole map is kept for the next part.

        Args:
            record: The record.
            window: The part: (top, left, height, width).
            size: (height, width) of the whole image; raises DataError if the label map has another size.
        """
        scene_record = replace(record, image_id="", window=None)

        def read() -> npt.NDArray[np.integer]:
            with any_size(MAX_DECODED_PIXELS):
                return _narrowed(self.read_raw(scene_record))

        key = (self.model_dump_json(), scene_record)
        scene = kept_scene(key, record.label, read, self.bytes_per_pixel * size[0] * size[1])
        record.check_sizes(scene.shape, size)
        return cut(scene, window)

    @abstractmethod
    def raw_classes(self, n_classes: int) -> dict[int, int]:
        """Return the class index of every listed raw value, `ignore_index(n_classes)` for ignored ones."""

    @abstractmethod
    def check(self, n_classes: int) -> None:
        """Check the fields against the number of classes; raises ValueError if a rule is broken."""

    def describe(self, raw: int) -> str:
        """Describe a raw value for messages."""
        return f"value {raw}"

    def entries(self, label: Path) -> tuple[str, ...]:
        """Return the file names of the images that a label file describes, in its order; see `describes_many`."""
        return ()

    def nearest(self, values: npt.NDArray[np.int64], listed: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
        """Return the position of the nearest listed value, the smaller one of two.

        Args:
            values: Raw values, (N,).
            listed: Listed raw values, ascending, (K,).
        """
        above = np.searchsorted(listed, values).clip(1, max(len(listed) - 1, 1))
        below = above - 1
        above = above.clip(max=len(listed) - 1)
        is_above = abs(listed[above] - values) < abs(values - listed[below])
        return np.where(is_above, above, below)

    def companion(self, label: Path) -> Path | None:
        """Return another file that is needed to read a label map; None for most encodings."""
        return None


def _narrowed(raw: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """Return the values in the narrowest type, because a scene of 64-bit numbers would fill the memory."""
    kind = np.promote_types(np.min_scalar_type(int(raw.min())), np.min_scalar_type(int(raw.max())))
    return raw.astype(kind) if kind.itemsize < raw.dtype.itemsize else raw


class RawValues(LabelEncoding):
    """An encoding whose raw values are numbers.

    ``map`` maps raw values to class indices, possibly many to one; without it, raw values are class indices.
    """

    ignore: tuple[Integer, ...] = ()
    map: Annotated[dict[Integer, Integer], Field(min_length=1)] | None = None
    unlisted: Literal["error", "nearest", "ignore"] = "error"

    @property
    def largest(self) -> int:
        """The largest raw value that the encoding can hold."""
        return 65535

    @property
    def lowest(self) -> int:
        """The lowest raw value that can be ignored."""
        return 0

    def raw_classes(self, n_classes: int) -> dict[int, int]:
        """Return the class index of every listed raw value, `ignore_index(n_classes)` for ignored ones."""
        classes = {value: value for value in range(n_classes)} if self.map is None else self.map
        return classes | dict.fromkeys(self.ignore, ignore_index(n_classes))

    def check(self, n_classes: int) -> None:
        """Check map and ignored values against the number of classes; raises ValueError if a rule is broken."""
        mapped = range(n_classes) if self.map is None else self.map
        for field, values in (("labels.map", mapped), ("labels.ignore", self.ignore)):
            for value in values:
                # A negative number, as -1, is never a class, but common for "ignore".
                lowest = self.lowest if field == "labels.ignore" else 0
                if not lowest <= value <= self.largest:
                    raise ValueError(
                        f"{field} holds the raw value {value}; {self.encoding} allows {lowest} to {self.largest}, "
                        "correct it"
                    )
        for value, index in (self.map or {}).items():
            if not 0 <= index < n_classes:
                raise ValueError(
                    f"labels.map maps the raw value {value} to class index {index}, but "
                    f"the {n_classes} classes have indices 0 to {n_classes - 1}; correct it"
                )
        refuse_duplicates("labels.ignore", self.ignore)
        both = set(mapped) & set(self.ignore)
        if both:
            raise ValueError(
                f"labels.ignore holds {min(both)}, which is also a class; remove it, or add a labels.map without it"
            )
