"""Configs of unknown origin: what mmsegmentation builds is built, and nothing else is named, read, fetched or run."""

import inspect
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import mmengine.registry.registry as engine_registry
import mmseg
import pytest
import torch
from mmengine import Config
from mmseg.registry import MODELS

from seg_transfer.errors import ConfigError
from seg_transfer.models import load_source_model
from seg_transfer.models.configs import portable, read_model_config, with_classes
from seg_transfer.models.networks import build_network
from seg_transfer.models.registered import only_registered, registered
from seg_transfer.models.sealed import installation, sealed
from seg_transfer.resources import shipped

ZOO = Path(mmseg.__file__).parent / ".mim" / "configs"
SMALL = (
    "swin/swin-tiny-patch4-window7_upernet_1xb8-20k_levir-256x256.py",
    "segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024.py",
    "pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py",
    "stdc/stdc1_in1k-pre_4xb12-80k_cityscapes-512x1024.py",
    "hrnet/fcn_hr18s_4xb2-40k_cityscapes-512x1024.py",
)
# What other libraries of its family register, which are not installed here; and one that imports what its config names.
FOREIGN = ("mmpretrain.", "mmdet.", "VPD")


@pytest.fixture
def tiny() -> dict[str, Any]:
    return with_classes(read_model_config(shipped("configs/models/hrnetv2_tiny.py")), 3)


