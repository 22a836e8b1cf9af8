"""Networks of transformers without a head as sources: which maps are read, and that they are the library's own."""

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers_kinds as kinds
from torch import Tensor
from transformers_kinds import STAGES, saved
from transformers_nets import PREPROCESSOR, entry, images, normalized, refusal

from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.models.adapters._transformers_folder import image_size_of, read_folder, role_of
from seg_transfer.models.checkpoints import load_checkpoint, save_weights
from seg_transfer.models.compat import import_torchvision, quiet
from seg_transfer.models.heads import with_new_head
from seg_transfer.models.loading import build_trained, trained_spec
from seg_transfer.models.networks import to_device

# Of six blocks, those after the first one that end at a quarter, a half, three quarters and the whole depth.
BLOCKS = (2, 3, 5, 6)
# Sides that no patch and no stride divides.
HEIGHT, WIDTH = 59, 75


@pytest.fixture(scope="module")
def library() -> Any:
    import_torchvision()
    with quiet():
        return pytest.importorskip("transformers")


def padded(multiple: int) -> Tensor:
    """Return normalized images whose sides are multiples of a number, padded with the mean color."""
    pixels = normalized(images(2, HEIGHT, WIDTH))
    return F.pad(pixels, (0, -WIDTH % multiple, 0, -HEIGHT % multiple))


def patches(states: Any, n_prefix: int, last: Tensor | None = None) -> list[Tensor]:
    """Arrange the tokens of the chosen blocks as maps of 8 x 10 patches."""
    tokens = [states[block] for block in BLOCKS[:-1]] + [states[-1] if last is None else last]
    return [one[:, n_prefix:].unflatten(1, (8, 10)).permute(0, 3, 1, 2) for one in tokens]


def check_features(folder: Any, expected: Any, strides: Any) -> None:
    source = entry(folder).load()
    assert (source.n_classes, source.scores_known, source.classifier_name) == (0, False, None)
    assert [layer.stride for layer in source.layers] == list(strides)
    maps = source.feature_maps(images(2, HEIGHT, WIDTH))
    assert maps.scores is None
    assert source.n_features == sum(one.shape[1] for one in expected)
    for found, wanted in zip(maps.features, expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=1e-3)


@pytest.mark.parametrize(
    ("make", "trunk", "n_prefix"),
    [
        (kinds.vit_classifier, lambda network: network.vit, 1),
        (kinds.deit, lambda network: network, 2),
        (kinds.clip, lambda network: network.vision_model, 1),
        (kinds.siglip, lambda network: network, 0),
    ],
)
def test_a_vit_gives_the_patches_of_four_blocks(tmp_path, library, make, trunk, n_prefix):
    """The last ones are those after the last normalization, if the library's own last state is."""
    network = trunk(saved(tmp_path, library, make))
    with quiet(), torch.inference_mode():
        output = network(padded(8), output_hidden_states=True, interpolate_pos_encoding=True)
    check_features(tmp_path, patches(output.hidden_states, n_prefix, output.last_hidden_state), (8,) * 4)


@pytest.mark.parametrize(
    ("make", "trunk", "n_prefix"),
    [
        (kinds.dinov2, lambda network: network, 1),
        (kinds.dinov2_with_registers, lambda network: network.dinov2_with_registers, 4),
        (kinds.dinov3, lambda network: network, 3),
    ],
)
def test_dino_gives_the_normalized_patches_of_four_blocks(tmp_path, library, make, trunk, n_prefix):
    network = trunk(saved(tmp_path, library, make))
    norm = network.norm if make is kinds.dinov3 else network.layernorm
    with quiet(), torch.inference_mode():
        states = network(padded(8), output_hidden_states=True).hidden_states
        expected = patches([norm(state) for state in states], n_prefix)
    check_features(tmp_path, expected, (8,) * 4)


