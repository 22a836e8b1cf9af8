"""A file under its final name is always complete, whatever stops its writer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from leftovers import gone_identity, temporary_of

from seg_transfer.store.atomic import (
    create_folder,
    is_temporary,
    replaced_atomically,
    sweep,
    temporary_path,
    write_text,
)
from seg_transfer.store.processes import identity

DIES_HALFWAY = """
import os, sys
from pathlib import Path
from seg_transfer.store.atomic import replaced_atomically

with replaced_atomically(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os._exit(9)
"""

# Some process of another machine.
ELSEWHERE = "0123456789ab-7-99"
# Names that this software does not give, or did not in earlier versions.
FOREIGN = (
    *("weights.part", ".part_list", ".x.part", ".part", "..part", ".a.b.part", ".a.1.part", ".a.b.c.d.part"),
    ".a.parquet.host.1.0123456789abcdef0123456789abcdef.part",
    ".a.parquet.0123456789ab-7-99.part",
    ".a.parquet.0123456789ab-0-99.0123456789abcdef0123456789abcdef.part",
    "a.parquet.0123456789ab-7-99.0123456789abcdef0123456789abcdef.part",
    ".a.parquet.0123456789ab-7-99.0123456789abcdef0123456789abcdef.partial",
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_and_its_folders_appear_and_nothing_else(tmp_path):
    file = tmp_path / "scores" / "source" / "target.txt"
    with replaced_atomically(file) as temporary:
        assert temporary.parent == file.parent
        temporary.write_text("new")
        assert not file.exists()
    assert file.read_text() == "new"
    assert names(file.parent) == ["target.txt"]


def test_an_exception_in_the_block_keeps_the_old_file(tmp_path):
    def interrupted() -> None:
        with replaced_atomically(file) as temporary:
            temporary.write_text("half of the new")
            raise KeyboardInterrupt

    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert file.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_block_that_writes_nothing_keeps_the_old_file(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(FileNotFoundError), replaced_atomically(file):
        pass
    assert file.read_text() == "old"


def test_a_disk_that_fails_to_flush_keeps_the_old_file(tmp_path, monkeypatch):
    def full(_descriptor: int) -> None:
        raise OSError("no space left on device")

    file = tmp_path / "a.txt"
    file.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_text(file, "new")
    assert file.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_content_reaches_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    events = []
    replace, fsync = Path.replace, os.fsync

    def noted_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        events.append(("flush", "folder" if path == tmp_path else path.read_text()))
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        events.append(("replace", target.name))
        return replace(self, target)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to name a file descriptor")
    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write_text(tmp_path / "a.txt", "whole")
    assert events == [("flush", "whole"), ("replace", "a.txt"), ("flush", "folder")]


def test_two_writers_of_one_file_do_not_share_a_temporary_file(tmp_path):
    file = tmp_path / "a.txt"
    with replaced_atomically(file) as first, replaced_atomically(file) as second:
        first.write_text("first")
        second.write_text("second")
    assert file.read_text() == "first"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_is_created_although_its_empty_parents_are_removed_meanwhile(tmp_path, monkeypatch):
    folder, mkdir, removed = tmp_path / "source" / "target" / "seed_0", os.mkdir, []

    def mkdir_after_removal(path, *args, **kwargs):
        if Path(path) == folder and (tmp_path / "source" / "target").exists() and len(removed) < 2:
            os.removedirs(tmp_path / "source" / "target")
            tmp_path.mkdir(exist_ok=True)
            removed.append(path)
        mkdir(path, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", mkdir_after_removal)
    create_folder(folder)
    assert folder.is_dir()
    assert len(removed) == 2


def test_a_file_in_the_place_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "source").write_text("")
    with pytest.raises(FileExistsError):
        create_folder(tmp_path / "source")
    with pytest.raises(NotADirectoryError):
        create_folder(tmp_path / "source" / "target")


def test_text_is_utf8(tmp_path):
    write_text(tmp_path / "a.txt", "Straße\n")
    assert (tmp_path / "a.txt").read_bytes() == b"Stra\xc3\x9fe\n"


def test_sweep_removes_only_files_of_killed_processes(tmp_path):
    killed = tmp_path / "scores" / "killed.txt"
    stopped = subprocess.run([sys.executable, "-c", DIES_HALFWAY, killed], check=False)
    assert stopped.returncode == 9
    assert len(names(killed.parent)) == 1
    assert not killed.exists()
    elsewhere = temporary_of(ELSEWHERE, tmp_path / "a.parquet")
    kept = [*(tmp_path / name for name in FOREIGN), tmp_path / "scores/a.parquet", elsewhere]
    for file in kept:
        file.write_text("mine")
    old = temporary_of(ELSEWHERE, tmp_path / "b.parquet")
    old.write_text("half")
    for file in (old, *kept[:-1]):
        os.utime(file, (0, 0))
    assert sweep(tmp_path) == 2
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(kept)
    assert sweep(tmp_path) == 0


def test_a_temporary_folder_is_removed_with_its_content(tmp_path):
    left = temporary_of(gone_identity(), tmp_path / "item")
    left.mkdir()
    (left / "holder.json").write_text("{}")
    assert sweep(tmp_path) == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["a.txt", "a b.parquet", "äö.x.y", ".hidden", "new\nline"])
def test_a_temporary_name_identifies_its_process(tmp_path, name):
    temporary = temporary_path(tmp_path / name)
    assert temporary.parent == tmp_path
    assert is_temporary(temporary)
    assert identity() in temporary.name


def test_sweep_keeps_files_of_running_processes(tmp_path):
    file = tmp_path / "a.txt"
    with replaced_atomically(file) as temporary:
        temporary.write_text("whole")
        assert sweep(tmp_path) == 0
    assert file.read_text() == "whole"
