"""mmseg model configs as plain dicts: reading one, adapting it to a dataset, and its content key; without torch."""

from __future__ import annotations

import ast
import copy
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from seg_transfer.data.fields import IGNORE, ignore_index
from seg_transfer.data.plain import read_json, read_yaml
from seg_transfer.errors import CheckpointError, ConfigError, reason_of
from seg_transfer.models.compat import import_mmseg
from seg_transfer.models.libraries import installed_version
from seg_transfer.resources import shipped
from seg_transfer.store.content_key import Key, content_key, sha256_of_file
from seg_transfer.store.memo import is_settled, load_cached, name_of, save_cached, version_of
from seg_transfer.store.source_card import FILE_NAME, read_source_card

ModelConfig = dict[str, Any]

_HEADS = ("decode_head", "auxiliary_head")
# Functions that a config may call and still give the same result every time it is read.
_PURE_FUNCTIONS = {"dict", "list", "tuple", "set", "range", "len", "min", "max", "sum", "abs", "round", "sorted", "zip"}
_PURE_FUNCTIONS |= {"int", "float", "str", "bool", "enumerate"}
_IMPURE_TEXT = re.compile(r"\{\{\s*\$|custom_imports")
_COMPLETE = "dump the whole config (mmengine's Config.dump), or name the .py config, which is announced before it runs"
# Fields that make mmseg read a file that the config chooses. They are dropped: weights come from the checkpoint, and
# class weights belong to the config's own training.
_FILE_FIELDS = ("checkpoint_path", "class_weight")
_INIT_FIELDS = ("init_cfg", "override")


def read_model_config(path: str | Path, *, memo: Path | None = None) -> ModelConfig:
    """Read the ``model`` entry of an mmseg config (.py, .json, .yaml) as a plain dict.

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
        return _segmentor(_read_data(file), str(file))
    model = _read_memo(file, memo) if memo else None
    return _segmentor(_run(file, memo) if model is None else model, str(file))


def code_configs_among(configs: Iterable[Path]) -> list[Path]:
    """List the model configs that are Python code from outside this package: reading one runs it."""
    shipped_configs = shipped("configs").resolve()
    return sorted(path for path in configs if path.suffix == ".py" and not path.is_relative_to(shipped_configs))


def _segmentor(model: object, origin: str) -> ModelConfig:
    """Check that a model is the config of a segmentor, and return it in portable form."""
    if isinstance(model, dict) and "kind" in model and "architecture" in model:
        return model  # trained here, from a network of another kind
    if not isinstance(model, dict) or "decode_head" not in model or "backbone" not in model:
        raise ConfigError(f"{origin}: field model must be an mmseg segmentor with backbone and decode_head; correct it")
    try:
        return portable(model)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{origin}: field model is not plain data ({reason_of(error)}); correct it") from error


def _read_data(file: Path) -> object:
    """Read the ``model`` entry of a JSON or YAML config, which must have no base config."""
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
    return config.get("model")


def _run(file: Path, memo: Path | None) -> Any:
    import_mmseg(str(file))
    from mmengine import Config

    from seg_transfer.models.registered import with_registered_names

    began = time.time_ns()
    try:
        config = Config.fromfile(file).to_dict()
        files = list(dict.fromkeys(_with_bases(file))) if memo else []
    except Exception as error:  # a config is arbitrary code and fails in arbitrary ways
        raise ConfigError(f"{file}: not a readable mmengine config ({reason_of(error)}); fix the config") from error
    model = with_registered_names(config.get("model"))
    versions = {str(path.absolute()): version_of(path) for path in files}
    if memo and all(is_settled(version, began) for version in versions.values()) and all(map(_is_pure, files)):
        save_cached(_memo_file(file, memo), {"reader": _reader(), "files": versions, "model": model})
    return model


def _read_memo(file: Path, memo: Path) -> Any:
    """Return the model that was read last time if every file it was read from is unchanged; otherwise None."""
    cached = load_cached(_memo_file(file, memo))
    files = cached.get("files")
    if cached.get("reader") != _reader() or not isinstance(files, dict) or not files:
        return None
    try:
        is_unchanged = all(version_of(Path(name)) == version for name, version in files.items())
    except OSError:
        return None
    return cached.get("model") if is_unchanged else None


def _memo_file(file: Path, memo: Path) -> Path:
    return memo / "configs" / f"{name_of([str(file.absolute())])}.json"


def _reader() -> str:
    return f"mmengine {installed_version('mmengine', 'mmengine')}"


def _with_bases(file: Path) -> Iterator[Path]:
    """Yield a config and all its base configs."""
    from mmengine import Config

    yield file
    for base in Config._get_base_files(str(file)):
        yield from _with_bases(Path(Config._get_cfg_path(base, str(file))[0]))


def _is_pure(file: Path) -> bool:
    """Return whether a config gives the same result every time: it reads no environment variables, imports or files."""
    text = file.read_text(encoding="utf-8")
    if _IMPURE_TEXT.search(text):
        return False
    nodes = list(ast.walk(ast.parse(text))) if file.suffix == ".py" else []
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return called <= _PURE_FUNCTIONS and not any(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes)


def portable(model: Mapping[str, Any]) -> ModelConfig:
    """Return the same network independent of the machine: no downloads of weights, BN for SyncBN, plain JSON types.

    Training in several processes on CUDA turns BN into SyncBN again.
    """
    plain: ModelConfig = json.loads(json.dumps(_portable(model)))
    preprocessor = plain.get("data_preprocessor")
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
    """Yield every head of a model config, main heads first; a cascade has several of them."""
    for key in _HEADS:
        entry = model.get(key)
        yield from [entry] if isinstance(entry, dict) else entry or []


def n_classes_of(model: Mapping[str, Any]) -> int:
    """Return the number of classes of the config's last main head, or of a trained network of another kind."""
    if "n_classes" in model:
        return int(model["n_classes"])
    entry = model["decode_head"]
    return int((entry[-1] if isinstance(entry, list) else entry)["num_classes"])


def with_classes(model: ModelConfig, n_classes: int) -> ModelConfig:
    """Return the config of the same network with another number of classes.

    Args:
        model: The ``model`` entry of an mmseg config.
        n_classes: Number of classes of every head.

    Returns:
        A copy, without class weights in its losses, which belong to the old classes.
    """
    changed = copy.deepcopy(model)
    for head in heads(changed):
        head["num_classes"] = n_classes
        head.pop("out_channels", None)
        losses = head.get("loss_decode", {})
        for loss in [losses] if isinstance(losses, dict) else losses:
            loss.pop("class_weight", None)
            loss.setdefault("avg_non_ignore", True)
        # Otherwise mmseg ignores 255, which is a class here. Configs with fewer classes stay as they are.
        if n_classes > IGNORE:
            head["ignore_index"] = ignore_index(n_classes)
    return changed


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
    sha256 = weights and sha256_of_file(weights, memo)
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
        The ``model`` dict without auxiliary heads, and the weights file; None for random weights.

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
    return {key: value for key, value in model.items() if key != "auxiliary_head"}, weights


def origin_of(config: str | Path | ModelConfig) -> str:
    """Say where a config comes from, for messages."""
    return "model config" if isinstance(config, dict) else str(config)
