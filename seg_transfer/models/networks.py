"""mmseg networks from their configs: read one, fit it to a number of classes, build it, load weights into it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.models.compat import import_mmseg, quiet

ModelConfig = dict[str, Any]

_HEADS = ("decode_head", "auxiliary_head")
_CLASSIFIER = "conv_seg"


def read_model_config(path: str | Path) -> ModelConfig:
    """Read the ``model`` entry of an mmseg config (.py, .json, .yaml) as a plain dict.

    A .py config is code and is run: read only a file that its user named and trusts.
    """
    import_mmseg()
    from mmengine import Config

    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"{file}: no such model config; check the path in the study")
    try:
        model = Config.fromfile(file, import_custom_modules=False).to_dict().get("model")
    except Exception as error:  # a config is arbitrary code and fails in arbitrary ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{file}: not a readable mmengine config ({reason}); mend the config") from error
    if not isinstance(model, dict) or "decode_head" not in model or "backbone" not in model:
        raise ConfigError(f"{file}: field model must be an mmseg segmentor with backbone and decode_head")
    return portable(model)


def portable(model: Mapping[str, Any]) -> ModelConfig:
    """The same network without what depends on the machine: no downloads of weights, BN for SyncBN, plain JSON types.

    Batch normalisation over several processes is switched on again by the training loop where it runs on several.
    """
    plain: ModelConfig = json.loads(json.dumps(_portable(model)))
    preprocessor = plain.get("data_preprocessor")
    if isinstance(preprocessor, dict):
        # Images come in one size here; padding them to the crop size of the config's own training would drown them.
        preprocessor.pop("size", None)
        preprocessor["size_divisor"] = 1
    return plain


def _portable(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {key: _portable(item) for key, item in value.items() if key != "pretrained" and not _downloads(item)}
        return {**kept, "type": "BN"} if kept.get("type") == "SyncBN" else kept
    if isinstance(value, list | tuple):
        return [_portable(item) for item in value]
    return value


def _downloads(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("type") == "Pretrained"


def heads(model: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every head of a model config, main ones first; a cascade has several."""
    for key in _HEADS:
        entry = model.get(key)
        yield from [entry] if isinstance(entry, dict) else entry or []


def n_classes_of(model: Mapping[str, Any]) -> int:
    """How many classes the config's last main head scores."""
    entry = model["decode_head"]
    return int((entry[-1] if isinstance(entry, list) else entry)["num_classes"])


def with_classes(model: ModelConfig, n_classes: int) -> ModelConfig:
    """The same network with a classifier for `n_classes` classes; class weights of the loss go with the old ones."""
    changed = copy.deepcopy(model)
    for head in heads(changed):
        head["num_classes"] = n_classes
        head.pop("out_channels", None)
        losses = head.get("loss_decode", {})
        for loss in [losses] if isinstance(losses, dict) else losses:
            loss.pop("class_weight", None)
            loss.setdefault("avg_non_ignore", True)
    return changed


def with_normalisation(
    model: ModelConfig, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> ModelConfig:
    """The same network with images normalised by `mean` and `std` (RGB, fractions of 255)."""
    preprocessor = {
        "type": "SegDataPreProcessor",
        "mean": [255 * value for value in mean],
        "std": [255 * value for value in std],
        "bgr_to_rgb": True,
        "size_divisor": 1,
        "pad_val": 0,
        "seg_pad_val": 255,
    }
    return {**copy.deepcopy(model), "data_preprocessor": preprocessor}


def build_network(model: ModelConfig, *, seed: int) -> nn.Module:
    """Build an mmseg segmentor with randomly initialised weights that depend on `seed` alone."""
    import_mmseg()
    from mmengine import ConfigDict
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    with quiet(), torch.random.fork_rng(), DefaultScope.overwrite_default_scope("mmseg"):
        torch.manual_seed(seed)
        try:
            network: nn.Module = MODELS.build(ConfigDict(copy.deepcopy(model)))
        except Exception as error:  # the registry raises whatever a constructor raises
            raise ConfigError(
                f"model config of type {model.get('type')!r} cannot be built: {str(error).splitlines()[0]}"
            ) from error
        initialise: Callable[[], None] = getattr(network, "init_weights")  # noqa: B009  mmseg types are unknown
        initialise()
    return network


def placed(network: nn.Module, device: str) -> nn.Module:
    """Move a network to a device, in the memory layout that convolutions are fastest in."""
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def classifier_name(network: nn.Module) -> str:
    """Dotted name of the last main head's 1x1 classifier layer."""
    head = network.get_submodule("decode_head")
    prefix = f"decode_head.{len(head) - 1}" if isinstance(head, nn.ModuleList) else "decode_head"
    name = f"{prefix}.{_CLASSIFIER}"
    if not any(module == name for module, _ in network.named_modules()):
        raise ConfigError(f"head {type(head).__name__} has no 1x1 classifier {name}; pixel features need one")
    return name


def load_weights(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load a whole network's weights; auxiliary heads of the checkpoint that the network lacks are left out.

    Raises:
        CheckpointError: A parameter is missing, unknown, or of another shape; the message names the first one.
    """
    _load_where(network, state, origin, lambda name: not name.startswith("auxiliary_head."))


def load_weights_except_classifiers(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load all weights but the classifier layers', which keep their fresh initialisation for new classes."""
    _load_where(network, state, origin, lambda name: not _is_classifier(name))


def _load_where(network: nn.Module, state: Mapping[str, Tensor], origin: str, wanted: Callable[[str], bool]) -> None:
    """Load the parameters whose names are wanted; they must be the same in the network and in the state."""
    some = {name: tensor for name, tensor in state.items() if wanted(name)}
    _check_fit(some, {name: tensor for name, tensor in network.state_dict().items() if wanted(name)}, origin)
    network.load_state_dict(some, strict=False)


def load_backbone(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load backbone weights, as ImageNet checkpoints hold them: with or without the prefix, with other heads."""
    prefix = "backbone."
    backbone = network.get_submodule("backbone")
    expected = backbone.state_dict()
    plain = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    kept = {name: tensor for name, tensor in plain.items() if name in expected}
    _check_fit(kept, expected, origin)
    backbone.load_state_dict(kept)


def _is_classifier(name: str) -> bool:
    return f".{_CLASSIFIER}." in name


def _check_fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], origin: str) -> None:
    for name, tensor in expected.items():
        if name not in state:
            raise CheckpointError(f"{origin}: lacks parameter {name}; name the config that the checkpoint belongs to")
        if state[name].shape != tensor.shape:
            found, wanted = tuple(state[name].shape), tuple(tensor.shape)
            if _is_classifier(name):
                raise CheckpointError(
                    f"{origin}: classifier has {found[0]} classes where its config has {wanted[0]}; "
                    "correct num_classes or name the right checkpoint"
                )
            raise CheckpointError(f"{origin}: {name} has shape {found}, its config makes {wanted}; name its own config")
    unknown = sorted(state.keys() - expected.keys())
    if unknown:
        raise CheckpointError(
            f"{origin}: has parameter {unknown[0]} that its config does not make; name its own config"
        )
