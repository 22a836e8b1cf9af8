"""mmseg model configs as plain dicts: reading one, adapting it to a dataset, and its content key; without torch."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from seg_transfer.data.fields import IGNORE, ignore_index
from seg_transfer.data.plain import read_json, read_yaml
from seg_transfer.errors import CheckpointError, ConfigError, reason_of
from seg_transfer.models.files import sha256_of_weights
from seg_transfer.models.normalization import RGB
from seg_transfer.models.preprocessing import PREPROCESSOR, model_of
from seg_transfer.models.python_configs import read_memo, run_config
from seg_transfer.models.trained import is_of_other_kind, read_trained
from seg_transfer.resources import shipped
from seg_transfer.store.content_key import Key, content_key
from seg_transfer.store.source_card import FILE_NAME, read_source_card

ModelConfig = dict[str, Any]

IGNORED_WEIGHTS = ("auxiliary_head.*", "decode_head.*.fcs.*", "decode_head.*.fc_seg.*")
"""Names of weights of the heads that `resolve` leaves out: auxiliary ones, and those that refine points."""

_HEADS = ("decode_head", "auxiliary_head")
_COMPLETE = "dump the whole config (mmengine's Config.dump), or name the .py config, which is announced before it runs"
# Fields that make mmseg read a file that the config chooses. They are dropped: weights come from the checkpoint, and
# class weights belong to the config's own training.
_FILE_FIELDS = ("checkpoint_path", "class_weight")
_INIT_FIELDS = ("init_cfg", "override")


def read_model_config(path: str | Path, *, memo: Path | None = None) -> ModelConfig:
    """Read the ``model`` entry of an mmseg config (.py, .json, .yaml) as a plain dict, with its normalization.

    A .py config is code and runs: read only a file that the user named and trusts. JSON and YAML are data.

    Args:
        path: The config file.
        memo: Folder of results kept between processes. With it, a .py config runs only if it or one of its base
            configs has changed, or if its result may differ every time.

    Raises:
        ConfigError: There is no such file, or it contains no segmentor.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"{file}: no such model config; check the path in the study")
    if file.suffix != ".py":
        return _segmentor(model_of(_read_data(file)), str(file))
    model = read_memo(file, memo) if memo else None
    return _segmentor(run_config(file, memo) if model is None else model, str(file))


def code_configs_among(configs: Iterable[Path]) -> list[Path]:
    """List the model configs that are Python code from outside this package: reading one runs it."""
    shipped_configs = shipped("configs").resolve()
    return sorted(path for path in configs if path.suffix == ".py" and not path.is_relative_to(shipped_configs))


def _segmentor(model: object, origin: str) -> ModelConfig:
    """Check that a model is the config of a segmentor, and return it in portable form."""
    if isinstance(model, dict) and is_of_other_kind(model):
        read_trained(model, origin)
        return model
    if not isinstance(model, dict) or "decode_head" not in model or "backbone" not in model:
        raise ConfigError(f"{origin}: field model must be an mmseg segmentor with backbone and decode_head; correct it")
    try:
        return portable(model)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{origin}: field model is not plain data ({reason_of(error)}); correct it") from error


def _read_data(file: Path) -> dict[str, Any]:
    """Read a JSON or YAML config, which must have no base config."""
    if file.suffix == ".json":
        config: object = read_json(file)
    elif file.suffix in (".yaml", ".yml"):
        config = read_yaml(file)
    else:
        raise ConfigError(f"{file}: a model config is a .py, .json, .yaml or .yml file; rename it")
    if not isinstance(config, dict):
        raise ConfigError(f"{file}: holds a {type(config).__name__}, a mapping is expected; correct it")
    if "_base_" in config:
        raise ConfigError(f"{file}: field _base_: {config['_base_']!r:.80}: must not be there; {_COMPLETE}")
    return config


def portable(model: Mapping[str, Any]) -> ModelConfig:
    """Return the same network independent of the machine: no downloads of weights, BN for SyncBN, plain JSON types.

    Training in several processes on CUDA turns BN into SyncBN again.
    """
    plain: ModelConfig = json.loads(json.dumps(_portable(model)))
    preprocessor = plain.get(PREPROCESSOR)
    if isinstance(preprocessor, dict):
        # Padding to the crop size of the config's own training would add borders to the images here.
        preprocessor.pop("size", None)
        preprocessor["size_divisor"] = 1
    return plain


