"""Folders that are certain: files that are no images, links, and names files as editors write them."""

import os
from pathlib import Path

from data.corpus.cases import Certain, Given, Truth, certain
from data.corpus.scenes import scenes, with_border


def _with(made: Certain, here: Path, **files: bytes) -> Certain:
    for path, content in files.items():
        file = here / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return made


def files_of_operating_systems(here: Path) -> Certain:
    return _with(
        certain(here),
        here,
        **{
            "images/Thumbs.db": b"\xd0\xcf",
            "images/.DS_Store": b"\0\0\0\1Bud1",
            "images/._a.png": b"\0\5\x16\7",
            "labels/._b.png": b"\0\5\x16\7",
            "labels/desktop.ini": b"[.ShellClassInfo]",
            "labels/__MACOSX/a.png": b"no image",
        },
    )


def notebook_checkpoints(here: Path) -> Certain:
    """Notebooks keep copies of opened images."""
    made = certain(here)
    copy = (here / "labels" / "a.png").read_bytes()
    return _with(made, here, **{"labels/.ipynb_checkpoints/a-checkpoint.png": copy})


def text_files_beside_images_and_masks(here: Path) -> Certain:
    return _with(
        certain(here),
        here,
        **{
            "labels/classes.txt": b"road\nsky\ncar\n",
            "images/a.json": b"{}",
            "images/README.md": b"# Images",
            "labels/index.csv": b"a,b\n",
        },
    )


def linked_files(here: Path) -> Certain:
    """The files lie elsewhere, as tools for versions of data keep them."""
    return _moved_and_linked(here, single=True)


def linked_folders(here: Path) -> Certain:
    return _moved_and_linked(here, single=False)


def _moved_and_linked(here: Path, single: bool) -> Certain:
    inside, cache = here / "inside", here / "cache"
    made = certain(inside)
    for folder in ("images", "labels"):
        (cache / folder).parent.mkdir(exist_ok=True)
        (inside / folder).rename(cache / folder)
        if not single:
            (inside / folder).mkdir()
            (inside / folder / "part").symlink_to(cache / folder)
            continue
        (inside / folder).mkdir()
        for number, file in enumerate(sorted((cache / folder).iterdir())):
            stored = file.rename(file.with_name(f"{number:032x}"))
            (inside / folder / file.name).symlink_to(stored)
    at = "{}/{}" if single else "{}/part/{}"
    read = {f"inside/{at.format(*path.split('/'))}": each for path, each in made.truth.scenes.items()}
    return Certain(made.given, Truth(made.truth.classes, made.truth.values, read))


def a_folder_that_links_to_its_parent(here: Path) -> Certain:
    made = certain(here)
    (here / "images" / "again").symlink_to(here / "images")
    (here / "labels" / "up").symlink_to(here / "labels")
    return made


def a_broken_link(here: Path) -> Certain:
    made = certain(here)
    (here / "images" / "gone.png").symlink_to(here / "nowhere.png")
    return made


def given_folders_are_links(here: Path) -> Certain:
    made = certain(here / "data")
    (here / "my_images").symlink_to(here / "data" / "images")
    (here / "my_labels").symlink_to(here / "data" / "labels")
    truth = made.truth
    read = {f"data/{path}": each for path, each in truth.scenes.items()}
    return Certain(Given(here / "my_images", here / "my_labels"), Truth(truth.classes, truth.values, read))


def relative_paths(here: Path) -> Certain:
    made = certain(here)
    return Certain(Given(*(Path(os.path.relpath(here / folder)) for folder in ("images", "labels"))), made.truth)


NAMED = ("road", "car", "sky")


def names_by_line(here: Path) -> Certain:
    return certain(here, names="road\ncar\nsky\n", classes=NAMED)


def names_by_line_without_last_newline(here: Path) -> Certain:
    return certain(here, names="road\ncar\nsky", classes=NAMED)


def names_with_byte_order_mark(here: Path) -> Certain:
    return certain(here, names=b"\xef\xbb\xbfroad\ncar\nsky\n", classes=NAMED)


def names_with_windows_newlines(here: Path) -> Certain:
    return certain(here, names="road\r\ncar\r\nsky\r\n", classes=NAMED)


def names_with_trailing_blanks(here: Path) -> Certain:
    return certain(here, names="road \ncar\t\n sky\n\n\n", classes=NAMED)


def names_in_decomposed_letters(here: Path) -> Certain:
    return certain(here, names="stra\u00dfe\nba\u0308ume\nhimmel\n", classes=("stra\u00dfe", "b\u00e4ume", "himmel"))


def names_by_number(here: Path) -> Certain:
    return certain(here, values=(7, 21, 33), names="7 road\n21 car\n33 sky\n", classes=NAMED)


def names_by_number_with_colons(here: Path) -> Certain:
    return certain(here, values=(7, 21, 33), names="7: road\n21: car\n33: sky\n", classes=NAMED)


def an_empty_line_is_ignored(here: Path) -> Certain:
    return certain(
        here, wanted=with_border(scenes()), values=(0, 2, 3), ignored=1, names="road\n\ncar\nsky\n", classes=NAMED
    )


def a_table_about_the_images_beside_them(here: Path) -> Certain:
    """Dataset hubs put such a table there; it need not even be readable."""
    made = certain(here)
    (here / "images" / "metadata.parquet").write_bytes(b"PAR1")
    return made
