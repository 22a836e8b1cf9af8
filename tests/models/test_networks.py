"""Networks from configs: published sizes, weights that depend on a seed alone, checkpoints that fit or are named."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.models.compat import import_mmseg
from seg_transfer.models.configs import (
    heads,
    n_classes_of,
    portable,
    read_model_config,
    with_classes,
    with_normalization,
)
from seg_transfer.models.networks import (
    build_network,
    classifier_name,
    load_backbone,
    load_weights,
    load_weights_except_classifiers,
    to_device,
)
from seg_transfer.resources import shipped
from seg_transfer.training.crops import as_mmseg

CONFIGS = shipped("configs/models")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)


@pytest.fixture(scope="module")
def tiny() -> dict[str, Any]:
    return with_normalization(with_classes(read_model_config(CONFIGS / "hrnetv2_tiny.py"), 5), MEAN, STD)


@pytest.fixture
def network(tiny: dict[str, Any]) -> nn.Module:
    return build_network(tiny, seed=0)


@pytest.fixture
def other(tiny: dict[str, Any]) -> dict[str, Tensor]:
    """Weights of another seed, every number of them changed."""
    return {name: tensor + 1 for name, tensor in build_network(tiny, seed=1).state_dict().items()}


def copy_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def equal_names(state: dict[str, Tensor], expected: dict[str, Tensor]) -> set[str]:
    return {name for name in state if torch.equal(state[name], expected[name])}


def message_of(error: pytest.ExceptionInfo[Exception]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# Configs


def test_classes_and_normalization_change_nothing_else(tiny):
    base = read_model_config(CONFIGS / "hrnetv2_tiny.py")
    assert n_classes_of(base) == 19
    assert n_classes_of(tiny) == 5
    assert tiny["data_preprocessor"]["mean"] == pytest.approx([102, 127.5, 153])
    assert tiny["data_preprocessor"]["std"] == pytest.approx([51, 76.5, 25.5])
    assert tiny["data_preprocessor"]["bgr_to_rgb"] is True
    changed = {**tiny, "decode_head": {**tiny["decode_head"], "num_classes": 19}}
    assert {**changed, "data_preprocessor": base["data_preprocessor"]} == base


def test_with_classes_reaches_every_head_and_its_loss():
    loss = {"type": "CrossEntropyLoss", "class_weight": [1.0, 2.0]}
    model = {
        "decode_head": [{"num_classes": 2, "loss_decode": loss}, {"num_classes": 2, "out_channels": 1}],
        "auxiliary_head": {"num_classes": 2, "loss_decode": [loss, {"type": "DiceLoss"}]},
    }
    changed = with_classes(model, 7)
    assert [head["num_classes"] for head in heads(changed)] == [7, 7, 7]
    assert "class_weight" not in json.dumps(changed)
    assert "out_channels" not in json.dumps(changed)
    assert changed["decode_head"][0]["loss_decode"]["avg_non_ignore"] is True
    assert loss["class_weight"] == [1.0, 2.0]


def test_portable_drops_downloads_and_synchronized_normalization():
    model = {
        "type": "EncoderDecoder",
        "pretrained": "open-mmlab://resnet50_v1c",
        "backbone": {
            "norm_cfg": {"type": "SyncBN", "requires_grad": True},
            "init_cfg": {"type": "Pretrained", "checkpoint": "https://example.org/net.pth"},
            "stages": [{"norm_cfg": {"type": "SyncBN", "momentum": 0.01}}],
        },
        "decode_head": {"norm_cfg": {"type": "GN", "num_groups": 8}, "init_cfg": {"type": "Normal", "std": 0.1}},
        "tuple": (1, (2, None)),
    }
    before = repr(model)
    assert portable(model) == {
        "type": "EncoderDecoder",
        "backbone": {
            "norm_cfg": {"type": "BN", "requires_grad": True},
            "stages": [{"norm_cfg": {"type": "BN", "momentum": 0.01}}],
        },
        "decode_head": {"norm_cfg": {"type": "GN", "num_groups": 8}, "init_cfg": {"type": "Normal", "std": 0.1}},
        "tuple": [1, [2, None]],
    }
    assert repr(model) == before


def test_a_portable_config_survives_json_and_builds_the_same(tiny, network):
    again = build_network(json.loads(json.dumps(tiny)), seed=0)
    assert equal_names(again.state_dict(), network.state_dict()) == network.state_dict().keys()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model = 3", "field model must be an mmseg segmentor"),
        ("model = dict(backbone=dict(type='HRNet'))", "with backbone and decode_head"),
        ("classes = 3", "field model must be"),
        ("model = dict(", "not a readable mmengine config"),
        ("raise RuntimeError('first line\\nsecond line')", "not a readable mmengine config"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_configs_that_describe_no_segmentor(tmp_path, text, reason):
    file = tmp_path / "model.py"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(str(file))) as caught:
        read_model_config(file)
    assert reason in message_of(caught)


def test_a_missing_config(tmp_path):
    with pytest.raises(ConfigError, match="no such model config"):
        read_model_config(tmp_path / "none.py")


@pytest.mark.parametrize(
    ("change", "excerpt"),
    [
        ({"type": "NoSuchSegmentor"}, "model config: field model.type: 'NoSuchSegmentor': only classes in "),
        (
            {"decode_head": {"type": "FCNHead", "in_channels": 3, "colour": "red"}},
            "model config: field model: EncoderDecoder cannot be built (",
        ),
    ],
)
def test_a_config_that_cannot_be_built(tiny, change, excerpt):
    with pytest.raises(ConfigError) as caught:
        build_network({**tiny, **change}, seed=0)
    assert message_of(caught).startswith(excerpt)


# Weights


def test_weights_depend_on_the_seed_alone(tiny, network):
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    again, different = build_network(tiny, seed=0).state_dict(), build_network(tiny, seed=1).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert equal_names(again, network.state_dict()) == again.keys()
    convolutions = {name for name, tensor in again.items() if tensor.ndim == 4}
    assert convolutions
    assert not convolutions & equal_names(different, again)


def test_moving_to_a_device_keeps_the_numbers(network):
    before = copy_of(network)
    moved = to_device(network, "cpu")
    assert equal_names(moved.state_dict(), before) == before.keys()
    assert moved.get_submodule("backbone.conv1").weight.is_contiguous(memory_format=torch.channels_last)


def saved(folder: Path, state: dict[str, Tensor]) -> Path:
    torch.save({"state_dict": state}, file := folder / "net.pth")
    return file


def test_load_weights_takes_everything(tmp_path, network, other):
    load_weights(network, saved(tmp_path, {**other, "auxiliary_head.conv_seg.weight": torch.ones(9)}))
    assert equal_names(network.state_dict(), other) == other.keys()


def test_the_first_parameter_that_does_not_fit_is_named(tmp_path, network, other):
    first, last = "backbone.conv1.weight", "decode_head.conv_seg.bias"
    narrow = {**other, first: other[first][:, :2]}
    lacking = {name: other[name] for name in other if name not in (first, last)}
    for state, reason in [
        (lacking, f"lacks parameter {first} (found {len(lacking)} of {len(other)} under state_dict);"),
        (narrow, f"{first} has shape (64, 2, 3, 3), in the network (64, 3, 3, 3);"),
        ({**other, "neck.b": torch.ones(1)}, "has unknown parameter neck.b under state_dict; name weights"),
    ]:
        before = copy_of(network)
        with pytest.raises(CheckpointError) as caught:
            load_weights(network, saved(tmp_path, state))
        assert message_of(caught).startswith(f"{tmp_path / 'net.pth'}: {reason}")
        assert equal_names(network.state_dict(), before) == before.keys()


def test_another_number_of_classes_is_named(tmp_path, tiny, network):
    state = build_network(with_classes(tiny, 21), seed=0).state_dict()
    with pytest.raises(CheckpointError, match=r"classes differ: .*conv_seg.weight has 21 outputs, in the network 5; "):
        load_weights(network, saved(tmp_path, state))


@pytest.mark.parametrize("n_classes", [5, 21])
def test_only_the_classifier_stays_fresh_for_new_classes(tmp_path, tiny, network, n_classes):
    fresh = copy_of(network)
    trained = build_network(with_classes(tiny, n_classes), seed=1).state_dict()
    donor = {name: tensor + 1 for name, tensor in trained.items()}
    load_weights_except_classifiers(network, saved(tmp_path, donor), tiny)
    found = network.state_dict()
    classifier = {"decode_head.conv_seg.weight", "decode_head.conv_seg.bias"}
    assert equal_names({name: found[name] for name in classifier}, fresh) == classifier
    others = found.keys() - classifier
    assert equal_names({name: found[name] for name in others}, donor) == others


def test_a_head_that_lacks_a_layer_is_not_half_loaded(tmp_path, tiny, network, other):
    del other["backbone.layer1.0.bn1.weight"]
    with pytest.raises(CheckpointError, match=r"net.pth: lacks parameter backbone.layer1.0.bn1.weight"):
        load_weights_except_classifiers(network, saved(tmp_path, other), tiny)


@pytest.mark.parametrize("prefix", ["backbone.", ""])
def test_imagenet_weights_fill_the_backbone_alone(tmp_path, network, other, prefix):
    fresh = copy_of(network)
    start = "backbone."
    state = {prefix + name.removeprefix(start): other[name] for name in other if name.startswith(start)}
    extra = {"head.fc.weight": torch.ones(1000, 2), "incre_modules.0.bias": torch.ones(3)}
    load_backbone(network, saved(tmp_path, {**state, **extra}))
    found = network.state_dict()
    own = {name for name in found if name.startswith(start)}
    assert equal_names({name: found[name] for name in own}, other) == own
    assert equal_names({name: found[name] for name in found.keys() - own}, fresh) == found.keys() - own


def test_imagenet_weights_of_another_network(tmp_path, network, other):
    state = {name.removeprefix("backbone."): tensor for name, tensor in other.items()}
    with pytest.raises(CheckpointError, match=r"conv2.weight has shape \(1,\), in the network \(64, 64, 3, 3\)"):
        load_backbone(network, saved(tmp_path, {**state, "conv2.weight": torch.ones(1)}))
    del state["conv2.weight"]
    with pytest.raises(CheckpointError, match=r"net.pth: lacks parameter conv2.weight"):
        load_backbone(network, saved(tmp_path, state))


def test_the_classifier_of_a_cascade_is_that_of_its_last_head(tiny):
    cascade = {**tiny, "type": "CascadeEncoderDecoder", "num_stages": 2}
    head = tiny["decode_head"]
    cascade["decode_head"] = [head, {**head, "num_classes": 7}]
    network = build_network(cascade, seed=0)
    assert n_classes_of(cascade) == 7
    assert classifier_name(network) == "decode_head.1.conv_seg"


def test_a_head_without_a_classifier(network):
    del network.get_submodule("decode_head").conv_seg
    assert classifier_name(network) is None


def test_a_config_that_pads_to_its_own_crop_size_trains_on_the_crops_it_is_given():
    """mmseg's SegFormer pads to 512 x 512: around a crop of 64 x 96 that would be 97 % black."""
    import_mmseg()
    import mmseg

    file = Path(mmseg.__file__).parent / ".mim/configs/segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py"
    crop = as_mmseg(np.full((64, 96, 3), 7, np.uint8), np.ones((64, 96), np.uint8), Path("crop.png"))
    batch = {name: [value, value] for name, value in crop.items()}
    padded = build_network(with_classes(read_model_config(file), 5), seed=0).data_preprocessor(batch, training=True)
    assert padded["inputs"].shape == (2, 3, 64, 96)
    assert all(sample.gt_sem_seg.data.shape == (1, 64, 96) for sample in padded["data_samples"])
