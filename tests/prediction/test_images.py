"""Which images are predicted, and the names of what is written."""

from pathlib import Path

import pytest

from seg_transfer.errors import DataError
from seg_transfer.prediction.images import plan_tasks


def files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names_of(*images: Path, out: Path, overlay: bool = True) -> dict[str, list[str]]:
    return {
        task.image.name: [file.relative_to(out).as_posix() for file in task.outputs]
        for task in plan_tasks(images, out, overlay=overlay)
    }


def test_subfolders_are_mirrored(tmp_path: Path) -> None:
    folder = files(tmp_path / "in", "a.jpg", "deep/er/b.c.TIF", "deep/a.png", ".hidden.png", "notes.txt")
    assert names_of(folder, out=tmp_path / "out") == {
        "a.jpg": ["a.png", "a_overlay.png"],
        "a.png": ["deep/a.png", "deep/a_overlay.png"],
        "b.c.TIF": ["deep/er/b.c.png", "deep/er/b.c_overlay.png"],
    }
    assert names_of(folder, out=tmp_path / "out", overlay=False)["a.jpg"] == ["a.png"]


def test_files_keep_their_names_alone(tmp_path: Path) -> None:
    folder = files(tmp_path, "x/a.jpg", "y/b.jpg")
    assert names_of(folder / "x" / "a.jpg", folder / "y", out=tmp_path / "out", overlay=False) == {
        "a.jpg": ["a.png"],
        "b.jpg": ["b.png"],
    }


def test_what_was_written_into_a_folder_of_images_is_no_image(tmp_path: Path) -> None:
    folder = files(tmp_path, "a.jpg", "predicted/a.png", "predicted/a_overlay.png")
    assert names_of(folder, out=folder / "predicted") == {"a.jpg": ["a.png", "a_overlay.png"]}


@pytest.mark.parametrize(
    ("names", "images", "out", "said"),
    [
        (["i/a.jpg", "i/a.png"], ["i"], "o", "i/a.jpg and {}/i/a.png would both be written to {}/o/a.png; rename one"),
        (["i/a.jpg", "i/a_overlay.jpg"], ["i"], "o", "would both be written to {}/o/a_overlay.png; rename one"),
        (["i/a.jpg", "j/a.jpg"], ["i", "j"], "o", "j/a.jpg would both be written to {}/o/a.png"),
        (["i/a.jpg"], ["i", "i/a.jpg"], "o", "{}/i/a.jpg: is named twice by --images; name it once"),
        (["i/a.jpg"], ["i"], "i", "--out {}/i: is the folder of the images; choose another"),
        (["i/a.png"], ["i/a.png"], "i", "{}/i/a.png: is an image, which would be replaced; choose another"),
        (["i/n.txt"], ["i"], "o", "--images {}/i: has no image (.jpg, .png, .tif, ...); correct the path"),
        ([], ["i"], "o", "--images {}/i: does not exist; correct the path"),
        (["i/a.jpg", "o"], ["i"], "o", "--out {}/o: is a file; name a folder"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is(
    tmp_path: Path, names: list[str], images: list[str], out: str, said: str
) -> None:
    files(tmp_path, *names)
    with pytest.raises(DataError) as error:
        plan_tasks([tmp_path / name for name in images], tmp_path / out, overlay=True)
    assert said.format(*[tmp_path] * 3) in str(error.value)
    assert "\n" not in str(error.value)
