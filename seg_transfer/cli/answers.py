"""The options that say how a folder of images and masks is to be read: one per field of `Answers`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from inspect import Parameter
from typing import Annotated, Any, get_type_hints

import typer

# Field of `Answers` -> the help of its option.
_HELP = {
    "labels_are": "What label maps hold: gray (numbers), palette (palette indices) or colors.",
    "ignore": "Values that are not labeled, such as 255 or 0,255; none; a color as R:G:B.",
    "unlisted": "What rare or blurred values of label maps are: class, nearest (the nearest common value) or ignore.",
    "first_id": "The value that the first line of --names names: 0 or 1.",
    "exif": "Whether an orientation stored in image files is applied (apply or ignore); label maps have none.",
    "bands": "The bands that are red, green and blue, such as 3,2,1.",
    "range": "The image values that become black and white, such as 0,4095.",
    "columns": "The columns of Parquet files that hold images and label maps, such as image,mask.",
    "unpaired": "ignore: leave out label maps without an image.",
    "max_pixels": "Read images with more pixels as tiles.",
}


def with_answers(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option per field of `Answers`, in the place of its parameter ``answers``."""
    kinds = get_type_hints(command, localns={"Answers": Any}, include_extras=True)
    parameters: list[Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        parameters += map(_option, _HELP) if name == "answers" else [parameter.replace(annotation=kinds[name])]

    @wraps(command)
    def answered(**values: Any) -> None:
        from seg_transfer.data.inspection import parse_answers

        given = {name: values.pop(name, None) for name in _HELP}
        command(**values, answers=parse_answers(given))

    answered.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    answered.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return answered


def _option(name: str) -> Parameter:
    kind = Annotated[str | None, typer.Option(help=_HELP[name], rich_help_panel="How to read the folders")]
    return Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=kind)
