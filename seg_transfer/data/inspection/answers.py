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
    unpaired: Literal["ignore"] | None = None
    max_pixels: int | None = None


def parse_answers(texts: Mapping[str, str | None]) -> Answers:
    """Read the values of command-line options.

    Args:
        texts: Field of `Answers` -> the text of its option, or None.

    Raises:
        ConfigError: A field is unknown, or a text is none of the values of its option.

    Example:
        >>> parse_answers({"ignore": "0,255", "range": "0,4095"})  # doctest: +ELLIPSIS
        Answers(labels_are=None, ignore=(0, 255), ..., range=(0.0, 4095.0), unpaired=None, max_pixels=None)
    """
    unknown = sorted(set(texts) - set(_PARSERS))
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is no answer; those are {', '.join(_PARSERS)}")
    return Answers(**{field: _parsed(field, text) for field, text in texts.items() if text is not None})


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
    "unpaired": (_one_of("ignore"), "ignore"),
    "max_pixels": (_positive, "a number of pixels, at least 1"),
}
