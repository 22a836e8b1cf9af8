"""What a person states about a folder of images and masks, where their files leave a doubt."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from seg_transfer.errors import ConfigError

Color = tuple[int, int, int]
LabelsAre = Literal["gray", "palette", "colors"]
Unlisted = Literal["class", "nearest", "ignore"]
Exif = Literal["apply", "ignore"]


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers to doubts; None leaves the decision to the files.

    Attributes:
        labels_are: What the pixels of masks are.
        ignore: Values, or colors, that are ignored; empty if none is.
        unlisted: What values are that look like traces of compression or smoothing.
        first_id: The value that the first line of the names file names.
        exif: Whether the orientation in an image's EXIF data is applied.
        bands: Bands of red, green and blue, from 1.
        range: The values that become black and white.
        columns: Columns of images and of masks in Parquet files.
        unpaired: "ignore" leaves out masks without an image.
        max_pixels: Larger images are read as tiles.
    """

    labels_are: LabelsAre | None = None
    ignore: tuple[int | Color, ...] | None = None
    unlisted: Unlisted | None = None
    first_id: Literal[0, 1] | None = None
    exif: Exif | None = None
    bands: tuple[int, int, int] | None = None
    range: tuple[float, float] | None = None
    columns: tuple[str, str] | None = None
    unpaired: Literal["ignore"] | None = None
    max_pixels: int | None = None


def parse_answers(stated: Mapping[str, object]) -> Answers:
    """Read stated answers.

    Args:
        stated: Field of `Answers` -> its value, as the text of its option or as Python has it; None states nothing.

    Returns:
        The answers; a field that is not stated is None.

    Raises:
        ConfigError: A field is unknown, or a text is none of the values of its option.

    Example:
        >>> answers = parse_answers({"ignore": "0,255", "range": [0, 4095], "exif": None})
        >>> answers.ignore, answers.range, answers.exif
        ((0, 255), (0.0, 4095.0), None)
    """
    unknown = sorted(set(stated) - set(_PARSERS))
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is unknown; choose among {', '.join(_PARSERS)}")
    return Answers(**{field: _parsed(field, _text_of(value)) for field, value in stated.items() if value is not None})


def _text_of(value: object) -> str:
    """Write a value as its option has it: ``(0, (255, 0, 0))`` as ``0,255:0:0``."""
    if not isinstance(value, list | tuple):
        return str(value)
    parts = [":".join(map(str, part)) if isinstance(part, list | tuple) else str(part) for part in value]
    return ",".join(parts) or "none"


def _parsed(field: str, text: str) -> Any:
    parse, rule = _PARSERS[field]
    try:
        return parse(text.strip())
    except ValueError as error:
        raise ConfigError(f"--{field.replace('_', '-')} {text}: must be {rule}; correct it") from error


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return parse


def _ignored(text: str) -> tuple[int | Color, ...]:
    return () if text == "none" else tuple(_color(part) if ":" in part else int(part) for part in text.split(","))


def _color(text: str) -> Color:
    red, green, blue = (int(part) for part in text.split(":"))
    if not all(0 <= channel <= 255 for channel in (red, green, blue)):
        raise ValueError(text)
    return red, green, blue


def _first_id(text: str) -> int:
    return int(_one_of("0", "1")(text))


def _bands(text: str) -> tuple[int, int, int]:
    red, green, blue = (_positive(part) for part in text.split(","))
    return red, green, blue


def _range(text: str) -> tuple[float, float]:
    black, white = (float(part) for part in text.split(","))
    if not float("-inf") < black < white < float("inf"):
        raise ValueError(text)
    return black, white


def _columns(text: str) -> tuple[str, str]:
    image, label = text.split(",")
    return image, label


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


_PARSERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "labels_are": (_one_of(*get_args(LabelsAre)), "gray, palette or colors"),
    "ignore": (_ignored, "values such as 0,255, colors such as 0:0:0, or none"),
    "unlisted": (_one_of(*get_args(Unlisted)), "class, nearest or ignore"),
    "first_id": (_first_id, "0 or 1"),
    "exif": (_one_of(*get_args(Exif)), "apply or ignore"),
    "bands": (_bands, "three band numbers from 1, such as 3,2,1"),
    "range": (_range, "the values for black and white, such as 0,4095"),
    "columns": (_columns, "the names of two columns, such as image,mask"),
    "unpaired": (_one_of("ignore"), "ignore"),
    "max_pixels": (_positive, "a number of pixels, at least 1"),
}
