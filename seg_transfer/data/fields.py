"""Types of the fields of manifests, and the base of their blocks."""

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, Strict, model_serializer

IGNORE = 255
"""Class index of a pixel that is never sampled and never evaluated."""

Integer = Annotated[int, Strict()]
Positive = Annotated[Integer, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]


def refuse_duplicates(field: str, values: Iterable[Hashable]) -> None:
    """Raise ValueError naming the first value that occurs twice in a field."""
    duplicates = [value for value, count in Counter(values).items() if count > 1]
    if duplicates:
        raise ValueError(f"{field} holds {duplicates[0]!r} more than once; every entry must be different, remove one")


class Block(BaseModel):
    """A frozen block of a manifest, which accepts no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    # Fields that are left out of dumps, and hence of content keys, while they are empty.
    optional: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_empty_fields(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if value or name not in self.optional}
