"""Building networks of the transformers library from a config that is plain data, and reading their weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from importlib import import_module
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from seg_transfer.errors import CheckpointError, ConfigError, reason_of
from seg_transfer.models.adapters._transformers_folder import ENCODERS, Role
from seg_transfer.models.adapters._transformers_wrappers import BackboneMaps, ScoresOfQueries, find_layout
from seg_transfer.models.compat import import_torchvision, quiet
from seg_transfer.models.sealed import sealed

# What larger models, such as CLIP, SAM and Depth Anything, call their image encoder in the names of weights.
_ENCODER_NAMES = ("vision_model.", "vision_encoder.", "backbone.", "model.")
# A masked autoencoder drops and shuffles patches; the same weights make an ordinary ViT.
_SAME_TRUNK = {"vit_mae": "vit"}
# Weights that may be missing. The norms before the maps of a backbone start as the identity on normalized features, as
# in the library when a backbone is made from a classifier's weights. Mask tokens are used in pretraining only.
_MAY_MISS: dict[Role, tuple[str, ...]] = {
    "backbone": ("*hidden_states_norms.*", "*mask_token", "*.num_batches_tracked"),
}
# Weights that are not used: of auxiliary heads and losses, which serve training only, and of the text encoder that
# contrasts captions with queries there. A backbone leaves out whatever else the file has, such as a classifier.
_UNUSED: dict[Role, tuple[str, ...]] = {
    "semantic": ("auxiliary_head.*",),
    "universal": ("criterion.*", "model.text_mapper.*", "model.prompt_ctx.*"),
    "backbone": ("*",),
}


def build_transformers(architecture: Mapping[str, Any], origin: str) -> nn.Module:
    """Build a network with random weights.

    Args:
        architecture: As `TransformersEntry.architecture` returns it.
        origin: Where it comes from; messages begin with it.

    Returns:
        For role "semantic", the network of the library; for the other roles, one of `_transformers_wrappers`.

    Raises:
        ConfigError: The library is missing or cannot build it, or the network returns no maps.
    """
    with _library(origin) as library:
        model_class, config, options = _class_of(library, architecture, origin)
        try:
            model = model_class._from_config(config, **_settings_of(model_class, architecture["role"]), **options)
        except Exception as error:  # whatever the constructor of an unknown network raises
            raise ConfigError(
                f"{origin}: {model_class.__name__} cannot be built from config.json ({reason_of(error)}); copy "
                "config.json again"
            ) from error
        return _wrapped(model.eval(), architecture, origin)


def load_weights(network: nn.Module, architecture: Mapping[str, Any], state: Mapping[str, Tensor], origin: str) -> None:
    """Load weights, which may have the names of any version of the library.

    Args:
        network: As `build_transformers` returns it for this architecture; changed in place.
        architecture: As `TransformersEntry.architecture` returns it.
        state: The weights; those of a backbone may be part of a larger model.
        origin: Where the weights come from; messages begin with it.

    Raises:
        CheckpointError: They do not fit, or are NaN or infinite.
    """
    role: Role = architecture["role"]
    model: Any = network if role == "semantic" else network.model
    problems: list[str] = []
    with _library(origin) as library:
        for candidate in _without_prefixes(state) if role == "backbone" else [dict(state)]:
            loaded, problem = _converted(library, architecture, candidate, origin)
            if problem is None:
                _check_finite(model, loaded, origin)
                # A training loss, which a wrapper leaves out, has buffers.
                model.load_state_dict({name: loaded[name] for name in model.state_dict()})
                return
            problems.append(problem)
    raise CheckpointError(f"{origin}: {problems[0]}; copy config.json and weights of one model")


def _check_finite(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    for name, _ in model.named_parameters():
        if not torch.isfinite(state[name]).all():
            raise CheckpointError(
                f"{origin}: parameter {name} holds NaN or infinite values; the training diverged: name an earlier "
                "checkpoint"
            )


def _converted(
    library: Any, architecture: Mapping[str, Any], state: dict[str, Tensor], origin: str
) -> tuple[dict[str, Tensor], str | None]:
    """Return weights under the names that the installed version of the library has for them, and what is wrong."""
    # Building a network may change its config, so that it is read again.
    model_class, config, options = _class_of(library, architecture, origin)
    role: Role = architecture["role"]
    try:
        # The state is passed so that the library opens no weights itself.
        loaded, report = model_class.from_pretrained(
            None,
            config=config,
            state_dict=state,
            output_loading_info=True,
            **_settings_of(model_class, role),
            **options,
        )
    except Exception as error:
        raise CheckpointError(f"{origin}: weights do not fit config.json ({reason_of(error)}); copy both") from error
    return loaded.state_dict(), _problem_of(role, report)


def _without_prefixes(state: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield the state as it is, and then the part of it under each name that larger models give their image encoder."""
    yield dict(state)
    for prefix in _ENCODER_NAMES:
        part = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        if part:
            yield part


