"""Models by the names that people know: downloaded from a server on 127.0.0.1, they are the models of their files."""

import hashlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from loopback import Loopback, serving
from transformers_kinds import oneformer, saved
from transformers_nets import images, written
from zoo_server import only_loopback

from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.models.adapters import _torchvision_network
from seg_transfer.models.compat import import_torchvision, quiet
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.hub import RepositoryName
from seg_transfer.models.sources import parse_entry
from seg_transfer.study.bank import read_sources

NAME = "org/tiny-net"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    pytest.importorskip("huggingface_hub")
    with serving() as loopback:
        only_loopback(loopback, tmp_path, monkeypatch)
        yield loopback


def library(name: str) -> Any:
    import_torchvision()
    with quiet():
        return pytest.importorskip(name)


def write_transformers(folder: Path) -> None:
    written(folder, library("transformers"))


def write_timm(folder: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = library("timm").create_model("resnet10t", num_classes=3)
    import_module("timm.models._hub").save_for_hf(network, folder, safe_serialization=True)


def write_smp(folder: Path) -> None:
    smp = library("segmentation_models_pytorch")
    with torch.random.fork_rng():
        torch.manual_seed(6)
        network = smp.Unet("timm-mobilenetv3_small_minimal_100", encoder_weights=None, classes=4)
    network.save_pretrained(folder)


MAKERS = {"transformers": write_transformers, "timm": write_timm, "smp": write_smp}
FURTHER: dict[str, dict[str, Any]] = {"smp": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1]}}


def entry(kind: str, model: object, **fields: Any) -> SourceEntry:
    return parse_entry({"name": "a", "dataset": "d", kind: model, **FURTHER.get(kind, {}), **fields})


def named(kind: str) -> str:
    return f"hf-hub:{NAME}" if kind == "timm" else NAME


# Repositories


@pytest.mark.parametrize("kind", MAKERS)
def test_a_repository_is_the_model_in_its_folder(kind, server, tmp_path, monkeypatch):
    folder = tmp_path / "saved"
    folder.mkdir()
    with quiet():
        MAKERS[kind](folder)
    commit = server.add_folder(NAME, folder)
    remote, local = entry(kind, named(kind)), entry(kind, folder)
    assert remote.key() == local.key()
    assert (remote.weights_revision, local.weights_revision) == (commit, None)
    assert remote.model_dump()[kind] == named(kind)
    seen, wanted = (one.load().feature_maps(images(1, 50, 70)) for one in (remote, local))
    assert len(seen.features) == len(wanted.features) > 0
    assert all(torch.equal(one, other) for one, other in zip(seen.features, wanted.features, strict=True))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert entry(kind, named(kind)).key() == local.key()
    assert not [path for path in server.requests if path.endswith((".bin", ".py", ".md"))]


def test_a_network_that_takes_its_task_brings_its_vocabulary(server, tmp_path):
    folder = tmp_path / "saved"
    saved(folder, library("transformers"), oneformer)
    (folder / "README.md").write_text("a card")
    server.add_folder(NAME, folder)
    assert entry("transformers", NAME).key() == entry("transformers", folder).key()
    asked = {path.rpartition("/")[2] for path in server.requests if "/resolve/" in path}
    assert {"vocab.json", "merges.txt"} < asked
    assert "README.md" not in asked


@pytest.mark.parametrize("kind", ["transformers", "smp"])
def test_a_folder_of_the_name_wins(kind, tmp_path, monkeypatch, server):
    (tmp_path / NAME).mkdir(parents=True)
    bank = tmp_path / "bank.yaml"
    bank.write_text(f"sources: [{{name: a, {kind}: {NAME}}}, {{name: b, {kind}: org/other}}]")
    [here, elsewhere], _ = read_sources(bank)
    assert getattr(here, kind) == tmp_path / NAME
    assert getattr(elsewhere, kind) == RepositoryName("org/other")
    assert getattr(parse_entry({"name": "a", "dataset": "d", kind: f"./{NAME}"}), kind) == Path(NAME)
    assert server.requests == []


def test_a_revision_is_that_of_a_repository(server, tmp_path):
    first, second = (tmp_path / name for name in ("first", "second"))
    written(first, library("transformers"))
    written(second, library("transformers"), preprocessor={"image_mean": [0.1, 0.2, 0.3]})
    server.add_folder(NAME, first)
    server.add_repository(NAME, {file.name: file.read_bytes() for file in second.iterdir()}, revision="v2")
    assert entry("transformers", NAME, revision="v2").key() == entry("transformers", second).key()
    assert entry("transformers", NAME).key() == entry("transformers", first).key()
    fields = {"name": "a", "revision": "v2"}
    for model in ({"transformers": str(first)}, {"timm": "resnet18", "weights": "w.pth"}, {"smp": str(first)}):
        with pytest.raises(ConfigError, match="field revision: only a repository of the Hub has one; remove it"):
            read_sources({**fields, **model})