@pytest.mark.parametrize(
    ("make", "name", "multiple"),
    [
        (kinds.swin, "SwinBackbone", 1),
        # Its stride-2 convolutions have no padding: what is left over at the right would not be seen.
        (kinds.convnext, "ConvNextBackbone", 32),
        (kinds.resnet, "ResNetBackbone", 1),
    ],
)
def test_a_network_of_stages_gives_the_last_map_of_every_stride(tmp_path, library, make, name, multiple):
    saved(tmp_path, library, make)
    with quiet():
        backbone = getattr(library, name).from_pretrained(tmp_path, out_features=STAGES).eval()
        with torch.inference_mode():
            expected = backbone(padded(multiple)).feature_maps
    check_features(tmp_path, expected, (4, 8, 16, 32))
    assert entry(tmp_path).load().sizes.multiple == multiple


def test_hidden_states_that_are_maps_are_read_as_such(tmp_path, library):
    network = saved(tmp_path, library, kinds.segformer_encoder)
    with quiet(), torch.inference_mode():
        expected = network.segformer(padded(1), output_hidden_states=True).hidden_states
    check_features(tmp_path, expected, (4, 8, 16, 32))


def test_an_encoder_of_one_size_gets_resized_images(tmp_path, library):
    """SAM's states have the channels last."""
    network = saved(tmp_path, library, kinds.sam)
    resized = F.interpolate(
        normalized(images(2, HEIGHT, WIDTH)), size=(48, 48), mode="bilinear", align_corners=False, antialias=True
    )
    with quiet(), torch.inference_mode():
        states = network.vision_encoder(resized, output_hidden_states=True).hidden_states
    check_features(tmp_path, [states[block].permute(0, 3, 1, 2) for block in BLOCKS], (8,) * 4)
    assert entry(tmp_path).image_size == (48, 48)


def test_a_masked_autoencoder_sees_all_patches_in_order(tmp_path, library):
    network = saved(tmp_path, library, kinds.vit_mae)
    network.config.mask_ratio = 0.0
    noise = torch.arange(80.0).expand(2, -1)
    with quiet(), torch.inference_mode():
        output = network.vit(padded(8), noise=noise, output_hidden_states=True, interpolate_pos_encoding=True)
    check_features(tmp_path, patches(output.hidden_states, 1, output.last_hidden_state), (8,) * 4)


def test_weights_may_have_the_names_of_the_library_or_of_earlier_versions(tmp_path, library):
    network = saved(tmp_path, library, kinds.vit_classifier)
    (expected, *_) = entry(tmp_path).load().feature_maps(images()).features
    old = load_checkpoint(tmp_path / "model.safetensors")
    save_weights(network.state_dict(), tmp_path / "model.safetensors")
    assert network.state_dict().keys() != old.keys()
    assert torch.equal(entry(tmp_path).load().feature_maps(images()).features[0], expected)
    save_weights({n.removeprefix("vit."): t for n, t in old.items() if "vit." in n}, tmp_path / "model.safetensors")
    assert torch.equal(entry(tmp_path).load().feature_maps(images()).features[0], expected)


def test_weights_that_lack_a_block_are_refused(tmp_path, library):
    saved(tmp_path, library, kinds.vit_classifier)
    state = load_checkpoint(tmp_path / "model.safetensors")
    save_weights({n: t for n, t in state.items() if ".layer.5." not in n}, tmp_path / "model.safetensors")
    assert "missing keys in its weights, such as layers.5." in refusal(tmp_path, CheckpointError)


def test_a_backbone_has_no_scores_alone(tmp_path, library):
    saved(tmp_path, library, kinds.vit_classifier)
    with pytest.raises(ConfigError) as caught:
        entry(tmp_path, scores_only=True).load()
    assert str(caught.value).endswith("field scores_only: it is a backbone without class scores; remove the field")


