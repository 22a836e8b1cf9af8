"""Cached digests are never those of other bytes: a file that may have changed is read again."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seg_transfer.data.record import Record
from seg_transfer.store import content_key as module
from seg_transfer.store import memo as memory
from seg_transfer.store.content_key import records_key, sha256_of_file
from seg_transfer.store.memo import digests

OLD = 1_700_000_000
later = pytest.mark.usefixtures("later")


def put(file: Path, content: bytes, time: float = OLD) -> Path:
    file.write_bytes(content)
    os.utime(file, (time, time))
    return file


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [put(tmp_path / name, name.encode()) for name in ("a.png", "b.png", "c.png")]


@pytest.fixture
def memo(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def read() -> list[str]:
    return []


@pytest.fixture
def digest(read: list[str]) -> Callable[[Path], str]:
    """The content itself, noting who was read."""
    return lambda file: (read.append(file.name), file.read_text())[1]


@later
def test_what_has_not_changed_is_not_read_again(files, memo, digest, read):
    assert digests(files, memo, digest) == digests(files, memo, digest) == ["a.png", "b.png", "c.png"]
    assert read == ["a.png", "b.png", "c.png"]


@later
@pytest.mark.parametrize(("content", "time"), [(b"B.png", OLD + 1), (b"longer.png", OLD), (b"b.png", OLD + 1e-3)])
def test_only_the_file_of_another_size_or_time_is_read_again(files, memo, digest, read, content, time):
    digests(files, memo, digest)
    read.clear()
    put(files[1], content, time)
    assert digests(files, memo, digest) == ["a.png", content.decode(), "c.png"]
    assert read == ["b.png"]


def replaced(file: Path) -> None:
    """Another file of the same size and time takes its place, as by `mv` of a copy with its time."""
    other = put(file.with_name("other"), b"B.png")
    other.replace(file)


def written_over(file: Path) -> None:
    put(file, b"B.png")


@later
@pytest.mark.parametrize("change", [replaced, written_over])
def test_a_file_of_the_same_size_and_time_with_other_bytes_is_read_again(files, memo, digest, read, change):
    digests(files, memo, digest)
    before = sha256_of_file(files[1])
    read.clear()
    change(files[1])
    assert digests(files, memo, digest) == ["a.png", "B.png", "c.png"]
    assert read == ["b.png"]
    assert sha256_of_file(files[1]) == hashlib.sha256(b"B.png").hexdigest() != before


@later
def test_a_file_with_another_inode_alone_is_read_again(files, memo, digest, read, monkeypatch):
    """As on a file system without a time of change."""
    digests(files, memo, digest)
    read.clear()
    plain = memory.version_of
    monkeypatch.setattr(memory, "version_of", lambda file: f"{plain(file).rpartition(' ')[0]} 0")
    for _ in range(2):
        digests(files, memo, digest)
    assert len(read) == 3
    replaced(files[1])
    assert digests(files, memo, digest) == ["a.png", "B.png", "c.png"]
    assert len(read) == 4


@later
def test_another_file_under_another_path_is_read(files, memo, digest, read, tmp_path):
    digests(files[:1], memo, digest)
    other = put(tmp_path / "z.png", b"z.png")
    assert digests([other], memo, digest) == ["z.png"]


@later
def test_sets_of_files_do_not_evict_each_other(files, memo, digest, read):
    for some in (files[:2], files[1:], files[:2], files[1:]):
        digests(some, memo, digest)
    assert read == ["a.png", "b.png", "b.png", "c.png"]


@pytest.mark.parametrize(
    ("modified", "changed", "settled"), [(1.0, 1.0, True), (9.0, 1.0, False), (1.0, 9.0, False), (99.0, 1.0, False)]
)
def test_a_file_that_was_just_written_is_not_trusted_yet(modified, changed, settled):
    """A coarse clock could give its next version the same time. Looked at after 10 seconds."""
    version = f"5 {int(modified * 1e9)} 77 {int(changed * 1e9)}"
    assert memory.is_settled(version, 10_000_000_000) == settled


def test_a_file_that_was_just_given_an_old_time_is_not_trusted_yet(files, memo, digest, read):
    """Its time of change is new, and could be that of its next version too."""
    for _ in range(2):
        digests(files, memo, digest)
        sha256_of_file(files[0])
    assert len(read) == 6
    assert not any(file in files for file, _ in module._SHA256_CACHE)


@later
def test_a_file_that_changes_while_it_is_read_is_read_again(files, memo, digest, read):
    def slow(file: Path) -> str:
        content = digest(file)
        if file == files[0]:
            put(file, b"later", OLD + 5)
        return content

    digests(files, memo, slow)
    read.clear()
    assert digests(files, memo, digest)[0] == "later"
    assert read == ["a.png"]


@later
@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", '{"PATH": 3}', '{"PATH": ["VERSION"]}'])
def test_a_damaged_cache_is_replaced(files, memo, digest, text):
    digests(files, memo, digest)
    (place,) = memo.iterdir()
    place.write_text(text.replace("PATH", str(files[0])).replace("VERSION", memory.version_of(files[0])))
    assert digests(files, memo, digest) == ["a.png", "b.png", "c.png"]
    assert len(json.loads(place.read_text())) == 3


def test_without_a_writable_cache_every_file_is_read(files, memo, digest, read):
    memo.write_text("a file is in the way")
    for _ in range(2):
        assert digests(files, memo, digest) == ["a.png", "b.png", "c.png"]
    assert len(read) == 6


@later
def test_keys_are_the_same_with_and_without_a_cache(files, memo):
    records = [Record("a", files[0], files[1]), Record("b", files[2], files[1])]
    plain = records_key(records, trust_mtime=False)
    for _ in range(2):
        module._SHA256_CACHE.clear()
        assert records_key(records, trust_mtime=False, memo=memo) == plain
    assert records_key(records, trust_mtime=True, memo=memo) == records_key(records, trust_mtime=True)
    assert sha256_of_file(files[0], memo) == sha256_of_file(files[0])


SCRIPT = """
import sys, time
time.time_ns = lambda: 2**62  # long after the files were written
from pathlib import Path
from seg_transfer.store.memo import digests
files, memo = [Path(name) for name in sys.argv[2:]], Path(sys.argv[1])
for _ in range(60):
    assert digests(files, memo, lambda file: file.read_text()) == [file.read_text() for file in files]
"""


def test_many_processes_share_one_cache(files, memo):
    command = [sys.executable, "-c", SCRIPT, str(memo), *map(str, files)]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    (place,) = memo.iterdir()
    assert len(json.loads(place.read_text())) == 3