@pytest.mark.parametrize("name", ["hf-hub:net", "hf-hub:/a/b", "hub:a/b", "hf-hub:"])
def test_other_names_for_timm_are_refused(name):
    with pytest.raises(ConfigError, match="must be the name of a network in timm, a folder, or hf-hub:ORG/NAME"):
        read_sources({"name": "a", "timm": name})


# Weights that torchvision publishes


@pytest.fixture
def published(server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of a network of torchvision, which the server has in place of the published ones; the same in a file."""
    torchvision, file = library("torchvision"), tmp_path / "weights.pth"
    with torch.random.fork_rng():
        torch.manual_seed(7)
        torch.save(torchvision.models.shufflenet_v2_x0_5(num_classes=3).state_dict(), file)
    name = f"shufflenet_v2_x0_5-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth"
    server.files[f"/models/{name}"] = file.read_bytes()
    monkeypatch.setattr(_torchvision_network, "address_of_weights", lambda *names: f"{server.url}/models/{name}")
    return file


@pytest.mark.parametrize("fields", [{}, {"weights": "DEFAULT"}, {"weights": "IMAGENET1K_V1"}])
def test_published_weights_are_downloaded(fields, published, server):
    remote = entry("torchvision", "shufflenet_v2_x0_5", **fields)
    local = entry("torchvision", "shufflenet_v2_x0_5", weights=published)
    assert remote.key() == local.key()
    seen, wanted = (one.load().feature_maps(images(1, 50, 70)) for one in (remote, local))
    assert all(torch.equal(one, other) for one, other in zip(seen.features, wanted.features, strict=True))
    assert (remote.weights_file, local.weights_file) == (None, published)
    assert len(server.requests) == 1


def test_the_address_of_published_weights_is_that_of_torchvision(server):
    library("torchvision")
    for weights in ("DEFAULT", "COCO_WITH_VOC_LABELS_V1"):
        address = _torchvision_network.address_of_weights("fcn_resnet50", weights, "source a")
        assert address == f"{server.url}/pytorch/models/fcn_resnet50_coco-1167a1af.pth"


def test_weights_with_another_hash_are_refused(server):
    library("torchvision")
    server.files["/pytorch/models/fcn_resnet50_coco-1167a1af.pth"] = b"other weights"
    with pytest.raises(CheckpointError, match="its name says 1167a1af; try again"):
        entry("torchvision", "fcn_resnet50").key()


@pytest.mark.parametrize(
    ("model", "weights", "excerpt"),
    [
        (
            "fcn_resnet50",
            "IMAGENET1K_V1",
            "no such weights; choose COCO_WITH_VOC_LABELS_V1, DEFAULT",
        ),
        (
            "fcn_resnet5",
            "DEFAULT",
            "has no such network .*; similar ones are fcn_resnet50",
        ),
    ],
)
def test_weights_that_are_not_published_are_named(model, weights, excerpt):
    library("torchvision")
    with pytest.raises(ConfigError, match=excerpt) as caught:
        entry("torchvision", model, weights=weights).key()
    assert "\n" not in str(caught.value)


# Names on the command line


@pytest.mark.parametrize(
    ("text", "name", "fields"),
    [
        ("transformers:nvidia/segformer-b0", "segformer-b0", {"transformers": "nvidia/segformer-b0"}),
        ("timm:hf-hub:timm/vit_small.lvd142m", "vit_small.lvd142m", {"timm": "hf-hub:timm/vit_small.lvd142m"}),
        ("torchvision:deeplabv3_resnet50", "deeplabv3_resnet50", {"torchvision": "deeplabv3_resnet50"}),
        ("smp:smp-hub/upernet", "upernet", {"smp": "smp-hub/upernet"}),
        ("mmseg:fcn_hr18s_4xb2", "fcn_hr18s_4xb2", {"mmseg": "fcn_hr18s_4xb2"}),
    ],
)
def test_a_kind_and_a_model_are_an_entry(text, name, fields):
    [found], _ = read_sources(text)
    assert found.model_dump() == {"name": name, "dataset": name, **fields}


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_folder_after_a_kind_is_that_folder(tmp_path, ending):
    [found], _ = read_sources(f"transformers:{tmp_path}/net{ending}")
    assert (found.name, found.transformers) == ("net", tmp_path / "net")


def test_what_a_kind_lacks_is_named():
    with pytest.raises(ConfigError, match=r"^timm:resnet18: source 'resnet18': field weights is missing"):
        read_sources("timm:resnet18")
