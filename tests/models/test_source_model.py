"""Any mmseg network as a source: its features are what its class scores are a linear function of."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_source import MEAN, STD, images, message_of
from torch import Tensor

from seg_transfer.errors import ConfigError
from seg_transfer.models.compat import import_mmseg
from seg_transfer.models.configs import with_normalization
from seg_transfer.models.loading import load_source_model
from seg_transfer.models.reading import read_network
from seg_transfer.models.source_model import SourceModel


def mmseg_config(name: str) -> Path:
    import_mmseg()
    import mmseg

    return Path(mmseg.__file__).parent / ".mim" / "configs" / name


def classified(source: SourceModel, features: Tensor) -> Tensor:
    """W f + b at every position, in float64."""
    weight, bias = source.classifier.weight[:, :, 0, 0].double(), source.classifier.bias.double()
    return torch.einsum("cd,bdhw->bchw", weight, features.double()) + bias[:, None, None]


def normalized(source: SourceModel, pixels: Tensor) -> Tensor:
    return source.normalize(pixels, source.normalization.mean, source.normalization.std)


# Feature maps


def test_features_are_the_concatenated_branches(source):
    normalized = (images().double() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.inference_mode():
        branches = source.network.backbone(normalized.float())
    size = branches[0].shape[2:]
    expected = torch.cat([F.interpolate(branch, size=size, mode="bilinear") for branch in branches], dim=1)
    features = source.feature_maps(images()).features[0]
    assert features.shape == (2, 64, 12, 18)
    assert features.std() > 0.1
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)


def test_scores_are_a_linear_function_of_the_features(source):
    maps = source.feature_maps(images())
    assert maps.scores.shape == (2, 5, 12, 18)
    torch.testing.assert_close(maps.scores.double(), classified(source, maps.features[0]), atol=1e-5, rtol=1e-4)


def test_properties_of_a_source(source):
    assert (source.n_features, source.n_classes, source.normalization.channel_order) == (64, 5, "rgb")
    assert source.normalization.mean == pytest.approx(MEAN)
    assert source.normalization.std == pytest.approx(STD)
    assert not source.network.training


def test_looking_changes_nothing(source):
    before = {name: tensor.clone() for name, tensor in source.network.state_dict().items()}
    first, again = (source.feature_maps(images()).features[0] for _ in range(2))
    assert torch.equal(first, again)
    assert not first.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in source.network.state_dict().items())
    assert not source.classifier._forward_hooks


def test_images_of_a_batch_do_not_see_each_other(source):
    both = source.feature_maps(images()).features[0]
    alone = torch.cat([source.feature_maps(image[None]).features[0] for image in images()])
    torch.testing.assert_close(both, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bgr_to_rgb", [True, False])
def test_images_are_normalized_as_mmseg_does(model, bgr_to_rgb):
    preprocessor = {**model["data_preprocessor"], "bgr_to_rgb": bgr_to_rgb}
    source = load_source_model({**model, "data_preprocessor": preprocessor})
    bgr = images().flip(1)
    prepared = source.network.data_preprocessor({"inputs": list(bgr)})["inputs"]
    with torch.inference_mode():
        expected = source.network(prepared)
    torch.testing.assert_close(source.feature_maps(images()).scores, expected, atol=1e-4, rtol=1e-4)


def test_a_bgr_network_is_an_rgb_network_of_swapped_colors(model, source):
    preprocessor = {**model["data_preprocessor"], "bgr_to_rgb": False}
    bgr = load_source_model({**model, "data_preprocessor": preprocessor})
    assert bgr.normalization.channel_order == "bgr"
    assert bgr.normalization.mean == pytest.approx(MEAN[::-1])
    assert bgr.normalization.std == pytest.approx(STD[::-1])
    swapped = source.feature_maps(images().flip(1)).features[0]
    torch.testing.assert_close(bgr.feature_maps(images()).features[0], swapped, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(
        bgr.feature_maps(images()).features[0], source.feature_maps(images()).features[0], atol=0.01
    )


def test_another_normalization_replaces_the_own_one(model, source):
    mean, std = (0.1, 0.7, 0.3), (0.4, 0.15, 0.25)
    own = load_source_model(with_normalization(model, mean, std)).feature_maps(images()).features[0]
    replaced = source.feature_maps(images(), mean, std).features[0]
    torch.testing.assert_close(replaced, own, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(replaced, source.feature_maps(images()).features[0], atol=0.01)


def test_a_network_of_unknown_normalization_is_refused(model):
    with pytest.raises(ConfigError, match="states no mean and std of images") as caught:
        load_source_model({**model, "data_preprocessor": {"type": "SegDataPreProcessor", "bgr_to_rgb": True}})
    assert "give the source mean and std (RGB, fractions of 255)" in message_of(caught)


def test_a_network_that_states_mean_0_and_std_1_takes_the_bytes(model):
    preprocessor = {"type": "SegDataPreProcessor", "bgr_to_rgb": True, "mean": [0, 0, 0], "std": [1, 1, 1]}
    plain = load_source_model({**model, "data_preprocessor": preprocessor})
    assert plain.normalization.mean == (0, 0, 0)
    assert plain.normalization.std == pytest.approx((1 / 255,) * 3)
    with torch.inference_mode():
        expected = plain.network(images().float())
    torch.testing.assert_close(plain.feature_maps(images()).scores, expected, atol=1e-2, rtol=1e-4)


def test_a_normalization_of_other_than_three_channels_is_refused(model):
    with pytest.raises(ConfigError, match="data_preprocessor: mean and std must have three channels"):
        load_source_model({**model, "data_preprocessor": {"type": "SegDataPreProcessor", "mean": [1], "std": [1]}})


# Other networks


@pytest.mark.parametrize(
    ("config", "n_features", "stride"),
    [
        ("deeplabv3plus/deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024.py", 512, 4),
        ("segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py", 256, 4),
        ("upernet/upernet_r50_4xb2-40k_cityscapes-512x1024.py", 512, 4),
        ("ocrnet/ocrnet_hr18s_4xb2-40k_cityscapes-512x1024.py", 512, 4),
    ],
)
def test_networks_of_mmseg(config, n_features, stride):
    source = load_source_model(mmseg_config(config))
    maps = source.feature_maps(images(1, 64, 64))
    assert source.n_features == n_features
    assert maps.features[0].shape == (1, n_features, 64 // stride, 64 // stride)
    assert maps.scores.shape == (1, source.n_classes, 64 // stride, 64 // stride)
    rounding = 1e-5 * float(maps.features[0].abs().max())
    assert maps.scores.std() > 1000 * rounding
    torch.testing.assert_close(maps.scores.double(), classified(source, maps.features[0]), atol=rounding, rtol=1e-4)
    assert source.normalization.mean == pytest.approx((0.485, 0.456, 0.406), abs=1e-3)
    assert not hasattr(source.network, "auxiliary_head")


SEGMENTER = "segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py"


def test_a_head_without_a_classifier_is_read_by_the_blocks_of_its_transformer():
    """Segmenter compares pixels with a vector of each class; its ViT has twelve blocks of one stride."""
    segmenter = load_source_model(mmseg_config(SEGMENTER))
    assert [layer.name for layer in segmenter.layers] == [f"backbone.layers.{index}" for index in (2, 5, 8, 11)]
    assert {layer.stride for layer in segmenter.layers} == {16}
    assert (segmenter.n_features, segmenter.n_classes, segmenter.classifier) == (4 * 192, 150, None)


def test_a_head_without_a_classifier_has_no_last_features():
    with pytest.raises(ConfigError) as caught:
        load_source_model(mmseg_config(SEGMENTER), features="last")
    assert message_of(caught) == (
        "network EncoderDecoder: no last layer gives its class scores, so features: last has no meaning; choose "
        "features: stages, or set scores_only: true to use its class probabilities alone"
    )


def test_a_cascade_that_ends_in_points_is_read_before_them(model):
    """PointHead improves single points of the first head's map when images are segmented."""
    head = {"type": "PointHead", "in_channels": [4], "in_index": [0], "channels": 8, "num_classes": 5}
    cascade = {**model, "type": "CascadeEncoderDecoder", "num_stages": 2, "decode_head": [model["decode_head"], head]}
    coarse, plain = load_source_model(cascade), load_source_model(model)
    assert coarse.classifier_name == "decode_head.0.conv_seg"
    assert torch.equal(coarse.feature_maps(images()).features[0], plain.feature_maps(images()).features[0])


