"""A model config is run again when it or a config it is based on has changed, or could say something else by itself."""

import json
import os
import time
from pathlib import Path

import mmengine
import pytest

from seg_transfer.errors import ConfigError
from seg_transfer.models.configs import read_model_config
from seg_transfer.models.networks import build_network

pytestmark = pytest.mark.usefixtures("later")

OLD = 1_700_000_000
BASE = "width = 4\nmodel = dict(type='EncoderDecoder', backbone=dict(width=width), decode_head=dict(num_classes=3))\n"
MIDDLE = "_base_ = 'base.py'\nmodel = dict(decode_head=dict(channels=sum((1, 2))))\n"
TOP = "_base_ = ['more/middle.py']\nmodel = dict(backbone=dict(depth=2))\n"


def put(file: Path, text: str, modified: int = OLD) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    os.utime(file, (modified, modified))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config in two steps from its base."""
    put(tmp_path / "more/base.py", BASE)
    put(tmp_path / "more/middle.py", MIDDLE)
    put(tmp_path / "top.py", TOP)
    return tmp_path / "top.py"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The configs that were run."""
    read: list[str] = []
    original = mmengine.Config.fromfile

    def noted(file: Path, **options: object) -> object:
        read.append(Path(file).name)
        return original(file, **options)

    monkeypatch.setattr(mmengine.Config, "fromfile", noted)
    return read


def test_an_unchanged_config_is_run_once_and_gives_the_same(config, ran, tmp_path):
    plain = read_model_config(config)
    assert plain["backbone"] == {"width": 4, "depth": 2}
    assert [read_model_config(config, memo=tmp_path / "keys") for _ in range(3)] == [plain] * 3
    assert ran == ["top.py", "top.py"]


@pytest.mark.parametrize("name", ["top.py", "more/middle.py", "more/base.py"])
def test_a_change_anywhere_in_its_chain_is_noticed(config, tmp_path, name):
    before, file = read_model_config(config, memo=tmp_path / "keys"), tmp_path / name
    put(file, f"{file.read_text()}model.setdefault('decode_head', dict())['planted'] = 1\n", OLD + 1)
    after = read_model_config(config, memo=tmp_path / "keys")
    assert after["decode_head"] == before["decode_head"] | {"planted": 1}


def test_a_missing_base_is_named(config, tmp_path):
    read_model_config(config, memo=tmp_path / "keys")
    (tmp_path / "more/base.py").unlink()
    with pytest.raises(ConfigError, match="not a readable mmengine config"):
        read_model_config(config, memo=tmp_path / "keys")


def test_a_config_that_was_just_written_is_read_again(config, ran, tmp_path):
    put(tmp_path / "more/base.py", BASE, int(time.time()) + 120)
    for _ in range(2):
        read_model_config(config, memo=tmp_path / "keys")
    assert len(ran) == 2


@pytest.mark.parametrize(
    "line",
    [
        "import sys\nmodel['backbone']['n'] = len(sys.argv)",
        "from sys import argv\nmodel['backbone']['n'] = len(argv)",
        "file = open('{file}')\nmodel['backbone']['n'] = file.read()\nfile.close()\ndel file",
        "model['backbone']['n'] = __import__('os').getpid()",
        "model['backbone']['n'] = '{{{{$HOME:none}}}}'",
    ],
)
def test_a_config_whose_result_may_change_is_run_every_time(config, ran, tmp_path, line):
    """In a base, too: not only the file that the study names is looked at."""
    put(tmp_path / "number.txt", "1")
    put(tmp_path / "more/base.py", f"{BASE}{line.format(file=tmp_path / 'number.txt')}\n")
    for _ in range(2):
        read_model_config(config, memo=tmp_path / "keys")
    assert len(ran) == 2


def test_another_version_of_the_reader_reads_again(config, ran, tmp_path, monkeypatch):
    read_model_config(config, memo=tmp_path / "keys")
    monkeypatch.setattr("seg_transfer.models.python_configs.installed_version", lambda *_: "99")
    read_model_config(config, memo=tmp_path / "keys")
    assert len(ran) == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": {}, "reader": "x"}'])
def test_a_damaged_memo_is_rebuilt(config, tmp_path, text):
    plain = read_model_config(config, memo=tmp_path / "keys")
    (place,) = (tmp_path / "keys/configs").iterdir()
    place.write_text(text)
    assert read_model_config(config, memo=tmp_path / "keys") == plain


def test_a_memo_from_elsewhere_is_data_too(config, ran, tmp_path):
    """It lies in the run folder, and a run folder is shared."""
    read_model_config(config, memo=tmp_path / "keys")
    (place,) = (tmp_path / "keys/configs").iterdir()
    marker = tmp_path / "marker"
    evil = {"type": "EncoderDecoder", "backbone": {"type": "subprocess.run", "args": ["touch", str(marker)]}}
    place.write_text(json.dumps({**json.loads(place.read_text()), "model": {**evil, "decode_head": {}}}))
    model = read_model_config(config, memo=tmp_path / "keys")
    assert ran == ["top.py"]
    with pytest.raises(ConfigError, match=r"field model\.backbone\.type: 'subprocess\.run'"):
        build_network(model, seed=0)
    assert not marker.exists()
