"""Field types of manifests, and the base class of their blocks."""

import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Any, ClassVar

import regex
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    Strict,
    model_serializer,
)

IGNORE = 255
"""Class index of a pixel that is never sampled and never evaluated, in a dataset of up to 255 classes."""
WIDE_IGNORE = 65535
"""The same in a dataset of more classes, in which 255 is a class. Both are the largest number of their integer type."""
_MAX_EXPRESSION_LENGTH = 1000
# Each additional '**' multiplies the number of folders to search.
_MAX_RECURSIONS = 3

Integer = Annotated[int, Strict()]
Positive = Annotated[Integer, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]


def ignore_index(n_classes: int) -> int:
    """Return the class index of ignored pixels in a dataset of ``n_classes`` classes.

    Example:
        >>> ignore_index(255), ignore_index(256)
        (255, 65535)
    """
    return IGNORE if n_classes <= IGNORE else WIDE_IGNORE


def refuse_duplicates(field: str, values: Iterable[Hashable]) -> None:
    """Raise ValueError naming the first value that occurs twice in a field."""
    duplicates = [value for value, count in Counter(values).items() if count > 1]
    if duplicates:
        raise ValueError(f"{field} holds {duplicates[0]!r} more than once; entries must be unique, remove one")


class Block(BaseModel):
    """A frozen block of a manifest, which accepts no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    # Fields that are omitted from dumps, and hence from content keys, while they have their default.
    optional: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if not self._is_omitted(name)}

    def _is_omitted(self, name: str) -> bool:
        default = type(self).model_fields[name].get_default(call_default_factory=True)
        return name in self.optional and getattr(self, name) == default


def stays_inside(path: str) -> bool:
    """Whether a path is relative, written with '/', and free of '..'.

    Example:
        >>> stays_inside("train/images/*.jpg"), stays_inside("../other"), stays_inside("/etc/hosts")
        (True, False, False)
    """
    windows = PureWindowsPath(path)
    return not (windows.drive or windows.root or "\\" in path or "\0" in path or ".." in PurePosixPath(path).parts)


def composed(text: str) -> str:
    """Compose letters and accents, which some systems store apart, so that equal names are equal."""
    return unicodedata.normalize("NFC", text)


def _inside_root(path: str) -> str:
    if not stays_inside(path):
        raise ValueError("a path must be relative, with '/' between folders, and stay inside its root (no '..')")
    return path


def _is_glob(pattern: str) -> str:
    parts = PurePosixPath(pattern).parts
    if not parts or any("**" in part and part != "**" for part in parts):
        raise ValueError("a pattern needs a file name, and '**' must stand alone between two '/'")
    if parts.count("**") > _MAX_RECURSIONS:
        raise ValueError(
            f"'**' occurs {parts.count('**')} times, but at most {_MAX_RECURSIONS} may; a single one matches any depth"
        )
    return pattern


def _is_expression(expression: str) -> str:
    if len(expression) > _MAX_EXPRESSION_LENGTH:
        raise ValueError(
            f"has {len(expression)} characters, but at most {_MAX_EXPRESSION_LENGTH} may be used; shorten it"
        )
    try:
        groups = regex.compile(expression).groups
    except (regex.error, RecursionError) as error:
        raise ValueError(f"not a regular expression ({error}); correct it") from error
    if groups == 0:
        raise ValueError(
            "the expression needs a group, which matches image and label; put the common part in parentheses"
        )
    return expression


def _is_one_line(text: str) -> str:
    if len(text.splitlines()) != 1:
        raise ValueError("must be one line; join the lines (in YAML: '>-' before the text)")
    return text


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
InsidePath = Annotated[str, AfterValidator(_inside_root)]
Globs = Annotated[tuple[Annotated[InsidePath, AfterValidator(_is_glob)], ...], BeforeValidator(_one_or_many)]
Files = Annotated[tuple[InsidePath, ...], BeforeValidator(_one_or_many)]
Line = Annotated[str, AfterValidator(_is_one_line)]
Expression = Annotated[str, AfterValidator(_is_expression)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Deviation = Annotated[Number, Field(gt=0, le=1)]
