"""Checkpoints are untrusted: weights are read in every usual wrapping, and nothing in a file is ever run."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from seg_transfer.errors import CheckpointError
from seg_transfer.models.checkpoints import load_checkpoint, read_plain_pickle, save_weights

FORCE_UNSAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


class MakesFolder:
    """Unpickled, it makes a folder: the mark of code that ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "backbone.conv1.weight": torch.randn(4, 3, 3, 3, generator=generator) * 1e-3 + 7,
        "decode_head.conv_seg.bias": torch.randn(5, generator=generator).double(),
        "backbone.bn1.num_batches_tracked": torch.tensor(12345),
    }


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def refusal(file: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        OrderedDict,
        lambda state: {"state_dict": state, "meta": {"epoch": 3, "CLASSES": ("sky", "road")}},
        lambda state: {"model_state_dict": state, "epoch": 7},
        lambda state: {"model": state},
        lambda state: {"state_dict": OrderedDict((f"module.{name}", tensor) for name, tensor in state.items())},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_usual_wrappings(tmp_path, wrap, zipped):
    file = tmp_path / "net.pth"
    torch.save(wrap(weights()), file, _use_new_zipfile_serialization=zipped)
    assert_equal(load_checkpoint(file), weights())


def test_only_a_leading_module_prefix_is_removed(tmp_path):
    torch.save({"module.neck.module.weight": torch.ones(2)}, tmp_path / "net.pth")
    assert list(load_checkpoint(tmp_path / "net.pth")) == ["neck.module.weight"]


def test_safetensors_and_paths_as_text(tmp_path):
    file = tmp_path / "net.safetensors"
    safetensors.torch.save_file({f"module.{name}": tensor for name, tensor in weights().items()}, file)
    assert_equal(dict(sorted(load_checkpoint(str(file)).items())), dict(sorted(weights().items())))


def test_saved_weights_come_back(tmp_path):
    state = weights()
    state["strided"] = torch.arange(24.0).view(1, 2, 3, 4).to(memory_format=torch.channels_last)
    state["grown"] = torch.ones(3, requires_grad=True) * 2
    save_weights(state, tmp_path / "new" / "w.safetensors")
    found = load_checkpoint(tmp_path / "new" / "w.safetensors")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["w.safetensors"]


@pytest.fixture(params=["plain", "forced"])
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Without and with the variable by which PyTorch can be made to unpickle everything."""
    if request.param == "forced":
        monkeypatch.setenv(FORCE_UNSAFE, "1")
    else:
        monkeypatch.delenv(FORCE_UNSAFE, raising=False)
    return str(request.param)


def zipped(content: object, file: Path) -> None:
    torch.save(content, file)


def legacy(content: object, file: Path) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


def pickled(content: object, file: Path) -> None:
    file.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("write", [zipped, legacy, pickled])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda evil: evil,
        lambda evil: {"state_dict": weights(), "meta": evil},
        lambda evil: {"state_dict": {**weights(), "backbone.conv2.weight": evil}},
        lambda evil: {evil: torch.ones(1)},
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_code_in_a_checkpoint_never_runs(tmp_path, environment, write, wrap, suffix):
    marker, file = tmp_path / "it_ran", tmp_path / f"evil{suffix}"
    write(wrap(MakesFolder(marker)), file)
    if suffix == ".safetensors" or wrap(1) in (1, {1: torch.ones(1)}):
        refusal(file)
    else:
        names = set(load_checkpoint(file))
        assert names == set(weights())
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore:Environment variable TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
def test_the_attack_is_a_real_one(tmp_path, monkeypatch):
    """With that variable, a bare torch.load does run the file that is refused above."""
    marker, file = tmp_path / "it_ran", tmp_path / "evil.pth"
    torch.save({"state_dict": MakesFolder(marker)}, file)
    monkeypatch.setenv(FORCE_UNSAFE, "1")
    with pytest.raises(CheckpointError, match="which could run code"):
        read_plain_pickle(file)
    assert not marker.exists()
    torch.load(file)
    assert marker.is_dir()


def test_a_whole_pickled_network_gives_its_weights(tmp_path, environment):
    layer = torch.nn.Linear(2, 3)
    torch.save(layer, tmp_path / "net.pth")
    assert_equal(load_checkpoint(tmp_path / "net.pth"), dict(layer.state_dict()))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.97])
def test_a_truncated_file_is_refused(tmp_path, suffix, share):
    file = tmp_path / f"net{suffix}"
    if suffix == ".pth":
        torch.save(weights(), file)
    else:
        save_weights(weights(), file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    refusal(file)


@pytest.mark.parametrize(
    "content", [b"<html>404 not found</html>\n", b"\n\n", b"PK\x03\x04 no archive", b"\x80\x02K\x01."]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_checkpoint_is_refused(tmp_path, content, suffix):
    file = tmp_path / f"net{suffix}"
    file.write_bytes(content)
    refusal(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "holds no weights, but a dict; expected parameter names with tensors"),
        ({"state_dict": {}}, "holds no weights, but a dict"),
        ({"epoch": 3}, "holds no weights, but a dict"),
        ([torch.ones(1)], "holds no weights, but a list; expected parameter names with tensors"),
        (3, "holds no weights, but a int"),
        (torch.ones(1), "holds a single tensor; expected parameter names with tensors"),
    ],
)
def test_what_holds_no_weights_is_refused(tmp_path, content, reason):
    torch.save(content, tmp_path / "net.pth")
    assert reason in refusal(tmp_path / "net.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_missing_files_and_folders(tmp_path, suffix):
    assert "no such checkpoint file" in refusal(tmp_path / f"none{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    assert "no such checkpoint file" in refusal(tmp_path / f"folder{suffix}")