def _problem_of(role: Role, info: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the weights in the library's report on loading them; None if they fit."""
    tolerated = {"missing_keys": _MAY_MISS.get(role, ()), "unexpected_keys": _UNUSED[role]}
    for problem in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        patterns = tolerated.get(problem, ())
        names = sorted(
            name
            for name in map(str, info.get(problem) or ())
            if not any(fnmatchcase(name, pattern) for pattern in patterns)
        )
        if names:
            return f"{problem.replace('_', ' ')} in its weights, such as {names[0]}"
    return None


def _class_of(library: Any, architecture: Mapping[str, Any], origin: str) -> tuple[Any, Any, dict[str, Any]]:
    """Return the library's class of a network, its config, and options of its constructor."""
    role, plain = architecture["role"], dict(architecture["config"])
    kind = plain.get("model_type")
    if not isinstance(kind, str) or kind not in library.CONFIG_MAPPING:
        code = "its code lies in the repository, and no code of a repository is run; " if "auto_map" in plain else ""
        raise ConfigError(f"{origin}: not a config of transformers (model_type {kind!r}); {code}name another folder")
    try:
        config: Any = library.CONFIG_MAPPING[kind].from_dict(plain)
    except Exception as error:  # whatever the constructor of a config raises
        raise ConfigError(
            f"{origin}: not a config of transformers ({reason_of(error)}); name another folder"
        ) from error
    if role == "backbone":
        return _backbone_class_of(library, config, origin)
    if role == "universal":
        config.return_dict = True
    classes = library.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING
    if role == "universal":
        classes = library.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING
    if type(config) not in classes:
        raise ConfigError(
            f"{origin}: transformers has no network of type {config.model_type} for {role} segmentation; name another "
            "folder"
        )
    if hasattr(config, "use_auxiliary_head"):
        config.use_auxiliary_head = False  # it serves training only, and costs time
    if role == "universal" and hasattr(config, "is_training"):
        config.is_training = False  # else OneFormer needs a caption for every image
    return classes[type(config)], config, {}


def _backbone_class_of(library: Any, config: Any, origin: str) -> tuple[Any, Any, dict[str, Any]]:
    """As `_class_of` for a network without a head: of AutoBackbone if the library has one, else its base model."""
    config.return_dict = True
    if config.model_type in _SAME_TRUNK:
        config = library.CONFIG_MAPPING[_SAME_TRUNK[config.model_type]].from_dict(config.to_dict())
    if type(config) in library.MODEL_FOR_BACKBONE_MAPPING and getattr(config, "stage_names", None):
        # All but the stem, which has the stride of the first stage, or is the image itself.
        config.out_features = [name for name in config.stage_names if name != "stem"]
        return library.MODEL_FOR_BACKBONE_MAPPING[type(config)], config, {}
    for encoder in ENCODERS:
        if isinstance(getattr(config, encoder, None), library.PreTrainedConfig):
            return _backbone_class_of(library, getattr(config, encoder), origin)
    if type(config) not in library.MODEL_MAPPING:
        raise ConfigError(
            f"{origin}: transformers has no image encoder of type {config.model_type}; name another folder"
        )
    model_class = library.MODEL_MAPPING[type(config)]
    if model_class.main_input_name != "pixel_values":
        wanted = model_class.main_input_name
        raise ConfigError(f"{origin}: {model_class.__name__} takes {wanted} instead of images; name another folder")
    return model_class, config, _options_of(model_class)


def _settings_of(model_class: Any, role: Role) -> dict[str, Any]:
    """Return the precision and the attention, which a config must not choose: it could name code from elsewhere."""
    # PyTorch's own attention keeps no weights, which for all pairs of patches need much memory. Semantic networks keep
    # the attention that their stored features were computed with, and a network may have parts that know no other.
    supports_fused = getattr(model_class, "_supports_sdpa", False) and not model_class.config_class.sub_configs
    is_fused = role != "semantic" and supports_fused
    return {"dtype": torch.float32, "attn_implementation": "sdpa" if is_fused else "eager"}


def _options_of(model_class: Any) -> dict[str, Any]:
    """Return the options of a constructor that leave out the layers after the last map."""
    return {"add_pooling_layer": False} if "add_pooling_layer" in signature(model_class).parameters else {}


def _wrapped(model: Any, architecture: Mapping[str, Any], origin: str) -> nn.Module:
    if architecture["role"] == "semantic":
        network: nn.Module = model
        return network
    if architecture["role"] == "universal":
        return ScoresOfQueries(model, architecture.get("task_tokens"))
    try:
        return BackboneMaps(model, find_layout(model))
    except Exception as error:
        raise ConfigError(
            f"{origin}: {type(model).__name__} gives no maps ({reason_of(error)}); name another folder, or provide the "
            "network by a factory"
        ) from error


@contextlib.contextmanager
def _library(origin: str) -> Iterator[Any]:
    """Yield the library, silent and sealed off from everything but its own files while it is used."""
    import_torchvision()
    try:
        with quiet():
            transformers: Any = import_module("transformers")
            constants: Any = import_module("huggingface_hub.constants")
    except ImportError as error:
        raise ConfigError(
            f"{origin}: transformers cannot be imported ({reason_of(error)}); pip install 'seg_transfer[transformers]'"
        ) from error
    logging = transformers.utils.logging
    before, level = constants.HF_HUB_OFFLINE, logging.get_verbosity()
    progress = logging.is_progress_bar_enabled()
    constants.HF_HUB_OFFLINE = True
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with quiet(), sealed(), torch.random.fork_rng():
            yield transformers
    finally:
        constants.HF_HUB_OFFLINE = before
        logging.set_verbosity(level)
        if progress:
            logging.enable_progress_bar()