def _portable(value: Any, key: object = None) -> Any:
    """Return the portable value of a key; the items of a list have the key of the list."""
    if isinstance(value, Mapping):
        kept = {name: _portable(item, name) for name, item in value.items() if not _reads_a_file(item, name)}
        name = _last_part(kept.get("type"))
        if name == "TIMMBackbone":
            return {**kept, "pretrained": False}  # by default it downloads weights
        return {**kept, "type": "BN"} if name == "SyncBN" else kept
    if isinstance(value, list | tuple):
        return [_portable(item, key) for item in value if not _reads_a_file(item, key)]
    return value


def _reads_a_file(value: Any, key: object) -> bool:
    """Return whether mmseg reads or downloads a file for this part of a config."""
    if isinstance(value, Mapping):
        return _last_part(value.get("type")).startswith("Pretrained") or (key in _INIT_FIELDS and "checkpoint" in value)
    return key == "pretrained" or (key in _FILE_FIELDS and isinstance(value, str))


def _last_part(name: object) -> str:
    return name.rpartition(".")[2] if isinstance(name, str) else ""


def heads(model: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every head of a model config that has a classifier, main heads first; a cascade has several of them."""
    for key in _HEADS:
        entry = model.get(key)
        for head in [entry] if isinstance(entry, dict) else entry or []:
            # The head of K-Net improves, in several steps, what the head inside it answers.
            yield head.get("kernel_generate_head", head) if isinstance(head, dict) else head


def n_classes_of(model: Mapping[str, Any]) -> int:
    """Return the number of classes of the last main head, at least two, or of a trained network of another kind."""
    if "n_classes" in model:
        return int(model["n_classes"])
    return max(2, int(list(heads({"decode_head": model["decode_head"]}))[-1]["num_classes"]))


def with_classes(model: ModelConfig, n_classes: int) -> ModelConfig:
    """Return the config of the same network with another number of classes, and one score for each of them.

    Args:
        model: The ``model`` entry of an mmseg config.
        n_classes: Number of classes of every head.

    Returns:
        A copy, without class weights in its losses, which belong to the old classes.
    """
    changed = copy.deepcopy(model)
    for key in _HEADS:
        _set_classes(changed.get(key), n_classes)
    for head in heads(changed):
        is_binary = head.pop("out_channels", None) == 1
        if is_binary:
            head.pop("threshold", None)
        head["num_classes"] = n_classes
        losses = head.get("loss_decode", {})
        for loss in [losses] if isinstance(losses, dict) else losses:
            _adapt_loss(loss, is_binary)
        # Otherwise mmseg ignores 255, which is a class here. Configs with fewer classes stay as they are.
        if n_classes > IGNORE:
            head["ignore_index"] = ignore_index(n_classes)
    return changed


def _set_classes(part: Any, n_classes: int) -> None:
    """Set ``num_classes`` wherever a head or a part of it has it."""
    if isinstance(part, dict):
        if "num_classes" in part:
            part["num_classes"] = n_classes
        part = list(part.values())
    for item in part if isinstance(part, list) else []:
        _set_classes(item, n_classes)


def _adapt_loss(loss: dict[str, Any], is_binary: bool) -> None:
    """Change the config of a loss for other classes; that of a single score becomes one over several."""
    loss.pop("class_weight", None)
    if _last_part(loss.get("type")) == "CrossEntropyLoss":
        loss.setdefault("avg_non_ignore", True)
    if is_binary and loss.get("use_sigmoid"):
        loss["use_sigmoid"] = False
    if is_binary and loss.get("loss_type") == "binary":
        loss["loss_type"] = "multi_class"


def with_normalization(
    model: ModelConfig, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> ModelConfig:
    """Return the config of the same network with another normalization of images.

    Args:
        model: The ``model`` entry of an mmseg config.
        mean, std: RGB, fractions of 255.
    """
    preprocessor = {
        "type": "SegDataPreProcessor",
        "mean": [255 * value for value in mean],
        "std": [255 * value for value in std],
        "bgr_to_rgb": True,
        "size_divisor": 1,
        "pad_val": 0,
        "seg_pad_val": ignore_index(n_classes_of(model)),
    }
    return {**copy.deepcopy(model), "data_preprocessor": preprocessor}


def with_stated_normalization(model: ModelConfig, mean: RGB | None, std: RGB | None) -> ModelConfig:
    """Return the config of the same network with the mean or std that a person states; its channel order stays.

    A config without a data preprocessor is that of a network that takes RGB.

    Args:
        model: The ``model`` entry of an mmseg config, or the description of a trained network of another kind.
        mean, std: RGB, fractions of 255; None where the config's own is kept.
    """
    stated = {name: list(value) for name, value in (("mean", mean), ("std", std)) if value is not None}
    if is_of_other_kind(model) or not stated:
        return {**model, **stated}
    preprocessor = model.get(PREPROCESSOR) or {"type": "SegDataPreProcessor", "bgr_to_rgb": True, "size_divisor": 1}
    step = 1 if preprocessor.get("bgr_to_rgb", False) else -1
    bytes_of = {name: [255 * value for value in values[::step]] for name, values in stated.items()}
    return {**model, PREPROCESSOR: {**preprocessor, **bytes_of}}


def source_key(config: str | Path, checkpoint: str | Path | None = None, *, memo: Path | None = None) -> Key:
    """Compute the key of a source's config and weights without loading it: equal keys mean equal feature maps.

    Args:
        config, checkpoint: As for `load_source_model`.
        memo: Folder in which hashes of files that do not change are kept.

    Raises:
        ConfigError: The config cannot be read.
        CheckpointError: The weights are missing, or differ from those that ``source.json`` describes.
    """
    model, weights = resolve(config, checkpoint, memo=memo)
    if weights is not None and not weights.is_file():
        raise CheckpointError(f"{weights}: no such checkpoint file; check the path in the study")
    sha256 = weights and sha256_of_weights(weights, memo)
    if checkpoint is None and Path(config).name == FILE_NAME and read_source_card(Path(config)).sha256 != sha256:
        raise CheckpointError(f"{weights}: its contents differ from what {config} describes; train the source again")
    return content_key(model=model, weights=sha256)


def resolve(
    config: str | Path | ModelConfig, checkpoint: str | Path | None, *, memo: Path | None = None
) -> tuple[ModelConfig, Path | None]:
    """Find the network and the weights file for the arguments of `load_source_model`.

    Args:
        config, checkpoint: As for `load_source_model`.
        memo: As for `read_model_config`.

    Returns:
        The ``model`` dict without the heads that are not read: auxiliary ones, and those that refine single points of
        another head's map; and the weights file, None for random weights.

    Raises:
        ConfigError: The config cannot be read.
        CheckpointError: ``source.json`` is missing or damaged.
    """
    weights = Path(checkpoint) if checkpoint is not None else None
    if isinstance(config, dict):
        model = _segmentor(config, origin_of(config))
    elif Path(config).name == FILE_NAME:
        card = read_source_card(Path(config))
        model, weights = _segmentor(card.model, str(config)), weights or card.weights_file(Path(config).parent)
    else:
        model = read_model_config(config, memo=memo)
    return _as_read(model), weights


def _as_read(model: ModelConfig) -> ModelConfig:
    kept = {key: value for key, value in model.items() if key != "auxiliary_head"}
    cascade = model.get("decode_head")
    if not isinstance(cascade, list) or not any(map(_refines_points, cascade)):
        return kept
    stages = [head for head in cascade if not _refines_points(head)]
    return {**kept, "decode_head": stages, "num_stages": len(stages)}


def _refines_points(head: object) -> bool:
    return isinstance(head, dict) and _last_part(head.get("type")) == "PointHead"


def origin_of(config: str | Path | ModelConfig) -> str:
    """Say where a config comes from, for messages."""
    return "model config" if isinstance(config, dict) else str(config)
