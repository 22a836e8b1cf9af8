"""Where configs of mmsegmentation state how images are normalized, in version 1 and in version 0."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from seg_transfer.errors import ConfigError
from seg_transfer.models.adapters.mmseg import MmsegEntry
from seg_transfer.models.configs import portable, read_model_config, resolve, with_classes, with_stated_normalization
from seg_transfer.models.networks import build_network
from seg_transfer.models.normalization import Normalization, normalization_of
from seg_transfer.resources import shipped
from seg_transfer.store.content_key import content_key

BYTES = {"mean": [51, 102, 153], "std": [25.5, 51, 76.5]}
RGB_MEAN, RGB_STD = (0.2, 0.4, 0.6), (0.1, 0.2, 0.3)
RGB = Normalization(RGB_MEAN, RGB_STD, "rgb")
BGR = Normalization(RGB_MEAN[::-1], RGB_STD[::-1], "bgr")
NETWORK = {"backbone": {"type": "HRNet"}, "decode_head": {"type": "FCNHead", "num_classes": 3}}
LOADING = [{"type": "LoadImageFromFile"}, {"type": "Resize", "img_scale": [64, 64]}]


def normalize(**fields: Any) -> dict[str, Any]:
    return {"type": "Normalize", **BYTES, "to_rgb": True, **fields}


def nested(step: dict[str, Any]) -> list[dict[str, Any]]:
    """A pipeline of test-time augmentation."""
    return [LOADING[0], {"type": "MultiScaleFlipAug", "flip": False, "transforms": [{"type": "RandomFlip"}, step]}]


def read(folder: Path, **config: Any) -> dict[str, Any]:
    file = folder / "config.json"
    file.write_text(json.dumps({"model": NETWORK, **config}))
    return read_model_config(file)


STATED = {
    "1": {"model": {**NETWORK, "data_preprocessor": {"type": "SegDataPreProcessor", **BYTES, "bgr_to_rgb": True}}},
    "1_of_another_class": {"model": {**NETWORK, "data_preprocessor": {"type": "Mine", **BYTES, "bgr_to_rgb": True}}},
    "1_beside_the_model": {"data_preprocessor": {"type": "SegDataPreProcessor", **BYTES, "bgr_to_rgb": True}},
    "1_in_a_pipeline": {"train_dataloader": {"dataset": {"pipeline": [*LOADING, normalize()]}}},
    "1_in_a_pipeline_only": {
        "model": {**NETWORK, "data_preprocessor": {"type": "SegDataPreProcessor", "size": [64, 64]}},
        "train_pipeline": [*LOADING, normalize()],
    },
    "0": {"img_norm_cfg": BYTES, "data": {"train": {"pipeline": [normalize()]}, "test": {"pipeline": [normalize()]}}},
    "0_nested": {"data": {"val": {"pipeline": nested(normalize())}}},
    "0_of_a_scope": {"train_pipeline": [normalize(type="mmseg.Normalize")]},
    "0_variable": {"img_norm_cfg": {**BYTES, "to_rgb": True}},
    "0_variable_that_is_not_used": {"img_norm_cfg": {"mean": [0] * 3, "std": [1] * 3}, "a": [normalize()]},
}


@pytest.mark.parametrize("place", STATED)
def test_every_version_is_understood(tmp_path, place):
    model = read(tmp_path, **STATED[place])
    found = normalization_of(model)
    assert found.channel_order == "rgb"
    assert found.mean == pytest.approx(RGB_MEAN)
    assert found.std == pytest.approx(RGB_STD)
    assert model["data_preprocessor"]["size_divisor"] == 1
    assert "size" not in model["data_preprocessor"]


def test_a_network_of_bgr_images(tmp_path):
    found = normalization_of(read(tmp_path, train_pipeline=[normalize(to_rgb=False)]))
    assert found == BGR
    assert normalization_of(read(tmp_path, train_pipeline=[normalize()])) == RGB


def test_python_and_yaml_configs_say_the_same(tmp_path):
    config = {"model": NETWORK, "img_norm_cfg": BYTES, "train_pipeline": [normalize()]}
    (tmp_path / "net.yaml").write_text(yaml.safe_dump(config))
    code = "img_norm_cfg = dict(mean=(51, 102, 153), std=(25.5, 51, 76.5), to_rgb=True)\n"
    code += "train_pipeline = [dict(type='Normalize', **img_norm_cfg)]\n"
    (tmp_path / "net.py").write_text(f"{code}model = {NETWORK!r}\n")
    expected = read(tmp_path, **config)
    assert read_model_config(tmp_path / "net.yaml") == expected
    for _ in range(2):
        assert read_model_config(tmp_path / "net.py", memo=tmp_path / "memo") == expected


UNKNOWN = {
    "nothing": {},
    "a_preprocessor_without_it": {"model": {**NETWORK, "data_preprocessor": {"bgr_to_rgb": True}}},
    "half": {"model": {**NETWORK, "data_preprocessor": {"mean": BYTES["mean"], "bgr_to_rgb": True}}},
    "two": {"train_pipeline": [normalize()], "test_pipeline": [normalize(mean=[0, 0, 0])]},
    "no_mapping": {"img_norm_cfg": [1, 2], "data_preprocessor": "none"},
}


@pytest.mark.parametrize("place", UNKNOWN)
def test_an_unknown_normalization_is_refused_unless_the_source_has_it(tmp_path, place):
    model = read(tmp_path, **UNKNOWN[place])
    with pytest.raises(ConfigError, match=r"^net.json: states no mean and std") as caught:
        normalization_of(model, "net.json")
    assert "give the source mean and std (RGB, fractions of 255)" in str(caught.value)
    assert normalization_of(with_stated_normalization(model, RGB_MEAN, RGB_STD)) == RGB


@pytest.mark.parametrize(
    ("fields", "excerpt"),
    [
        ({"mean": [1, 2]}, "mean and std must have three channels, mean has 2"),
        ({"std": [1, 2, 3, 4]}, "std has 4"),
        ({"mean": 7}, "mean has 1"),
        ({"mean": ["a", 2, 3]}, "field data_preprocessor.mean: ['a', 2, 3]: must be numbers"),
        ({"mean": [1, None, 3]}, "must be numbers"),
        ({"std": [1, float("inf"), 3]}, "must be finite"),
        ({"std": [1, 0, 3]}, "field data_preprocessor.std: [1, 0, 3]: must be positive"),
    ],
)
def test_a_normalization_that_is_none_is_named(fields, excerpt):
    model = {**NETWORK, "data_preprocessor": {**BYTES, **fields}}
    with pytest.raises(ConfigError) as caught:
        normalization_of(model, "net.json")
    assert str(caught.value).startswith("net.json: field data_preprocessor")
    assert excerpt in str(caught.value)
    assert "\n" not in str(caught.value)


# What the entry of a source says


def test_the_entry_changes_what_it_names_and_nothing_else():
    model = {**NETWORK, "data_preprocessor": {"type": "SegDataPreProcessor", **BYTES, "pad_val": 0}}
    assert with_stated_normalization(model, None, None) == model
    changed = with_stated_normalization(model, (0.5, 0.25, 0.0), None)
    assert normalization_of(changed) == Normalization((0.5, 0.25, 0.0), RGB_STD[::-1], "bgr")
    assert changed["data_preprocessor"]["mean"] == [0.0, 63.75, 127.5]
    assert changed["data_preprocessor"]["pad_val"] == 0


def test_a_source_without_a_stated_normalization(tmp_path):
    config = with_classes(read_model_config(shipped("configs/models/hrnetv2_tiny.py")), 3)
    (tmp_path / "net.json").write_text(json.dumps({"model": config}))
    torch.save(build_network(resolve(config, None)[0], seed=0).state_dict(), tmp_path / "net.pth")
    fields = {"name": "net", "dataset": "x", "config": tmp_path / "net.json", "checkpoint": tmp_path / "net.pth"}
    plain, stated = MmsegEntry(**fields), MmsegEntry(**fields, mean=RGB_MEAN, std=RGB_STD)
    with pytest.raises(ConfigError, match=r"net\.json: states no mean and std"):
        plain.load()
    source = stated.load()
    assert source.normalization == RGB
    preprocessor = {"type": "SegDataPreProcessor", **BYTES, "bgr_to_rgb": True}
    (tmp_path / "net.json").write_text(json.dumps({"model": {**config, "data_preprocessor": preprocessor}}))
    images = torch.arange(3 * 64 * 64).remainder(251).to(torch.uint8).view(1, 3, 64, 64)
    assert torch.equal(source.feature_maps(images).scores, plain.load().feature_maps(images).scores)


# Keys


def test_keys_of_configs_that_state_it_in_the_model_are_as_before(tmp_path):
    """Computed before other places were looked at, and before tuples were restored."""
    preprocessor = {"type": "SegDataPreProcessor", **BYTES, "bgr_to_rgb": True, "size": [64, 64]}
    backbone = {"type": "MobileNetV3", "arch": "small", "out_indices": (0, 1, 12)}
    model = {**NETWORK, "backbone": backbone, "data_preprocessor": preprocessor}
    (tmp_path / "net.py").write_text(f"model = {model!r}\nimg_norm_cfg = dict(mean=[1, 2, 3], std=[4, 5, 6])\n")
    read = read_model_config(tmp_path / "net.py")
    assert read == portable(model)
    assert content_key(model=read) == "621787a0b7a538ce2d27431ccd0b699da67ac8e29a2fead6e39038e02ea06484"
