"""A source of any kind has a key that changes with all that decides what it sees, and with nothing else."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seg_transfer.errors import CheckpointError
from seg_transfer.models.adapters import ADAPTERS
from seg_transfer.models.configs import source_key
from seg_transfer.models.sources import parse_entry

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
NORMALIZED = {"data_preprocessor": {"mean": [102, 0, 0], "std": [51, 51, 51]}}
PREPROCESSOR = {"image_mean": list(MEAN), "image_std": list(STD), "do_normalize": True, "size": {"height": 512}}

SMP = {"_model_class": "Unet", "encoder_name": "resnet18", "encoder_weights": "imagenet", "classes": 2}
TIMM = {"architecture": "resnet18", "pretrained_cfg": {"mean": MEAN, "std": STD, "tag": "x"}, "license": "mit"}


def mmseg_config(head: dict[str, Any]) -> str:
    return json.dumps({"model": {"backbone": {}, "decode_head": head, **NORMALIZED}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of every kind of source; no weights are opened for a key."""
    (tmp_path / "w.pth").write_bytes(b"weights")
    (tmp_path / "net.py").write_text("import part\n")
    (tmp_path / "part.py").write_text("width = 8\n")
    (tmp_path / "mmseg.json").write_text(mmseg_config({"num_classes": 3}))
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "config.json").write_text(json.dumps({"model_type": "segformer", "depths": [1]}))
    (hub / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    (hub / "model.safetensors").write_bytes(b"weights")
    for name, config in (("smp", SMP), ("timm", TIMM)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def entry(**fields: Any) -> Any:
    return parse_entry({"name": "net", "dataset": "elsewhere", **fields})


def entries(folder: Path) -> dict[str, Any]:
    weights, normalization = folder / "w.pth", {"mean": MEAN, "std": STD}
    factory = {"factory": "net:build", "factory_folder": folder, "classifier": "head"}
    return {
        "mmseg": entry(config=folder / "mmseg.json", checkpoint=weights),
        "transformers": entry(transformers=folder / "hub"),
        "timm": entry(timm="hrnet_w18", weights=weights, **normalization),
        "factory": entry(**factory, weights=weights, **normalization),
        "torchvision": entry(torchvision="resnet18", weights=weights),
        "smp": entry(smp=folder / "smp"),
        "timm_folder": entry(timm=folder / "timm"),
    }


def written(name: str, text: str) -> Callable[[Path, Any], Any]:
    def change(folder: Path, source: Any) -> Any:
        (folder / name).write_text(text)
        return source

    return change


def preprocessed(**changes: Any) -> Callable[[Path, Any], Any]:
    return written("hub/preprocessor_config.json", json.dumps(PREPROCESSOR | changes))


def given(**fields: Any) -> Callable[[Path, Any], Any]:
    return lambda _, source: source.model_copy(update=fields)


def moved(folder: Path, source: Any) -> Any:
    (folder / "w.pth").rename(folder / "other.pth")
    return source.model_copy(update={"weights": folder / "other.pth"})


CHANGES = [
    ("mmseg", written("w.pth", "others"), {"weights"}),
    ("mmseg", written("mmseg.json", mmseg_config({"num_classes": 4})), None),
    ("mmseg", given(scores_only=True), {"scores_only"}),
    ("mmseg", given(weights_key="model_ema"), {"weights_key"}),
    ("mmseg", given(mean=(0.1, 0.2, 0.3)), {"mean"}),
    ("mmseg", given(std=(0.1, 0.2, 0.3)), {"std"}),
    ("transformers", written("hub/model.safetensors", "others"), {"weights"}),
    ("transformers", written("hub/config.json", '{"model_type": "segformer", "depths": [2]}'), {"model.depths"}),
    ("transformers", preprocessed(image_mean=[0, 0, 0]), {"mean"}),
    ("transformers", preprocessed(do_rescale=False), {"mean", "std"}),
    ("transformers", given(mean=(0.1, 0.2, 0.3)), {"mean"}),
    ("transformers", given(std=(0.1, 0.2, 0.3)), {"std"}),
    ("transformers", given(scores_only=True), {"scores_only"}),
    ("timm", written("w.pth", "others"), {"weights"}),
    ("timm", given(timm="hrnet_w48"), {"model"}),
    ("timm", given(mean=(0.1, 0.2, 0.3)), {"mean"}),
    ("timm", given(std=(0.1, 0.2, 0.3)), {"std"}),
    ("factory", written("w.pth", "others"), {"weights"}),
    ("factory", written("net.py", "import part  # changed\n"), {"code"}),
    ("factory", written("part.py", "width = 9\n"), {"code"}),
    ("factory", given(factory="net:other"), {"factory"}),
    ("factory", given(classifier="other"), {"classifier"}),
    ("factory", given(mean=(0.1, 0.2, 0.3)), {"mean"}),
    ("factory", given(std=(0.1, 0.2, 0.3)), {"std"}),
    ("factory", given(channel_order="bgr"), {"channel_order"}),
    ("factory", given(input_size=(64, 96)), {"input_size"}),
    ("factory", given(scores_only=True), {"scores_only", "classifier"}),
    ("torchvision", given(torchvision="resnet34"), {"model"}),
    ("torchvision", written("w.pth", "others"), {"weights"}),
    ("torchvision", given(mean=(0.1, 0.2, 0.3)), {"mean"}),
    ("torchvision", given(std=(0.1, 0.2, 0.3)), {"std"}),
    ("torchvision", given(scores_only=True), {"scores_only"}),
    ("smp", written("smp/config.json", json.dumps(SMP | {"classes": 3})), {"model.arguments"}),
    ("smp", written("smp/config.json", json.dumps(SMP | {"encoder_weights": "ssl"})), {"encoder_weights"}),
    ("smp", written("smp/model.safetensors", "others"), {"weights"}),
    ("smp", given(mean=(0.1, 0.2, 0.3)), {"mean"}),
    ("smp", given(std=(0.1, 0.2, 0.3)), {"std"}),
    ("smp", given(scores_only=True), {"scores_only"}),
    ("timm_folder", written("timm/config.json", json.dumps(TIMM | {"architecture": "resnet34"})), {"model.model"}),
    ("timm_folder", written("timm/config.json", json.dumps(TIMM | {"model_args": {"depth": 2}})), {"model.arguments"}),
    ("timm_folder", written("timm/model.safetensors", "others"), {"weights"}),
    ("timm_folder", given(mean=(0.1, 0.2, 0.3)), {"mean"}),
]  # fmt: skip
SAME = [
    ("factory", moved),
    ("timm", moved),
    ("factory", written("beside.py", "")),
    ("torchvision", moved),
    ("smp", written("smp/README.md", "changed")),
    ("smp", written("smp/config.json", json.dumps(SMP | {"aux_params": {"classes": 2}}))),
    ("timm_folder", written("timm/config.json", json.dumps(TIMM | {"license": "other"}))),
    ("transformers", preprocessed(size={"height": 640})),
    ("transformers", written("hub/README.md", "changed")),
    *((kind, given(license="MIT")) for kind in ("mmseg", "transformers", "timm", "factory")),
]


@pytest.mark.parametrize(("kind", "change", "named"), CHANGES)
def test_what_decides_the_numbers_is_part_of_the_key_and_is_named(folder, kind, change, named):
    source = entries(folder)[kind]
    before = source.key()
    after = change(folder, source).key()
    assert after != before
    parts = {name for name in {**before.parts, **after.parts} if before.parts.get(name) != after.parts.get(name)}
    assert parts
    assert named is None or parts == named


@pytest.mark.parametrize(("kind", "change"), SAME)
def test_what_decides_nothing_is_no_part_of_the_key(folder, kind, change):
    source = entries(folder)[kind]
    assert source.key() == change(folder, source).key()


def test_every_field_of_a_factory_and_a_timm_source_is_changed_above():
    """A field that is added and has no change in this module fails here."""
    changed = {kind: {name for of, _, names in CHANGES if of == kind for name in names or ()} for kind, *_ in CHANGES}
    common = {"name", "dataset", "features", "learning_rate", "weights_key", "license"}
    fields = {kind: set(ADAPTERS[kind].model_fields) - common for kind in ("timm", "factory")}
    # timm's name is the part "model"; such a source cannot have scores_only; a revision decides through its files.
    assert changed["timm"] - {"model"} == fields["timm"] - {"timm", "scores_only", "revision"}
    # factory_folder and input_scale decide through the code, and through mean and std.
    assert changed["factory"] - {"code"} == fields["factory"] - {"factory_folder", "input_scale"}


def test_the_key_of_an_mmsegmentation_source_is_what_it_was(folder):
    key = entries(folder)["mmseg"].key()
    assert key == source_key(folder / "mmseg.json", folder / "w.pth")
    # As computed before there were other kinds of sources.
    assert key == "5f50e30e37abaf844a116c615534a4cfbdebb6dce40798dec572cfd05698b79a"


def test_kinds_never_share_a_key(folder):
    assert len({source.key() for source in entries(folder).values()}) == 7


@pytest.mark.parametrize("kind", ["mmseg", "timm", "timm_folder", "torchvision", "smp", "factory", "transformers"])
def test_missing_weights_are_named(folder, kind):
    for name in ("w.pth", "hub/model.safetensors", "smp/model.safetensors", "timm/model.safetensors"):
        (folder / name).unlink()
    with pytest.raises(CheckpointError) as caught:
        entries(folder)[kind].key()
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["mmseg", "timm", "transformers", "torchvision", "factory"])
def test_a_sharded_model_counts_with_all_its_shards(folder, kind):
    hub, index = folder / "hub", "model.safetensors.index.json"
    (hub / "model.safetensors").unlink()
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (hub / index).write_text(json.dumps({"weight_map": shards}))
    for name in shards.values():
        (hub / name).write_bytes(b"shard")
    fields = entries(folder)[kind].model_dump()
    sharded = parse_entry({name: hub / index if name in ("weights", "checkpoint") else fields[name] for name in fields})
    keys = [sharded.key()]
    for name in shards.values():
        (hub / name).write_bytes(b"changed")
        keys.append(sharded.key())
    assert len(set(keys)) == 3
    (hub / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: no such checkpoint file"):
        sharded.key()


def test_keys_need_no_torch(folder):
    fields = [source.model_dump(mode="json") for source in entries(folder).values()]
    program = (
        "import sys; from seg_transfer.models.sources import parse_entry;"
        f"[parse_entry(one).key() for one in {fields!r}];"
        "print({'torch', 'torchvision', 'segmentation_models_pytorch', 'transformers', 'timm', 'mmengine'} "
        "& set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout == "set()\n"
