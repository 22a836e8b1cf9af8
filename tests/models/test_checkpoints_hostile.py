"""Nothing in a checkpoint runs, whatever opcodes, names and sizes it holds; a refusal is one line."""

import io
import pickle
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import malicious
import pytest
import torch
from malicious import CLAIMS, CODE, TENSOR, as_legacy, as_pickle, as_zip, body, text

from seg_transfer.errors import CheckpointError
from seg_transfer.models.checkpoints import load_checkpoint, weights_for
from seg_transfer.models.weights import inert

FORMATS = [as_zip, as_legacy, as_pickle]
_watched: list[tuple[str, str]] | None = None
_FORBIDDEN = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.", "exec", "compile", "import", "pickle.", "marshal.")


def _watch(event: str, args: tuple[object, ...]) -> None:
    if _watched is not None and (event.startswith(_FORBIDDEN) or event == "open"):
        _watched.append((event, str(args[:1])))


sys.addaudithook(_watch)  # which cannot be removed


@pytest.fixture
def events(tmp_path: Path) -> Iterator[list[tuple[str, str]]]:
    """The files that are opened, and the events that only code of a checkpoint would cause."""
    global _watched
    for index, write in enumerate(FORMATS):  # the first reading imports and compiles
        write(body(b"}" + text("w") + TENSOR + b"s"), tmp_path / f"warm{index}.pth")
        if write is not as_pickle:
            load_checkpoint(tmp_path / f"warm{index}.pth")
    _watched = []
    yield _watched
    _watched = None


def read(file: Path) -> str:
    """Read a file in both ways; returns the refusal, "" if there was none."""
    refusals = []
    for call in (lambda: load_checkpoint(file), lambda: weights_for({"w": (4,)}, file)):
        try:
            call()
        except CheckpointError as error:
            refusals.append(str(error))
    assert not [line for line in refusals if "\n" in line or not line.startswith(f"{file}: ")]
    return refusals[0] if refusals else ""


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("name", CODE)
@pytest.mark.parametrize("forced", [False, True])
def test_no_code_runs(tmp_path, monkeypatch, events, name, write, forced):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1" if forced else "0")
    marker, file = tmp_path / "it_ran", tmp_path / "net.pth"
    write(body(CODE[name](marker)), file)
    events.clear()
    assert read(file)
    assert {event for event, _ in events} == {"open"}
    assert {Path(path.strip("(',)")) for _, path in events} == {file}
    assert not marker.exists()


@pytest.mark.parametrize("write", [as_zip, as_legacy])
@pytest.mark.parametrize(
    "name", [name for name in CODE if name not in {"an extension", "a buffer", "a name outside the file"}]
)
def test_weights_beside_code_are_read(tmp_path, events, name, write):
    marker, file = tmp_path / "it_ran", tmp_path / "net.pth"
    write(body(b"}(" + text("w") + TENSOR + text("other") + CODE[name](marker) + b"u"), file)
    events.clear()
    assert torch.equal(weights_for({"w": (4,)}, file, ignored=("other*",))["w"], torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert {event for event, _ in events} == {"open"}
    assert not marker.exists()


@pytest.mark.parametrize(
    "name", ["a call", "a folder", "an instance", "an old object", "a name from the stack", "a state"]
)
def test_the_attacks_are_real(tmp_path, name):
    """Unpickled as Python does it, such files do leave the marker."""
    marker = tmp_path / "it_ran"
    unpickler: Callable[[bytes], object] = pickle.loads
    try:
        unpickler(body(CODE[name](marker)))
    except TypeError:
        assert name == "a state"
    assert marker.exists()


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("name", CLAIMS)
def test_claims_cost_no_memory(tmp_path, monkeypatch, name, write):
    monkeypatch.setattr("seg_transfer.models.weights.state_dicts._MAX_NODES", 2_000)
    write(CLAIMS[name], tmp_path / "net.pth")
    if len(CLAIMS[name]) > 10_000:  # what is nested is as large as its file
        assert read(tmp_path / "net.pth")
        return
    tracemalloc.start()
    try:
        assert read(tmp_path / "net.pth")
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_records_that_overlap(tmp_path):
    malicious.overlapping(tmp_path / "net.pth")
    assert "records that overlap" in read(tmp_path / "net.pth")


def test_more_opcodes_than_any_checkpoint_has(tmp_path, monkeypatch):
    monkeypatch.setattr(inert, "_MAX_OPCODES", 1000)
    as_zip(body(b"N0" * 1000 + b"}"), tmp_path / "net.pth")
    assert "more than 1,000 objects" in read(tmp_path / "net.pth")


@pytest.mark.parametrize("repeat", ["list", "name", "dict"])
def test_a_file_cannot_have_contents_copied(repeat):
    """A long part that is named a thousand times is kept once."""
    long = {
        "list": b"(" + b"N" * 10_000 + b"lq\x00",
        "name": text("n" * 10_000) + b"q\x00",
        "dict": b"}(" + b"".join(text(str(key)) + b"N" for key in range(3_000)) + b"uq\x00",
    }[repeat]
    call = malicious.named("collections", "OrderedDict") + b"(h\x00tR" if repeat != "name" else b"h\x00h\x00\x93"
    code = io.BytesIO(body(b"(" + long + call * 1000 + b"l"))
    tracemalloc.start()
    try:
        assert len(inert.unpickle(code)) == 1001
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()


def test_archives_that_torch_does_not_write(tmp_path):
    file = tmp_path / "net.pth"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", bytes(1 << 20))
    assert "compressed records" in read(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/code/model.py", "import os")
    assert "a zip archive without the data.pkl of torch.save" in read(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/data.pkl", body(b"}"))
        archive.writestr("net/constants.pkl", body(b")"))
    assert "a TorchScript archive, which holds code; save the network's state_dict()" in read(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<!DOCTYPE html><html>", "a page of a web site and not the weights; download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS and not the weights"),
        (b"", "not a readable checkpoint"),
        (bytes(1000), "not a readable checkpoint"),
    ],
)
def test_files_that_are_taken_for_weights(tmp_path, content, reason):
    (tmp_path / "net.pth").write_bytes(content)
    assert reason in read(tmp_path / "net.pth")
