"""Folders of networks of every kind predict the same without this package, by the file load.py that lies in them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data.conftest import plain_manifest
from PIL import Image
from prediction.conftest import COLOR_IDS
from source_cards import source_card
from token_net import token_factory
from transformers_nets import beit, segformer, transformers_library, upernet, written

from seg_transfer.data.label_ids import LabelIds, draw_labels
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.models.checkpoints import save_weights
from seg_transfer.models.compat import import_torchvision, quiet
from seg_transfer.models.configs import read_model_config, with_classes, with_normalization
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.heads import with_new_head
from seg_transfer.models.loading import as_source_model, trained_spec
from seg_transfer.models.networks import build_network
from seg_transfer.models.outputs import enlarge
from seg_transfer.models.source_model import SourceModel
from seg_transfer.models.sources import parse_entry
from seg_transfer.prediction.predictor import load_predictor
from seg_transfer.prediction.take_home import model_description, network_input, write_loader
from seg_transfer.resources import shipped
from seg_transfer.store.content_key import sha256_of_file
from seg_transfer.store.source_card import write_source_card

MANIFEST = DatasetManifest.model_validate(plain_manifest(crop_size=(64, 64)))
# In a process that has not imported this package and cannot.
ALONE = """
import sys
sys.modules["seg_transfer"] = None
import importlib.util, pathlib, numpy
for folder, image, output, label_map in [line.split(chr(9)) for line in sys.stdin.read().splitlines()]:
    spec = importlib.util.spec_from_file_location("load", pathlib.Path(folder, "load.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.load(folder, trust_code=True)
    pixels = network.normalize(module.torch.tensor(network.read(image)).permute(2, 0, 1)[None])
    with module.torch.inference_mode():
        scores = network(pixels)[0]
    numpy.savez(output, scores=scores, classes=module.predict(network, image))
    if label_map:
        sys.argv = ["load.py", image, label_map, "--trust-code"]
        module.main()
"""


def spread(network: torch.nn.Module) -> None:
    """Make scores of random weights differ between places; states of normalizations too."""
    generator = torch.Generator().manual_seed(8)
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.is_floating_point() and "running_var" not in name:
            tensor.data += 0.1 * torch.randn(tensor.shape, generator=generator)


def keep(folder: Path, trained: SourceModel, model: dict[str, Any], labels: LabelIds) -> Path:
    """Write the folder of a trained network."""
    folder.mkdir()
    save_weights(trained.network.state_dict(), folder / "weights.safetensors")
    card = source_card(
        "net",
        classes=MANIFEST.classes,
        model=model_description(model, trained.network),
        sha256=sha256_of_file(folder / "weights.safetensors"),
        labels=labels,
        input=network_input(trained, MANIFEST),
    )
    write_source_card(card, folder)
    write_loader(folder)
    return folder


def mmseg(folder: Path) -> Path:
    plain = with_classes(read_model_config(shipped("configs/models/hrnetv2_tiny.py")), 3)
    model = with_normalization(plain, MANIFEST.mean, MANIFEST.std)
    network = build_network(model, seed=1)
    spread(network)
    return keep(folder, as_source_model(network, model), model, COLOR_IDS)


def fine_tuned(folder: Path, fields: dict[str, Any]) -> Path:
    """Write the folder of a source with a new last layer."""
    entry: SourceEntry = parse_entry({"name": "net", "dataset": "elsewhere", **fields})
    trained = with_new_head(entry.load(), 3, seed=5)
    spread(trained.network)
    model = trained_spec(entry, trained, 3, trained.normalization)
    return keep(folder, trained, model, LabelIds(kind="values", ids=(1, 2, 300)))


def weights_of(network: torch.nn.Module, file: Path) -> Path:
    spread(network)
    save_weights(network.state_dict(), file)
    return file


def timm_backbone(name: str) -> Callable[[Path], dict[str, Any]]:
    def fields(folder: Path) -> dict[str, Any]:
        import_torchvision()
        with quiet():
            timm = pytest.importorskip("timm")
            network = timm.create_model(name, num_classes=7)
        return {"timm": name, "weights": weights_of(network, folder / "w.safetensors")}

    return fields


def timm_with_linear_head(name: str) -> Callable[[Path], dict[str, Any]]:
    """A network whose weights have names backbone.* and classifier.*: it has classes already."""

    def fields(folder: Path) -> dict[str, Any]:
        entry = parse_entry({"name": "net", "dataset": "elsewhere", **timm_backbone(name)(folder)})
        network = with_new_head(entry.load(), 4, seed=2).network
        return {"timm": name, "weights": weights_of(network, folder / "head.safetensors")}

    return fields


def torchvision_network(name: str, **options: Any) -> Callable[[Path], dict[str, Any]]:
    def fields(folder: Path) -> dict[str, Any]:
        import_torchvision()
        with quiet():
            models = pytest.importorskip("torchvision.models")
            network = models.get_model(name, weights=None, **options)
        return {"torchvision": name, "weights": weights_of(network, folder / "w.safetensors")}

    return fields


def smp_folder(folder: Path) -> dict[str, Any]:
    import_torchvision()
    with quiet():
        smp = pytest.importorskip("segmentation_models_pytorch")
        small = {"decoder_channels": (16, 16, 8, 8, 8), "activation": "softmax2d"}
        network = smp.Unet("mobilenet_v2", encoder_weights=None, classes=5, **small)
        spread(network)
        network.save_pretrained(folder / "saved")
    return {"smp": folder / "saved", "mean": (0.4,) * 3, "std": (0.3,) * 3}


def transformers_folder(make: Callable[[Any], Any]) -> Callable[[Path], dict[str, Any]]:
    def fields(folder: Path) -> dict[str, Any]:
        written(folder / "saved", transformers_library(), make)
        return {"transformers": folder / "saved"}

    return fields


def dinov2(library: Any) -> Any:
    config = library.Dinov2Config(
        hidden_size=24, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=14, mlp_ratio=2
    )
    return library.Dinov2Model(config)


def swin(library: Any) -> Any:
    config = library.SwinConfig(embed_dim=8, depths=[1, 1, 1], num_heads=[1, 2, 2], window_size=4, image_size=64)
    return library.SwinModel(config)


def mask2former(library: Any) -> Any:
    backbone = library.SwinConfig(
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        image_size=64,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = library.Mask2FormerConfig(
        backbone_config=backbone,
        num_labels=4,
        hidden_dim=32,
        feature_size=32,
        mask_feature_size=32,
        num_queries=6,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
    )
    return library.Mask2FormerForUniversalSegmentation(config)


OWN_NET = """
from torch import nn


def make():
    return nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 4, 3))
