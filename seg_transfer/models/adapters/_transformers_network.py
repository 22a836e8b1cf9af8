"""Building networks of the transformers library that output logits per pixel, from a local folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seg_transfer.errors import CheckpointError, ConfigError, reason_of
from seg_transfer.models.adapters._transformers_folder import TransformersFolder
from seg_transfer.models.checkpoints import load_checkpoint
from seg_transfer.models.compat import import_torchvision, quiet
from seg_transfer.models.networks import to_device
from seg_transfer.models.reading import source_of, source_of_scores
from seg_transfer.models.sealed import sealed
from seg_transfer.models.source_model import SourceModel


def load_transformers(folder: Path, contents: TransformersFolder, *, device: str, scores_only: bool) -> SourceModel:
    """Load a model of ``AutoModelForSemanticSegmentation``.

    Nothing is downloaded and no code of the folder is run; the weights are read like any other checkpoint. Features
    are read before the last 1x1 layer that has one output per label of the config and whose output is the logits.

    Args:
        folder: The folder of the model.
        contents: What was read from the folder.
        device: A torch device.
        scores_only: Read only the logits, and no features.

    Raises:
        ConfigError: transformers is missing, or the model does not output logits per pixel.
        CheckpointError: The weights are missing, unsafe, or do not fit.
    """
    network = to_device(_network(folder, contents), device)
    normalization = (contents.mean, contents.std, contents.channel_order)
    n_classes = int(getattr(network.config, "num_labels"))  # noqa: B009  its type is unknown
    if scores_only:
        return source_of_scores(network, *normalization, n_classes=n_classes)
    for name in reversed([name for name, module in network.named_modules() if _may_classify(module, n_classes)]):
        with contextlib.suppress(ConfigError):  # an auxiliary head for training, or a head of another scale
            return source_of(network, name, *normalization)
    source_of_scores(network, *normalization, n_classes=n_classes)  # may fail with a more specific error
    raise ConfigError(
        f"{folder}: no 1x1 classifier of {type(network).__name__} gives its logits, so its pixel features are "
        "unknown; set scores_only: true to use its class probabilities alone"
    )


def _may_classify(module: nn.Module, n_classes: int) -> bool:
    if isinstance(module, nn.Linear):
        return module.out_features == n_classes
    return isinstance(module, nn.Conv2d) and (module.kernel_size, module.out_channels) == ((1, 1), n_classes)


def _network(folder: Path, contents: TransformersFolder) -> nn.Module:
    state = {name: tensor for file in contents.weights for name, tensor in load_checkpoint(file).items()}
    with quiet(), _offline(folder) as transformers, sealed(), torch.random.fork_rng():
        try:
            config: Any = transformers.CONFIG_MAPPING[contents.config.get("model_type")].from_dict(contents.config)
        except Exception as error:  # whatever the constructor of an unknown config raises
            raise ConfigError(
                f"{folder}: not a config of transformers ({reason_of(error)}); name another folder"
            ) from error
        if type(config) not in transformers.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING:
            raise ConfigError(
                f"{folder}: {config.model_type} has no model that outputs one logit per pixel and class (masks of "
                "queries do not count); use SegFormer, UPerNet, DPT or another of AutoModelForSemanticSegmentation"
            )
        model: Any = transformers.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING[type(config)]
        try:
            # The state is passed so that transformers opens no weights itself; "eager" keeps a config from requesting
            # compiled attention from elsewhere.
            network, info = model.from_pretrained(
                None,
                config=config,
                state_dict=state,
                output_loading_info=True,
                dtype=torch.float32,
                attn_implementation="eager",
            )
        except Exception as error:
            reason = reason_of(error)
            raise CheckpointError(f"{folder}: weights do not fit config.json ({reason}); copy both") from error
        _check_loaded(folder, info)
        loaded: nn.Module = network
        return loaded


def _check_loaded(folder: Path, info: dict[str, Any]) -> None:
    for problem in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        names = sorted(map(str, info.get(problem) or ()))
        if names:
            raise CheckpointError(
                f"{folder}: {problem.replace('_', ' ')} in its weights, such as {names[0]}; copy config.json and "
                "weights of one model"
            )


@contextlib.contextmanager
def _offline(folder: Path) -> Iterator[Any]:
    """Yield the library, silent and kept offline while it is used."""
    import_torchvision()
    try:
        transformers: Any = import_module("transformers")
        constants: Any = import_module("huggingface_hub.constants")
    except ImportError as error:
        raise ConfigError(
            f"{folder}: transformers cannot be imported ({reason_of(error)}); pip install 'seg_transfer[transformers]'"
        ) from error
    logging = transformers.utils.logging
    before, level = constants.HF_HUB_OFFLINE, logging.get_verbosity()
    progress = logging.is_progress_bar_enabled()
    constants.HF_HUB_OFFLINE = True
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield transformers
    finally:
        constants.HF_HUB_OFFLINE = before
        logging.set_verbosity(level)
        if progress:
            logging.enable_progress_bar()