def refusal(do: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        do()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is legitimate


def test_one_config_of_every_kind_in_mmsegmentation_is_accepted_as_it_is():
    files = [next(iter(sorted(folder.glob("*.py"))), None) for folder in sorted(ZOO.iterdir()) if folder.name[0] != "_"]
    n_accepted = 0
    for file in filter(None, files):
        model = portable(Config.fromfile(file, import_custom_modules=False).to_dict()["model"])
        text = json.dumps(model)
        if any(f'"type": "{name}' in text for name in FOREIGN):
            assert any(f".type: '{name}" in refusal(lambda one=model: registered(one, "zoo")) for name in FOREIGN)
        else:
            assert registered(model, str(file)) == model
            n_accepted += 1
    assert n_accepted >= 40


@pytest.mark.parametrize("name", SMALL)
def test_a_dumped_config_equals_its_code_and_is_built_without_the_weights_it_names(tmp_path, name):
    """All of these start from pretrained weights, most in an ``init_cfg``."""
    config = Config.fromfile(ZOO / name)
    assert "retrained" in json.dumps(config.to_dict()["model"])
    for suffix in ("json", "yaml"):
        config.dump(tmp_path / f"model.{suffix}")
    model = read_model_config(ZOO / name)
    assert read_model_config(tmp_path / "model.json") == read_model_config(tmp_path / "model.yaml") == model
    assert "retrained" not in json.dumps(model)
    network = build_network({key: value for key, value in model.items() if key != "auxiliary_head"}, seed=0)
    assert sum(parameter.numel() for parameter in network.parameters()) > 100_000


LAZY = """
from mmseg.models import EncoderDecoder, FCNHead
from mmseg.models.backbones.hrnet import HRNet
from torch.nn import ReLU

model = dict(
    type=EncoderDecoder,
    backbone=dict(type=HRNet, norm_cfg=dict(type="SyncBN"), extra=EXTRA),
    decode_head=dict(
        type=FCNHead, in_channels=[4, 8, 8, 8], in_index=[0, 1, 2, 3], channels=4, num_classes=3, kernel_size=1,
        num_convs=1, input_transform="resize_concat", act_cfg=dict(type=ReLU),
    ),
)
"""


def test_lazily_imported_classes_become_the_names_under_which_they_are_registered(tmp_path, tiny):
    (tmp_path / "lazy.py").write_text(LAZY.replace("EXTRA", repr(tiny["backbone"]["extra"])))
    model = read_model_config(tmp_path / "lazy.py")
    types = {model["type"], model["backbone"]["type"], model["decode_head"]["type"]}
    assert types == {"EncoderDecoder", "HRNet", "FCNHead"}
    assert model["decode_head"]["act_cfg"]["type"] == "ReLU"
    assert model["backbone"]["norm_cfg"]["type"] == "BN"


def test_a_dotted_name_of_a_registered_class_is_that_class_also_in_data(tiny):
    dotted = {**tiny, "type": "mmseg.models.segmentors.encoder_decoder.EncoderDecoder"}
    scoped = {**tiny, "type": "mmseg.EncoderDecoder"}
    networks = [build_network(model, seed=0).state_dict() for model in (tiny, dotted, scoped)]
    for network in networks[1:]:
        assert all(torch.equal(network[name], tensor) for name, tensor in networks[0].items())


def test_what_a_py_config_imports_may_be_named(tmp_path, tiny, monkeypatch):
    """It is code, and announced before it is run; a network from JSON may not have anything imported."""
    (tmp_path / "my_heads.py").write_text(
        "from mmseg.models.decode_heads import FCNHead\nfrom mmseg.registry import MODELS\n\n\n"
        "@MODELS.register_module()\nclass HeadOfATest(FCNHead):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    changed = {**tiny, "decode_head": {**tiny["decode_head"], "type": "HeadOfATest"}}
    (tmp_path / "model.json").write_text(json.dumps({"model": changed, "custom_imports": {"imports": ["my_heads"]}}))
    assert "field model.decode_head.type: 'HeadOfATest'" in refusal(lambda: load_source_model(tmp_path / "model.json"))
    (tmp_path / "model.py").write_text(f"custom_imports = dict(imports=['my_heads'])\nmodel = {changed!r}\n")
    try:
        for _ in range(2):
            read = read_model_config(tmp_path / "model.py", memo=tmp_path / "keys")
        assert type(build_network(read, seed=0).get_submodule("decode_head")).__name__ == "HeadOfATest"
        assert not (tmp_path / "keys").exists()  # read without being run, it would register nothing
    finally:
        MODELS.module_dict.pop("HeadOfATest", None)
        sys.modules.pop("my_heads", None)


# What is not


def test_no_other_registered_class_fetches_weights_by_default():
    """Those that do must be prevented, as `portable` does for TIMMBackbone."""
    import_all = (MODELS, *[registry for registry in (MODELS.parent,) if registry is not None])
    fetching = set()
    for registry in import_all:
        for name, made in registry.module_dict.items():
            parameters = inspect.signature(made).parameters
            defaults = {key: parameters[key].default for key in ("pretrained", "init_cfg") if key in parameters}
            if defaults.get("pretrained") not in (None, False, inspect.Parameter.empty):
                fetching.add(name)
            if "checkpoint" in str(defaults.get("init_cfg")):
                fetching.add(name)
    assert fetching == {"TIMMBackbone"}
    assert portable({"backbone": {"type": "TIMMBackbone"}})["backbone"]["pretrained"] is False


def test_names_in_other_fields_find_nothing_and_import_nothing(tmp_path, monkeypatch):
    """Such as the type of a convolution that a layer takes as text."""
    (tmp_path / "planted_module.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "planted_scope").mkdir()
    (tmp_path / "planted_scope/registry.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = engine_registry.get_object_from_string, engine_registry.import_module
    with only_registered():
        assert MODELS.get("ReLU") is torch.nn.ReLU
        for name in ("planted_module", "planted_scope.Net", "os.system", "subprocess.run", "builtins.exec"):
            assert MODELS.get(name) is None
    assert (engine_registry.get_object_from_string, engine_registry.import_module) == before
    with pytest.raises(SystemExit, match="imported"):  # and so it would be without
        MODELS.get("planted_module")
    assert "planted_module" not in sys.modules


@pytest.mark.parametrize(
    ("do", "excerpt"),
    [
        (lambda file: file.read_text(), "must not open the file"),
        (lambda file: file.write_text("x"), "must not open the file"),
        (lambda file: os.open(file, os.O_RDONLY), "must not open the file"),
        (lambda file: os.open(bytes(file), os.O_RDONLY), "must not open the file"),
        (lambda file: torch.load(file, weights_only=True), "must not open the file"),
        (lambda _: subprocess.run(["true"]), "must not start a process"),
        (lambda _: os.system("true"), "must not start a process"),
        (lambda _: os.execv("/bin/true", ["true"]), "must not start a process"),
        (lambda _: socket.create_connection(("127.0.0.1", 9)), "must not download anything"),
        (lambda _: socket.getaddrinfo("localhost", 9), "must not download anything"),
    ],
)
def test_a_seal_blocks_whatever_a_library_tries(tmp_path, do, excerpt):
    file = tmp_path / "file"
    file.write_text("text")
    with pytest.raises(PermissionError, match=excerpt), sealed():
        do(file)
    assert file.read_text() == "text"  # and after it everything is possible again


def test_under_a_seal_installed_modules_are_imported_and_other_threads_go_on(tmp_path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "link.py").symlink_to(tmp_path / "file")
    read: list[str] = []
    with sealed():
        assert len(Path(torch.__file__).read_bytes()) > 1000
        thread = threading.Thread(target=lambda: read.append((tmp_path / "file").read_text()))
        thread.start()
        thread.join()
        with sealed(), pytest.raises(PermissionError):
            (tmp_path / "link.py").read_text()
        with pytest.raises(PermissionError):
            (tmp_path / "file").read_text()
    assert read == ["text"]


def test_a_folder_whose_name_begins_like_that_of_the_installation_is_not_part_of_it(tmp_path, monkeypatch):
    from seg_transfer.models import sealed as module

    monkeypatch.setattr(module, "installation", lambda: (f"{tmp_path / 'libraries'}{os.sep}",))
    for name in ("libraries", "libraries_of_others"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("text")
    with sealed():
        assert (tmp_path / "libraries/file").read_text() == "text"
        with pytest.raises(PermissionError):
            (tmp_path / "libraries_of_others/file").read_text()


def test_libraries_may_lie_outside_the_environment(tmp_path, monkeypatch):
    """As pip puts them into a folder of PYTHONPATH, or a user's own."""
    folder = tmp_path / "site"
    (folder / "some_library-1.0.dist-info").mkdir(parents=True)
    (folder / "some_library.py").write_text("VALUE = 5")
    beside = tmp_path / "beside.py"
    beside.write_text("VALUE = 6")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.syspath_prepend(tmp_path)
    installation.cache_clear()
    try:
        with sealed():
            assert import_module("some_library").VALUE == 5
            with pytest.raises(PermissionError):
                beside.read_text()
    finally:
        installation.cache_clear()