"""


def factory(folder: Path) -> dict[str, Any]:
    """A network of 3 x 3 convolutions that takes BGR; its code is found beside load.py or where it was."""
    (folder / "own_nets.py").write_text(OWN_NET)
    made: dict[str, Any] = {}
    exec(OWN_NET, made)
    weights = weights_of(made["make"](), folder / "w.safetensors")
    code = {"factory": "own_nets:make", "factory_folder": folder, "classifier": "2", "weights": weights}
    return {**code, "mean": (0.4,) * 3, "std": (0.3,) * 3, "channel_order": "bgr"}


KINDS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "factory": factory,
    "factory of tokens": token_factory,
    "segformer": transformers_folder(segformer),
    "upernet": transformers_folder(upernet),
    "beit": transformers_folder(beit),
    "dinov2": transformers_folder(dinov2),
    "swin": transformers_folder(swin),
    "mask2former": transformers_folder(mask2former),
    "timm vit": timm_backbone("test_vit"),
    "timm resnet": timm_backbone("test_resnet"),
    "timm convnext": timm_backbone("test_convnext"),
    "timm with a head": timm_with_linear_head("test_resnet"),
    "torchvision lraspp": torchvision_network("lraspp_mobilenet_v3_large", weights_backbone=None, num_classes=4),
    "torchvision backbone": torchvision_network("mobilenet_v3_small"),
    "smp": smp_folder,
}


WITH_LABEL_MAPS = ("mmseg", "factory")  # of colors, and of 16-bit numbers


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {"mmseg": mmseg(tmp_path_factory.mktemp("mmseg") / "kept")}
    for name, fields in KINDS.items():
        own = tmp_path_factory.mktemp(name.replace(" ", "_"))
        made[name] = fine_tuned(own / "kept", fields(own))
    return made


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    coarse = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(coarse).resize((97, 75), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture(scope="module")
def alone(folders: dict[str, Path], photo: Path) -> dict[str, Any]:
    """What each load.py answers, all in one process."""
    outputs = {name: folder.parent / "answers.npz" for name, folder in folders.items()}
    drawn = {name: folders[name].parent / "classes.png" for name in WITH_LABEL_MAPS}
    lines = [f"{folder}\t{photo}\t{outputs[name]}\t{drawn.get(name, '')}" for name, folder in folders.items()]
    command, clean = [sys.executable, "-W", "ignore", "-c", ALONE], os.environ | {"PYTHONPATH": ""}
    subprocess.run(command, input="\n".join(lines), env=clean, cwd=photo.parent, check=True, text=True)
    return {name: np.load(output) for name, output in outputs.items()}


@pytest.mark.parametrize("name", ["mmseg", *KINDS])
def test_it_predicts_what_we_predict(name: str, folders: dict[str, Path], photo: Path, alone: dict[str, Any]) -> None:
    predictor, pixels = load_predictor(folders[name]), np.array(Image.open(photo))
    maps = predictor.source.feature_maps(torch.tensor(pixels).permute(2, 0, 1)[None])
    scores = enlarge(maps.scores, maps.extent, (75, 97))[0].numpy()
    largest = np.abs(scores).max()
    assert np.ptp(scores, axis=(1, 2)).max() > 1e-2 * largest  # they depend on the place
    assert np.abs(alone[name]["scores"] - scores).max() < 1e-4 * largest
    # The other classes are those of an image of another size, to which predictions resize.
    assert (alone[name]["classes"] == predictor.predict(pixels)).mean() > 0.999


@pytest.mark.parametrize("name", WITH_LABEL_MAPS)
def test_its_label_maps_hold_the_ids_of_the_dataset(
    name: str, folders: dict[str, Path], photo: Path, alone: dict[str, Any]
) -> None:
    labels = load_predictor(folders[name]).labels
    with Image.open(folders[name].parent / "classes.png") as written:
        expected = draw_labels(alone[name]["classes"], labels)
        assert written.mode == expected.mode
        assert np.array_equal(written, expected)
