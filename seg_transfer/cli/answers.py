"""The options that say how a folder of images and masks is to be read: one per field of `Answers`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from inspect import Parameter
from typing import Annotated, Any, get_type_hints

import typer

# Field of `Answers` -> what its option takes, and its help.
_OPTIONS = {
    "labels_are": ("gray|palette|colors", "What label maps hold: numbers, palette indices or colors."),
    "ignore": ("VALUES|none", "Values that are not labeled, such as 255 or 0,255; a color as R:G:B."),
    "unlisted": (
        "class|nearest|ignore",
        "Rare or blurred values of label maps are classes, count as the nearest class, or are ignored.",
    ),
    "first_id": ("0|1", "The value that the first line of --names names."),
    "exif": ("apply|ignore", "Whether the orientation stored in image files is applied; label maps have none."),
    "bands": ("R,G,B", "The bands that are red, green and blue, counted from 1, such as 3,2,1."),
    "range": ("LOW,HIGH", "The image values that become black and white, such as 0,4095."),
    "columns": ("IMAGE,LABEL", "The columns of Parquet files that hold images and label maps."),
    "unpaired": ("ignore", "Leave out label maps without an image."),
    "max_pixels": ("NUMBER", "Read images with more pixels as tiles."),
}


def with_answers(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option per field of `Answers`, in the place of its parameter ``answers``."""
    kinds = get_type_hints(command, localns={"Answers": Any}, include_extras=True)
    parameters: list[Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        parameters += map(_option, _OPTIONS) if name == "answers" else [parameter.replace(annotation=kinds[name])]

    @wraps(command)
    def answered(**values: Any) -> None:
        from seg_transfer.data.inspection import parse_answers

        given = {name: values.pop(name, None) for name in _OPTIONS}
        command(**values, answers=parse_answers(given))

    answered.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    answered.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return answered


def _option(name: str) -> Parameter:
    takes, text = _OPTIONS[name]
    kind = Annotated[str | None, typer.Option(metavar=takes, help=text, rich_help_panel="How to read the folders")]
    return Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=kind)
