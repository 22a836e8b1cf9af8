"""An entry is of one kind, has that kind's fields, and says what is code."""

import math
import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from seg_transfer.errors import ConfigError
from seg_transfer.models.adapters import ADAPTERS
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.hub import absolute_paths
from seg_transfer.models.sources import code_of, parse_entry
from seg_transfer.resources import shipped

HALF, FIFTH = (0.5, 0.4, 0.3), (0.2, 0.1, 0.3)
FACTORY = {
    "factory": "nets.unet:build",
    "classifier": "head",
    "weights": "w.pth",
    "mean": HALF,
    "std": FIFTH,
}
MMSEG = {"config": "c.py", "checkpoint": "w.pth"}
TIMM = {"timm": "hrnet_w48", "weights": "w.pth"}


def entry(**fields: Any) -> Any:
    return parse_entry({"name": "web", "dataset": "x", **fields})


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        (MMSEG, "mmseg"),
        ({**MMSEG, "scores_only": True}, "mmseg"),
        ({"config": "a/source.json"}, "mmseg"),
        ({"transformers": "hub"}, "transformers"),
        ({"transformers": "hub", "mean": HALF, "std": FIFTH, "scores_only": True}, "transformers"),
        (TIMM, "timm"),
        ({**TIMM, "mean": HALF, "std": FIFTH}, "timm"),
        (FACTORY, "factory"),
        ({**FACTORY, "factory_folder": "code", "channel_order": "bgr", "scores_only": True}, "factory"),
    ],
)
def test_kinds(fields, kind):
    found = entry(**fields)
    assert found.kind == kind
    assert type(found) is ADAPTERS[kind]
    dumped = found.model_dump(mode="json")
    lists = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
    by_default = {"factory_folder": "."} if kind == "factory" else {}
    assert dumped == {"name": "web", "dataset": "x", **by_default, **lists}
    assert parse_entry(dumped) == found
    assert parse_entry(found) is found
    assert pickle.loads(pickle.dumps(found)) == found
    assert len({found, parse_entry(dumped)}) == 1


def test_a_field_that_is_null_or_off_is_left_out():
    assert entry(**TIMM, mean=None, checkpoint=None, scores_only=False) == entry(**TIMM)
    assert entry(config=None, factory=None, scores_only=False) == entry()


def test_a_source_that_the_study_trains():
    found = entry()
    assert (type(found), found.kind, found.code(), found.network()) == (SourceEntry, "study", [], None)
    for work in (found.key, found.load):
        with pytest.raises(ConfigError, match="source web: the study trains it, so it has no weights yet"):
            work()


def test_the_default_normalization_of_timm_is_that_of_imagenet():
    assert entry(**TIMM).input_normalization() == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "rgb")
    assert entry(**TIMM, mean=HALF, std=FIFTH).input_normalization() == (HALF, FIFTH, "rgb")


def test_the_input_scale_is_the_unit_of_mean_and_std():
    """p -> (p * input_scale / 255 - mean) / std is p -> (p / 255 - own mean) / own std."""
    mean, std, pixel = (123.675, 116.28, 103.53), (58.395, 1.0, 57.375), 77
    own = entry(**{**FACTORY, "mean": mean, "std": std, "input_scale": 255}).normalization
    for given_mean, given_std, own_mean, own_std in zip(mean, std, *own, strict=True):
        assert (pixel / 255 - own_mean) / own_std == pytest.approx((pixel * 255 / 255 - given_mean) / given_std)
    assert entry(**FACTORY, input_scale=1).normalization == entry(**FACTORY).normalization == (HALF, FIFTH)
    bytes_as_they_are = entry(**{**FACTORY, "mean": [0, 0, 0], "std": [1, 1, 1], "input_scale": 255}).normalization
    assert bytes_as_they_are == ((0, 0, 0), pytest.approx((1 / 255,) * 3))


def without(name: str) -> dict[str, Any]:
    return {field: value for field, value in FACTORY.items() if field != name}