def test_a_video_network_is_refused(tmp_path, library):
    saved(tmp_path, library, kinds.vit_classifier)
    config = {"model_type": "timesformer", "num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "TimesformerModel gives no maps" in refusal(tmp_path)


def test_a_linear_head_learns_and_is_built_again(tmp_path, library):
    saved(tmp_path, library, kinds.dinov2)
    source = with_new_head(entry(tmp_path).load(), 3, seed=1)
    assert (source.n_classes, source.classifier.in_channels) == (3, 4 * 16)
    pixels, labels = normalized(images(2, 32, 40)), (torch.arange(40) // 14).expand(2, 32, 40)
    optimizer = torch.optim.Adam(source.network.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        scores, _ = source.class_scores(pixels)
        loss = F.cross_entropy(F.interpolate(scores, size=(32, 40), mode="bilinear"), labels)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
    spec = json.loads(json.dumps(trained_spec(entry(tmp_path), source, 3, source.normalization)))
    again, _, _ = build_trained(spec, "source.json")
    to_device(again, "cpu").load_state_dict(source.network.state_dict())
    with torch.inference_mode():
        assert torch.equal(again.eval()(pixels), source.network.eval()(pixels))


# What a config says, without the library


@pytest.mark.parametrize(
    ("kind", "names", "role"),
    [
        ("segformer", ["SegformerForSemanticSegmentation"], "semantic"),
        ("segformer", ["SegformerForImageClassification"], "backbone"),
        ("segformer", None, "semantic"),
        ("beit", ["BeitForMaskedImageModeling"], "backbone"),
        ("mask2former", ["Mask2FormerForUniversalSegmentation"], "universal"),
        ("maskformer", ["MaskFormerForInstanceSegmentation"], "universal"),
        ("detr", ["DetrForSegmentation"], "universal"),
        ("detr", ["DetrForObjectDetection"], "backbone"),
        ("oneformer", [], "universal"),
        ("dinov2", ["Dinov2Model"], "backbone"),
        ("dinov2", None, "backbone"),
    ],
)
def test_the_architecture_says_what_a_network_is(kind, names, role):
    assert role_of({"model_type": kind, **({} if names is None else {"architectures": names})}) == role


def test_types_without_an_architecture_are_those_of_the_library(library):
    from seg_transfer.models.adapters import _transformers_folder as folder

    assert set(folder._SEMANTIC_TYPES) <= set(library.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING._config_mapping)
    assert set(folder._UNIVERSAL_TYPES) <= set(library.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING._config_mapping)


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"image_size": 518}, (518, 518)),
        ({"image_size": [256, 192]}, (256, 192)),
        ({"vision_config": {"image_size": 1024}}, (1024, 1024)),
        ({"backbone_config": {"image_size": 224}, "image_size": None}, (224, 224)),
        ({"image_size": "large"}, None),
        ({"image_size": [0, 3]}, None),
        ({}, None),
    ],
)
def test_the_size_of_images_is_read_from_the_config(config, size):
    assert image_size_of(config) == size


def test_a_processor_of_images_and_text_has_the_normalization(tmp_path, library):
    saved(tmp_path, library, kinds.clip)
    expected = read_folder(tmp_path)
    (tmp_path / "preprocessor_config.json").rename(tmp_path / "processor_config.json")
    assert "has no preprocessor_config.json" in refusal(tmp_path)
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": PREPROCESSOR}))
    assert read_folder(tmp_path) == expected


def test_a_backbone_is_known_as_one_without_torch(tmp_path, library):
    saved(tmp_path, library, kinds.oneformer)
    saved(tmp_path / "vit", library, kinds.vit_classifier)
    code = (
        "import sys; from pathlib import Path\n"
        "from seg_transfer.models.adapters.transformers import TransformersEntry\n"
        "one, two = (TransformersEntry(name='a', dataset='b', transformers=Path(p)) for p in sys.argv[1:])\n"
        "print(one.has_scores, two.has_scores, two.image_size, one.key() != two.key(), one.architecture()['role'],\n"
        "      'torch' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, tmp_path, tmp_path / "vit"], capture_output=True, text=True, check=True
    )
    assert found.stdout.split("\n")[0] == "True False (32, 32) True universal False"
