"""How the label maps of a dataset are read: which raw value, or colour, is which class."""

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, Strict, model_serializer

IGNORE = 255
"""The class index of a pixel that is never sampled and never evaluated."""

Integer = Annotated[int, Strict()]
Positive = Annotated[Integer, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
Channel = Annotated[Integer, Field(ge=0, le=255)]
Colour = tuple[Channel, Channel, Channel]


def refuse_duplicates(field: str, values: Iterable[Hashable]) -> None:
    """ValueError that names the first value which stands twice in a field."""
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f"{field} holds {twice[0]!r} more than once; every entry must be different, remove one")


class Block(BaseModel):
    """A frozen part of a manifest that knows all its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    # Fields that manifests did not always have: one without them is dumped, and keyed, as it was before.
    later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if value or name not in self.later}


class RawValues(Block):
    """What every number of a label map means.

    ``map`` takes a raw value to a class index, many to one if need be; without it the raw value is the class index.
    """

    encoding: str
    ignore: tuple[Integer, ...] = ()
    map: Annotated[dict[Integer, Integer], Field(min_length=1)] | None = None
    unlisted: Literal["error", "ignore"] = "error"

    def raw_classes(self, n_classes: int) -> dict[int, int]:
        """Class index, or 255 to ignore, of every raw value that the manifest lists."""
        classes = {value: value for value in range(n_classes)} if self.map is None else self.map
        return classes | dict.fromkeys(self.ignore, IGNORE)

    def check(self, n_classes: int) -> None:
        """Hold the map and the ignored values against the number of classes; ValueError names what breaks a rule."""
        last = 255 if self.encoding in ("id", "palette") else 65535
        mapped = range(n_classes) if self.map is None else self.map
        for field, values in (("labels.map", mapped), ("labels.ignore", self.ignore)):
            for value in values:
                if not 0 <= value <= last:
                    raise ValueError(
                        f"{field} holds the raw value {value}; {self.encoding} has 0 to {last}, correct it"
                    )
        for value, index in (self.map or {}).items():
            if not 0 <= index < n_classes:
                raise ValueError(
                    f"labels.map takes the raw value {value} to class index {index}; "
                    f"the {n_classes} classes have 0 to {n_classes - 1}, correct it"
                )
        refuse_duplicates("labels.ignore", self.ignore)
        both = set(mapped) & set(self.ignore)
        if both:
            raise ValueError(
                f"labels.ignore holds {min(both)}, which is a class too; take it out, or give a labels.map without it"
            )


class ValueLabels(RawValues):
    """Images of one number per pixel: 8-bit grey (``id``), palette index (``palette``), 16-bit grey (``id16``)."""

    encoding: Literal["id", "palette", "id16"]


class MatLabels(RawValues):
    """MATLAB files whose variable ``variable`` is a matrix of one number per pixel."""

    encoding: Literal["mat"]
    variable: Text


class PanopticLabels(RawValues):
    """PNGs in the panoptic format of COCO: the colour of a pixel is the id of a segment, R + 256 G + 65536 B.

    The JSON that gives each segment its category lies beside the folder of the PNGs and bears its name. The category
    is the raw value; that of a pixel without a segment (black) is 0.
    """

    encoding: Literal["panoptic"]


class ColourLabels(Block):
    """Label maps of one RGB colour per pixel; ``colours`` has one [R, G, B] per class, in class order.

    ``crop`` has the (height, width) of label maps that are larger than their image, by file name without suffix: what
    lies below and to the right is cut off.
    """

    later: ClassVar[frozenset[str]] = frozenset({"crop"})

    encoding: Literal["rgb"]
    colours: tuple[Colour, ...]
    ignore: tuple[Colour, ...] = ()
    unlisted: Literal["error", "ignore"] = "error"
    crop: dict[Text, tuple[Positive, Positive]] = Field(default_factory=dict)

    def raw_classes(self, n_classes: int) -> dict[int, int]:
        """Class index, or 255 to ignore, of every listed colour, packed as R + 256 G + 65536 B."""
        indices = (*range(n_classes), *(IGNORE for _ in self.ignore))
        return {r + 256 * g + 65536 * b: i for (r, g, b), i in zip(self.colours + self.ignore, indices, strict=True)}

    def check(self, n_classes: int) -> None:
        """Hold the colours against the number of classes; ValueError names what breaks a rule."""
        if len(self.colours) != n_classes:
            raise ValueError(
                f"labels.colours holds {len(self.colours)} colours; give one for each of {n_classes} classes"
            )
        refuse_duplicates("labels.colours with labels.ignore", self.colours + self.ignore)


# A further encoding is one more class here and one more reader in images.py.
Labels = Annotated[ValueLabels | ColourLabels | MatLabels | PanopticLabels, Field(discriminator="encoding")]
