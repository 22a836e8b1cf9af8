"""Local folders of the transformers library as plain data: config, weights files, normalization; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seg_transfer.data.plain import read_json
from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.models.files import shards_of
from seg_transfer.models.normalization import RGB

CONFIG = "config.json"
_PREPROCESSOR = "preprocessor_config.json"
# Processors of images and text are saved as one file that contains the preprocessor of images.
_PROCESSOR, _IMAGE_PROCESSOR = "processor_config.json", "image_processor"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_INDICES = tuple(f"{name}.index.json" for name in _WEIGHTS)

# What a network is: it scores classes per pixel, or queries with a mask each, or it is a backbone without a head.
Role = Literal["semantic", "universal", "backbone"]
_SEMANTIC, _UNIVERSAL = "ForSemanticSegmentation", "ForUniversalSegmentation"
_OTHER_UNIVERSAL = ("MaskFormerForInstanceSegmentation", "DetrForSegmentation")
# Types whose config names no architecture: the library's segmentation network counts where it has one.
_SEMANTIC_TYPES = (
    "beit",
    "data2vec-vision",
    "dpt",
    "mobilenet_v2",
    "mobilevit",
    "mobilevitv2",
    "sapiens2",
    "segformer",
    "tipsv2_dpt",
    "upernet",
)
_UNIVERSAL_TYPES = ("mask2former", "maskformer", "oneformer", "eomt", "eomt_dinov3")
# Parts of a config that describe the image encoder of a model that has more, such as CLIP, SAM and Depth Anything.
ENCODERS = ("vision_config", "backbone_config")


@dataclass(frozen=True)
class TransformersFolder:
    """The model in a folder.

    Attributes:
        config: Contents of ``config.json``.
        weights: Files with the weights; several if they are sharded.
        mean, std: RGB, fractions of 255.
        channel_order: Channel order of the images that the network takes, "rgb" or "bgr".
    """

    config: dict[str, Any]
    weights: tuple[Path, ...]
    mean: RGB
    std: RGB
    channel_order: str


def read_folder(folder: Path, mean: RGB | None = None, std: RGB | None = None) -> TransformersFolder:
    """Read a folder that ``save_pretrained`` wrote.

    Images are normalized as ``preprocessor_config.json`` says: multiplied by ``rescale_factor`` if it rescales, then
    normalized by ``image_mean`` and ``image_std`` if it normalizes, in BGR if it flips the channels.

    Args:
        folder: The folder.
        mean, std: RGB, fractions of 255; if given, they replace those of the preprocessor.

    Raises:
        ConfigError: A JSON file is missing or unreadable, or the normalization is unknown.
        CheckpointError: There are no weights.
    """
    config = read_json(folder / CONFIG)
    if config.get("quantization_config"):
        raise ConfigError(
            f"{folder / CONFIG}: field quantization_config: quantized weights are not read; save the model without them"
        )
    weights = _weights_files(folder)
    file, preprocessor = _preprocessor(folder)
    if not preprocessor and (mean is None or std is None):
        raise ConfigError(f"{folder}: has no {_PREPROCESSOR}; give the source's mean and std (RGB, fractions of 255)")
    own_mean, own_std = _normalization(file, preprocessor)
    order = "bgr" if preprocessor.get("do_flip_channel_order") is True else "rgb"
    if order == "bgr":  # such a preprocessor has mean and std in the flipped order
        own_mean, own_std = (own_mean[2], own_mean[1], own_mean[0]), (own_std[2], own_std[1], own_std[0])
    return TransformersFolder(config, weights, mean or own_mean, std or own_std, order)


def role_of(config: Mapping[str, Any]) -> Role:
    """Return what the network of a config is, by the name of its architecture, or by its type if none is named.

    Example:
        >>> role_of({"model_type": "segformer", "architectures": ["SegformerForImageClassification"]})
        'backbone'
    """
    kind, names = config.get("model_type"), config.get("architectures")
    if not isinstance(names, list) or not names:
        return "semantic" if kind in _SEMANTIC_TYPES else "universal" if kind in _UNIVERSAL_TYPES else "backbone"
    if any(str(name).endswith(_SEMANTIC) for name in names):
        return "semantic"
    is_universal = any(str(name).endswith(_UNIVERSAL) or name in _OTHER_UNIVERSAL for name in names)
    return "universal" if is_universal else "backbone"


def image_size_of(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the height and width of images that a config, or the part of it on the image encoder, names."""
    parts = [config, *(config[name] for name in ENCODERS if isinstance(config.get(name), Mapping))]
    for size in (part.get("image_size") for part in parts):
        sides = [size, size] if isinstance(size, int) else size
        if isinstance(sides, list) and len(sides) == 2 and all(type(side) is int and side > 0 for side in sides):
            return sides[0], sides[1]
    return None


def _preprocessor(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the description of how images are prepared, and its file; {} if the folder has none."""
    file, whole = folder / _PREPROCESSOR, folder / _PROCESSOR
    if file.exists() or not whole.exists():
        return file, read_json(file) if file.exists() else {}
    part = read_json(whole).get(_IMAGE_PROCESSOR)
    return whole, part if isinstance(part, dict) else {}


def _weights_files(folder: Path) -> tuple[Path, ...]:
    for name, index in zip(_WEIGHTS, _INDICES, strict=True):
        if (folder / name).is_file():
            return (folder / name,)
        if (folder / index).is_file():
            return shards_of(folder / index)
    raise CheckpointError(f"{folder}: has neither {' nor '.join((*_WEIGHTS, *_INDICES))}; copy the weights there")


def _normalization(file: Path, preprocessor: dict[str, Any]) -> tuple[RGB, RGB]:
    """Return mean and std in fractions of 255, given that the network takes (pixel * factor - mean) / std."""
    factor = preprocessor.get("rescale_factor", 1 / 255) if preprocessor.get("do_rescale", True) is True else 1.0
    normalizes = preprocessor.get("do_normalize", "image_mean" in preprocessor) is True
    mean: Any = preprocessor.get("image_mean") if normalizes else [0.0, 0.0, 0.0]
    std: Any = preprocessor.get("image_std") if normalizes else [1.0, 1.0, 1.0]
    for field, value, n in (("rescale_factor", [factor], 1), ("image_mean", mean, 3), ("image_std", std, 3)):
        # A bool is an int, and the value is None if the preprocessor normalizes without saying how.
        numbers = isinstance(value, list) and all(type(number) in (int, float) for number in value)
        if not numbers or len(value) != n:
            raise ConfigError(f"{file}: field {field}: {value!r}: must be {n} number(s); correct it")
    if factor <= 0 or min(std) <= 0:
        raise ConfigError(f"{file}: rescale_factor and image_std must be positive; correct them")
    full = 255 * factor
    return (mean[0] / full, mean[1] / full, mean[2] / full), (std[0] / full, std[1] / full, std[2] / full)