@pytest.mark.parametrize(
    ("fields", "excerpt"),
    [
        (
            {**MMSEG, "transformers": "hub"},
            "has config and transformers, which mark different kinds of model; keep one",
        ),
        ({**TIMM, "factory": "a:b"}, "has timm and factory, which mark different kinds of model; keep one"),
        ({"weights": "w.pth"}, "field weights has no meaning without one of config, "),
        ({"scores_only": True}, "field scores_only has no meaning without one of"),
        ({**MMSEG, "weights": "w.pth"}, "field weights has no meaning for a mmseg source; remove it"),
        ({**MMSEG, "channel_order": "bgr"}, "field channel_order has no meaning for a mmseg source; remove it"),
        (
            {**MMSEG, "mean": (102, 0, 0)},
            "field mean: [102.0, 0.0, 0.0]: with input_scale 1 the values must be from 0 to 1",
        ),
        ({"transformers": "hub", "classifier": "x"}, "field classifier has no meaning for a transformers source"),
        ({**TIMM, "scores_only": True}, "field scores_only has no meaning for a timm source; remove it"),
        ({"weights_key": "ema"}, "field weights_key has no meaning without one of"),
        ({"transformers": "hub", "weights_key": "ema"}, "field weights_key has no meaning for a transformers source"),
        ({**TIMM, "channel_order": "bgr"}, "field channel_order has no meaning for a timm source; remove it"),
        ({"timm": "hrnet_w48"}, "field weights is missing; a timm source needs it"),
        ({"timm": "a folder/net", "classifier": "x"}, "field classifier has no meaning for a timm source; remove it"),
        ({"smp": {"arch": "Unet"}}, "field weights is missing; name the weights of the network"),
        ({"smp": {"encoder_name": "x"}, "weights": "w"}, "field smp: arch is missing; name one, such as Unet"),
        ({"smp": "folder", "weights": "w"}, "field weights: the folder folder has its own; remove it"),
        (without("weights"), "field weights is missing; a factory source needs it"),
        (without("mean"), "field mean is missing; a factory source needs it"),
        (without("std"), "field std is missing; a factory source needs it"),
        ({**FACTORY, "factory": "../nets:build"}, "field factory: '../nets:build': must be package.module:function"),
        ({**FACTORY, "factory": "nets.build"}, "field factory: 'nets.build': must be package.module:function"),
        ({**FACTORY, "factory": "a:b\nc"}, "must be package.module:function"),
        (
            {**FACTORY, "mean": [124, 116, 104]},
            "field mean: [124.0, 116.0, 104.0]: with input_scale 1 the values must be",
        ),
        ({**FACTORY, "input_scale": 255}, "field mean: [0.5, 0.4, 0.3]: with input_scale 255 the values must be"),
        (
            {**FACTORY, "mean": [300, 1, 1], "input_scale": 255},
            "with input_scale 255 the values must be from 0 to 255",
        ),
        ({**FACTORY, "mean": [-0.1, 0, 0]}, "field mean: [-0.1, 0.0, 0.0]: with input_scale 1 the values must be"),
        ({**FACTORY, "std": [0, 1, 1]}, "field std: [0.0, 1.0, 1.0]: must be positive; correct it"),
        ({**TIMM, "std": [0.1, -1, 1]}, "field std: [0.1, -1.0, 1.0]: must be positive; correct it"),
    ],
)
def test_a_broken_rule_names_the_source_and_its_field(fields, excerpt):
    with pytest.raises(ValidationError) as caught:
        entry(**fields)
    (error,) = caught.value.errors()
    assert error["msg"].startswith("Value error, source 'web'")
    assert excerpt in error["msg"]


@pytest.mark.parametrize(
    "fields",
    [
        {"timm": "hf-hub:hrnet_w48", "weights": "w.pth"},
        {"timm": "resnet 50", "weights": "w.pth"},
        {"torchvision": "../resnet50", "weights": "w.pth"},
        {"smp": 3},
        {**FACTORY, "input_size": [0, 3]},
        {**FACTORY, "channel_order": "gbr"},
        {**FACTORY, "input_scale": 2},
        {**FACTORY, "mean": [0.1, 0.2]},
        {**FACTORY, "std": [0.1, 0.2, float("nan")]},
        {**FACTORY, "unknown": 1},
        {"name": "../web"},
    ],
)
def test_a_wrong_value_is_refused(fields):
    with pytest.raises(ValidationError):
        entry(**fields)


def test_paths_become_absolute_and_a_factory_lies_beside_its_file(tmp_path):
    fields = {**FACTORY, "weights": "../w.pth"}
    found = parse_entry(absolute_paths(entry(**fields).model_dump(), tmp_path / "bank"))
    assert (found.weights, found.factory_folder) == (tmp_path / "w.pth", tmp_path / "bank")
    other = parse_entry(absolute_paths(entry(**fields, factory_folder="../code").model_dump(), tmp_path / "bank"))
    assert other.factory_folder == tmp_path / "code"


def test_code_is_named():
    ours = entry(config=shipped("configs/models/hrnetv2_tiny.py"), checkpoint="w.pth")
    sources = [entry(**FACTORY), entry(**MMSEG), ours, entry(**TIMM), entry(transformers="hub"), entry()]
    assert code_of(sources, None) == ["c.py", "factory nets.unet:build (looked for in .)"]
    assert code_of([entry(**{**FACTORY, "factory": "os:system"})], Path("model.py")) == [
        "model.py",
        "factory os:system (looked for in .)",
    ]


@pytest.mark.parametrize(
    ("field", "value", "excerpt"),
    [
        ("learning_rate", True, "must be a number, such as 0.01"),
        ("learning_rate", math.inf, "finite number"),
        ("learning_rate", 0, "greater than 0"),
        ("features", "body", r"must be last, stages or a list of layer names, such as \[body\]"),
        ("features", [], "must name layers, each once"),
        ("features", ["a", "b", "a"], "must name layers, each once"),
    ],
)
def test_nonsense_in_an_entry_is_refused(field, value, excerpt):
    with pytest.raises(ValidationError, match=excerpt):
        SourceEntry(name="x", dataset="d", **{field: value})
    assert SourceEntry(name="x", dataset="d", learning_rate="1e-4", features=["a", "b"]).learning_rate == 1e-4
