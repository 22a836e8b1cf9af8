"""What a user gives, what must come out, and the one door to the code under test."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data.corpus.files import gray8, write_image
from data.corpus.scenes import Array, Scenes, raw_of, scenes

from seg_transfer.data.inspection import Inspection, inspect_folders
from seg_transfer.data.inspection.answers import parse_answers

Kind = Callable[[Path], Any]


@dataclass(frozen=True)
class Given:
    """What a user gives: folders or files, and answers as the command line has them."""

    images: Path
    labels: Path
    names: Path | None = None
    answers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Truth:
    """What must be read.

    Attributes:
        classes: Names, in the order of class indices.
        values: Stored value of every class, a number or a color; None where a class has no such value.
        scenes: Image id below the folder of the case -> its image and class indices.
        notes: Expressions that are each found in exactly one note.
        unlabeled: Number of images that are left out because they have no label map.
    """

    classes: tuple[str, ...]
    values: tuple[Any, ...] | None
    scenes: Scenes
    notes: tuple[str, ...] = ()
    unlabeled: int = 0


@dataclass(frozen=True)
class Certain:
    """A kind of folder that is understood."""

    given: Given
    truth: Truth


@dataclass(frozen=True)
class Doubtful:
    """A kind of folder that is not read without an answer.

    Attributes:
        given: What the user gives at first.
        doubt: Kind of the doubt.
        seen: Expressions in its line.
        readings: Option and value -> what it gives, or an expression for the message that refuses it.
    """

    given: Given
    doubt: str
    seen: tuple[str, ...]
    readings: Mapping[str, Truth | str]


@dataclass(frozen=True)
class Wrong:
    """A kind of folder that cannot be read: an expression for its whole line, and the exit code."""

    given: Given
    line: str
    code: int = 4


def inspected(given: Given) -> Inspection:
    """Look at what is given."""
    answers = parse_answers(given.answers)
    return inspect_folders(given.images, given.labels, given.names, answers, everything=True)


def answered(given: Given, option: str) -> Given:
    """The same folders with one more answer, such as "--exif apply"."""
    name, value = option.removeprefix("--").split(" ")
    return replace(given, answers={**given.answers, name.replace("-", "_"): value})


def kinds_in(module: Any) -> dict[str, Kind]:
    """The kinds of a module: its own functions without an underscore that take the folder ``here`` alone."""
    functions = inspect.getmembers(module, inspect.isfunction)
    return {
        name: function
        for name, function in functions
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and list(inspect.signature(function).parameters) == ["here"]
    }


def certain(
    here: Path,
    *,
    wanted: Scenes | None = None,
    values: tuple[int, ...] = (0, 1, 2),
    ignored: int = 255,
    classes: tuple[str, ...] | None = None,
    mask: Callable[[Path, Array], object] = gray8,
    image: Callable[[Path, Array], object] = write_image,
    image_path: str = "images/{}.png",
    label_path: str = "labels/{}.png",
    folders: tuple[str, str] = ("images", "labels"),
    notes: tuple[str, ...] = (),
    answers: Mapping[str, str] | None = None,
    names: str | bytes | None = None,
) -> Certain:
    """Write scenes as images and label maps; by default as gray PNG files of the same names in two folders."""
    wanted = scenes() if wanted is None else wanted
    for name, each in wanted.items():
        image(here / image_path.format(name), each.image)
        mask(here / label_path.format(name), raw_of(each.label, values, ignored))
    ids = {Path(image_path.format(name)).with_suffix("").as_posix(): each for name, each in wanted.items()}
    file = None if names is None else write_names(here, names)
    given = Given(here / folders[0], here / folders[1], file, dict(answers or {}))
    classes = tuple(f"class_{value}" for value in values) if classes is None else classes
    return Certain(given, Truth(classes, values, ids, notes))


def write_names(here: Path, names: str | bytes) -> Path:
    """Write a names file."""
    file = here / "names.txt"
    file.write_bytes(names if isinstance(names, bytes) else names.encode())
    return file
