"""The base of all encodings of label maps, and of those whose pixels are numbers."""

from abc import abstractmethod
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from seg_transfer.data.fields import IGNORE, Block, Integer, refuse_duplicates


class LabelEncoding(Block):
    """How the label maps of a dataset are read.

    A subclass fixes ``encoding`` to its own name, declares its fields, and has a field ``unlisted``, which says whether
    raw values that the manifest does not list are an error or ignored.
    """

    listed_in: ClassVar[str] = "labels.map"
    """The field of a manifest that lists raw values, for messages."""

    encoding: str

    @abstractmethod
    def read_raw(self, path: Path) -> npt.NDArray[np.integer]:
        """Read the raw values of a label map, (H, W); DataError where it cannot be read."""

    @abstractmethod
    def raw_classes(self, n_classes: int) -> dict[int, int]:
        """Every listed raw value -> its class index, or `IGNORE`."""

    @abstractmethod
    def check(self, n_classes: int) -> None:
        """Compare the fields with the number of classes; ValueError where a rule is broken."""

    def describe(self, raw: int) -> str:
        """A raw value in words, for messages."""
        return f"value {raw}"

    def companion(self, label: Path) -> Path | None:
        """A further file that is needed to read a label map; None for most encodings."""
        return None


class RawValues(LabelEncoding):
    """An encoding whose raw values are numbers.

    ``map`` maps raw values to class indices, many to one if necessary; without it raw values are class indices.
    """

    ignore: tuple[Integer, ...] = ()
    map: Annotated[dict[Integer, Integer], Field(min_length=1)] | None = None
    unlisted: Literal["error", "ignore"] = "error"

    @property
    def largest(self) -> int:
        """The largest raw value that the encoding can hold."""
        return 65535

    def raw_classes(self, n_classes: int) -> dict[int, int]:
        """Every listed raw value -> its class index, or `IGNORE`."""
        classes = {value: value for value in range(n_classes)} if self.map is None else self.map
        return classes | dict.fromkeys(self.ignore, IGNORE)

    def check(self, n_classes: int) -> None:
        """Compare map and ignored values with the number of classes; ValueError where a rule is broken."""
        mapped = range(n_classes) if self.map is None else self.map
        for field, values in (("labels.map", mapped), ("labels.ignore", self.ignore)):
            for value in values:
                if not 0 <= value <= self.largest:
                    raise ValueError(
                        f"{field} holds the raw value {value}; {self.encoding} has 0 to {self.largest}, correct it"
                    )
        for value, index in (self.map or {}).items():
            if not 0 <= index < n_classes:
                raise ValueError(
                    f"labels.map maps the raw value {value} to class index {index}; "
                    f"the {n_classes} classes have 0 to {n_classes - 1}, correct it"
                )
        refuse_duplicates("labels.ignore", self.ignore)
        both = set(mapped) & set(self.ignore)
        if both:
            raise ValueError(
                f"labels.ignore holds {min(both)}, which is a class too; remove it, or give a labels.map without it"
            )
