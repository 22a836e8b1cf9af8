import os
from pathlib import Path

import pytest

from seg_transfer.data.inspection import listing
from seg_transfer.data.inspection.listing import IMAGE_SUFFIXES, LABEL_SUFFIXES, list_files
from seg_transfer.errors import DataError


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_suffixes_decide_and_everything_else_has_a_reason(tmp_path: Path) -> None:
    touch(tmp_path, "b.PNG", "u/a.jpg", "u/v/c.Tif", "classes.txt", "u/a.json", "m.npy", "README")
    touch(
        tmp_path, "Thumbs.db", ".DS_Store", "u/._a.jpg", ".ipynb_checkpoints/a.png", "__MACOSX/u/a.jpg", "desktop.ini"
    )
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = list_files(tmp_path, IMAGE_SUFFIXES)
    assert found.files == ("b.PNG", "u/a.jpg", "u/v/c.Tif")
    assert found.linked == ()
    assert found.skipped == {
        "hidden": (".DS_Store", ".ipynb_checkpoints", "Thumbs.db", "__MACOSX", "desktop.ini", "u/._a.jpg"),
        "no image": ("README", "classes.txt", "m.npy", "u/a.json"),
        "no file, or a broken link": ("gone.png",),
    }
    assert list_files(tmp_path, LABEL_SUFFIXES).files == ("b.PNG", "m.npy", "u/a.jpg", "u/v/c.Tif")


def test_a_folder_that_is_hidden_itself_is_listed(tmp_path: Path) -> None:
    touch(tmp_path, ".cache/images/a.png")
    assert list_files(tmp_path / ".cache/images", IMAGE_SUFFIXES).files == ("a.png",)


def test_links_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "store/x.png", "store/deep/y.png", "here/z.png")
    (tmp_path / "here/x.png").symlink_to(tmp_path / "store/x.png")
    (tmp_path / "here/part").symlink_to(tmp_path / "store")
    found = list_files(tmp_path / "here", IMAGE_SUFFIXES)
    assert found.files == ("part/deep/y.png", "part/x.png", "x.png", "z.png")
    assert found.linked == ("part",)


@pytest.mark.parametrize("target", [".", "..", "../..", "/"])
def test_links_to_a_folder_above_are_not_followed(tmp_path: Path, target: str) -> None:
    touch(tmp_path, "data/images/u/a.png", "data/labels/a.png")
    (tmp_path / "data/images/u/up").symlink_to(target)
    found = list_files(tmp_path / "data/images", IMAGE_SUFFIXES)
    assert found.files == ("u/a.png",)
    assert found.skipped == {"link to a folder above": ("u/up",)}


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a/to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b/to_a").symlink_to(tmp_path / "a")
    (tmp_path / "a/self").symlink_to(tmp_path / "a/self")
    found = list_files(tmp_path / "a", IMAGE_SUFFIXES)
    assert found.files == ("1.png", "to_b/2.png")
    assert found.skipped == {"link to a folder above": ("to_b/to_a",), "no file, or a broken link": ("self",)}


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the refusal of the system is put in by hand."""
    touch(tmp_path, "a.png", "locked/b.png")
    unlocked = os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder).name == "locked":
            raise PermissionError(13, "Permission denied")
        return unlocked(folder)

    monkeypatch.setattr(listing.os, "scandir", refuse)
    with pytest.raises(DataError, match=r"locked: cannot be read \(Permission denied\); change its permissions"):
        list_files(tmp_path, IMAGE_SUFFIXES)


@pytest.mark.parametrize("name", ["u\\a.png", "v/x\\y/a.png", ".z\\a.png"])
def test_names_with_a_backslash(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    with pytest.raises(DataError) as caught:
        list_files(tmp_path, IMAGE_SUFFIXES)
    assert str(caught.value) == f"{tmp_path / name}: has a backslash in its name; rename it"


@pytest.mark.parametrize("name", ["u:v/a.png", "12:30.png", "a\n.png", "x..y.png", "q?*[1].png"])
def test_other_odd_names_are_files(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    assert list_files(tmp_path, IMAGE_SUFFIXES).files == (name,)
