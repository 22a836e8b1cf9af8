"""torchvision beside a torch that it was not built for."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from seg_transfer.models import compat

ALONE = """
from seg_transfer.models.compat import import_torchvision
import_torchvision()
import sys, torch, torchvision
first = sys.modules["torchvision"]
import_torchvision()
assert sys.modules["torchvision"] is first
network = torchvision.models.mobilenet_v3_small(weights=None).eval()
print(tuple(network(torch.zeros(1, 3, 32, 32)).shape))
"""


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """What was declared, in a process that looks as if torchvision had not been imported yet."""
    before = without_torchvision()
    made: list[object] = []
    monkeypatch.setattr(compat, "_declared", made)
    monkeypatch.setattr(compat, "_declare_operators", object)
    yield made
    without_torchvision()
    sys.modules.update(before)


def without_torchvision() -> dict[str, ModuleType]:
    """Unload torchvision, and return its modules."""
    names = [name for name in sys.modules if name.partition(".")[0] == "torchvision"]
    return {name: sys.modules.pop(name) for name in names}


def write_torchvision(folder: Path, body: str) -> None:
    """Write a package of that name: its submodule counts its imports, as a partial import leaves it behind."""
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(f"import torchvision.ops\n{body}\n")
    (folder / "torchvision" / "ops.py").write_text(
        "import pathlib\nfile = pathlib.Path(__file__).with_name('imports')\n"
        "file.write_text((file.read_text() if file.exists() else '') + 'x')\n"
    )


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")
def test_torchvision_imports_and_its_networks_run():
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "(1, 1000)"), done.stderr


def test_nothing_is_declared_where_the_operators_load(tmp_path, monkeypatch, declared):
    write_torchvision(tmp_path, "")
    monkeypatch.syspath_prepend(tmp_path)
    compat.import_torchvision()
    compat.import_torchvision()
    assert declared == []
    assert (tmp_path / "torchvision" / "imports").read_text() == "x"


def test_a_missing_operator_is_declared_once_and_the_import_starts_afresh(tmp_path, monkeypatch, declared):
    missing = "raise RuntimeError('operator torchvision::nms does not exist')"
    write_torchvision(tmp_path, f"from seg_transfer.models import compat\nif not compat._declared:\n    {missing}")
    monkeypatch.syspath_prepend(tmp_path)
    compat.import_torchvision()
    assert len(declared) == 1
    assert Path(str(sys.modules["torchvision"].__file__)).parent == tmp_path / "torchvision"
    assert (tmp_path / "torchvision" / "imports").read_text() == "xx"


@pytest.mark.parametrize("failure", ["RuntimeError('other')", "ImportError('no such file')"])
def test_other_failures_are_left_to_the_library_that_needs_it(tmp_path, monkeypatch, declared, failure):
    write_torchvision(tmp_path, f"raise {failure}")
    monkeypatch.syspath_prepend(tmp_path)
    compat.import_torchvision()
    assert declared == []


def test_without_torchvision_nothing_happens(monkeypatch, declared):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    compat.import_torchvision()
    assert declared == []


PARTS = """
import sys
from seg_transfer.models.compat import import_mmseg, import_torchvision
import_mmseg()
parts = ["timm", "transformers", "torch.distributed.fsdp", "mmengine.model.wrappers.fully_sharded_distributed"]
print([part for part in parts if part in sys.modules])
from mmengine.model import MMFullyShardedDataParallel
try:
    MMFullyShardedDataParallel(None)
except NotImplementedError as error:
    print(error)
import torch.distributed.fsdp
from seg_transfer.models.networks import build_network
backbone = {"type": "TIMMBackbone", "model_name": "test_resnet", "pretrained": False}
head = {"type": "FCNHead", "in_channels": 64, "channels": 4, "num_classes": 2, "in_index": 3}
network = build_network({"type": "EncoderDecoder", "backbone": backbone, "decode_head": head}, seed=0)
print(type(network.backbone.timm_model).__module__)
"""


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_parts_that_are_left_out_of_mmseg_can_be_imported_later():
    done = subprocess.run([sys.executable, "-c", PARTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    left, refused, brought = done.stdout.splitlines()
    assert left == "[]"
    assert refused.startswith("MMFullyShardedDataParallel is left out; import mmengine.runner before")
    assert brought.startswith("timm.models.")