def test_other_outputs_beside_the_scores_are_ignored(model):
    """An EncHead also answers which classes the scene has."""
    head = {key: model["decode_head"][key] for key in ("in_index", "in_channels", "num_classes", "norm_cfg")}
    encoding = load_source_model({**model, "decode_head": {**head, "type": "EncHead", "channels": 8, "num_codes": 4}})
    with torch.inference_mode():
        scores, scene = encoding.network(normalized(encoding, images()))
    assert scene.shape == (2, 5)
    assert torch.equal(encoding.feature_maps(images()).scores, scores)


def test_scores_that_go_on_after_the_classifier_are_not_its_own(source):
    network, name = source.network, source.classifier_name
    last = network.register_forward_hook(lambda _module, _inputs, scores: 2 * scores)
    with pytest.raises(ConfigError, match=f"its class scores are not the output of its layer '{name}'") as caught:
        read_network(network, source.normalization, classifier=name)
    assert "or set scores_only: true" in message_of(caught)
    last.remove()
    assert read_network(network, source.normalization, classifier=name) == source


def test_a_head_without_a_classifier_has_scores(model):
    """Segmenter compares pixels with a vector of each class."""
    segmenter = load_source_model(mmseg_config(SEGMENTER), scores_only=True)
    maps = segmenter.feature_maps(images(1, 64, 64))
    with torch.inference_mode():
        expected = segmenter.network(normalized(segmenter, images(1, 64, 64)))
    assert (segmenter.features_known, segmenter.n_features, segmenter.n_classes) == (False, 0, 150)
    assert maps.features == ()
    assert torch.equal(maps.scores, expected)
