"""Architectures of mmsegmentation's zoo, in tiny sizes: read from what its Runner saves, and given other classes."""

import json
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from zoo_networks import FAMILIES, tiny_config, zoo_config

from seg_transfer.errors import ConfigError
from seg_transfer.models.adapters.mmseg import MmsegEntry
from seg_transfer.models.configs import ModelConfig, n_classes_of, read_model_config, resolve, with_classes
from seg_transfer.models.networks import build_network, class_dependent, load_weights_except_classifiers
from seg_transfer.models.outputs import score_maps
from seg_transfer.models.source_model import SourceModel

SIZE = (59, 91)
# What depends on the number of classes beside the last head's classifier.
CLASSIFIER = {"decode_head.conv_seg.weight", "decode_head.conv_seg.bias"}
MORE = {
    "ocrnet": {f"decode_head.{index}.conv_seg.{part}" for index in (0, 1) for part in ("weight", "bias")} - CLASSIFIER,
    "encnet": CLASSIFIER | {"decode_head.se_layer.weight", "decode_head.se_layer.bias"},
    "knet": {f"decode_head.kernel_generate_head.conv_seg.{part}" for part in ("weight", "bias")},
    "pointrend": {f"decode_head.0.conv_seg.{part}" for part in ("weight", "bias")},
    "segmenter": {"decode_head.cls_emb", "decode_head.mask_norm.weight", "decode_head.mask_norm.bias"},
}
STRIDES = {"fastfcn": 8, "cgnet": 8, "encnet": 8, "bisenetv1": 8, "stdc": 8, "unet": 1}
WITHOUT_CLASSIFIER = {"segmenter", "knet"}


class Trained(NamedTuple):
    """A network as it was trained, auxiliary heads included, its config, and the source that is read from its files."""

    family: str
    network: nn.Module
    model: ModelConfig
    source: SourceModel


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder, model = tmp_path_factory.mktemp("zoo"), tiny_config(request.param)
    network = build_network(model, seed=1)
    # As mmengine's Runner saves it.
    meta = {"epoch": 0, "iter": 40_000, "mmengine_version": "0.10.7", "dataset_meta": {"classes": ("road", "sky")}}
    torch.save({"meta": meta, "state_dict": network.state_dict()}, folder / "iter_40000.pth")
    (folder / "net.json").write_text(json.dumps({"model": model}))
    entry = MmsegEntry(name="net", dataset="x", config=folder / "net.json", checkpoint=folder / "iter_40000.pth")
    return Trained(request.param, network.eval(), model, entry.load())


def picture(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def answer(network: nn.Module, images: Tensor) -> Tensor:
    """The network's own scores; PointRend's network cannot be called, so those of its first head."""
    cascade = network.get_submodule("decode_head")
    if isinstance(cascade, nn.ModuleList) and type(cascade[-1]).__name__ == "PointHead":
        return cascade[0](network.extract_feat(images))
    return score_maps(network(images))[0]


def test_scores_and_features_are_those_of_the_trained_network(trained):
    source, images = trained.source, picture(*SIZE)
    normalization = source.normalization
    fitted, _ = source.sizes.fit(source.normalize(images, normalization.mean, normalization.std))
    maps = source.feature_maps(images)
    with torch.inference_mode():
        torch.testing.assert_close(maps.scores, answer(trained.network, fitted), atol=1e-5, rtol=1e-4)
    assert maps.scores.shape[1] == source.n_classes == n_classes_of(trained.model)
    if trained.family in WITHOUT_CLASSIFIER:
        assert source.classifier is None
        assert source.features_known
        return
    (features,) = maps.features
    stride = STRIDES.get(trained.family, 2 if trained.family == "lraspp" else 4)
    assert features.shape[2:] == tuple(-(-side // stride) for side in fitted.shape[2:])
    with torch.inference_mode():
        torch.testing.assert_close(source.classifier(features), maps.scores, atol=1e-5, rtol=1e-4)


def test_fine_tuning_starts_from_all_weights_but_those_of_classes(trained, tmp_path):
    model = with_classes(resolve(trained.model, None)[0], 7)
    expected = MORE.get(trained.family, CLASSIFIER)
    assert class_dependent(model) == expected
    network, fresh = (build_network(model, seed=3) for _ in range(2))
    trained_state = trained.network.state_dict()
    torch.save(trained_state, tmp_path / "net.pth")
    load_weights_except_classifiers(network, tmp_path / "net.pth", model)
    initial = fresh.state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, (initial if name in expected else trained_state)[name]), name
    assert n_classes_of(model) == 7
    with torch.inference_mode():
        scores = answer(network.eval(), torch.zeros((1, 3, *((448, 448) if trained.family == "lraspp" else (64, 64)))))
    assert scores.shape[1] == 7


# One score for two classes


def binary_config() -> ModelConfig:
    """A U-Net as people train them for a foreground: one score, and its sigmoid."""
    model = tiny_config("unet")
    losses = [{"type": "CrossEntropyLoss", "use_sigmoid": True}, {"type": "DiceLoss", "loss_weight": 3.0}]
    head = {**model["decode_head"], "out_channels": 1, "threshold": 0.3, "loss_decode": losses}
    return {**model, "decode_head": head, "auxiliary_head": {**model["auxiliary_head"], "out_channels": 1}}


def test_a_binary_head_has_two_classes():
    from seg_transfer.models.loading import load_source_model

    source = load_source_model(binary_config())
    images = picture(64, 64)
    maps = source.feature_maps(images)
    with torch.inference_mode():
        scores = source.network(source.normalize(images, source.normalization.mean, source.normalization.std))
    assert source.n_classes == 2
    assert scores.shape == (1, 1, 64, 64)
    assert torch.equal(maps.scores, torch.cat([torch.zeros_like(scores), scores], dim=1))
    torch.testing.assert_close(maps.scores.softmax(dim=1)[:, 1:], scores.sigmoid())


@pytest.mark.parametrize("n_classes", [2, 5])
def test_a_binary_head_gets_a_score_for_each_class(n_classes):
    model = with_classes(binary_config(), n_classes)
    head = model["decode_head"]
    assert head["num_classes"] == n_classes
    assert not {"out_channels", "threshold"} & head.keys()
    assert head["loss_decode"] == [
        {"type": "CrossEntropyLoss", "use_sigmoid": False, "avg_non_ignore": True},
        {"type": "DiceLoss", "loss_weight": 3.0},
    ]
    shape = build_network(model, seed=0).get_submodule("decode_head.conv_seg").weight.shape
    assert shape == (n_classes, 4, 1, 1)


def test_a_single_class_is_a_foreground():
    assert n_classes_of({"decode_head": {"num_classes": 1}}) == 2


# What the installation lacks


@pytest.mark.parametrize(
    ("config", "package"),
    [
        ("convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py", "mmpretrain"),
        ("mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py", "mmdet"),
        ("maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py", "mmdet"),
    ],
)
def test_a_missing_package_is_named(config, package):
    pytest.importorskip("mmseg")
    with pytest.raises(ConfigError, match=f"pip install {package}") as caught:
        build_network(read_model_config(zoo_config(config)), seed=0)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
