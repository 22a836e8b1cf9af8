"""Reading and writing network weights. A checkpoint is untrusted: nothing in it is ever run."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from seg_transfer.errors import CheckpointError, reason_of
from seg_transfer.store.atomic import replaced_atomically

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIX = "module."


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the weights of a checkpoint file.

    Args:
        path: A ``.safetensors`` file, or a file that ``torch.save`` wrote: a plain state dict, or a dict that
            holds one under ``state_dict`` (mmengine, mmseg), ``model_state_dict`` or ``model``.

    Returns:
        Parameter name -> tensor on the CPU, without the ``module.`` prefix that DataParallel leaves.

    Raises:
        CheckpointError: The file is missing, damaged, holds no tensors, or holds Python objects other than tensors
            and plain containers. Pickled code is never run, whatever the environment variables say.

    Example:
        >>> load_checkpoint("missing.pth")
        Traceback (most recent call last):
        seg_transfer.errors.CheckpointError: missing.pth: no such checkpoint file; check the path in the study
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"{file}: no such checkpoint file; check the path in the study")
    state = _read_safetensors(file) if file.suffix == ".safetensors" else _unwrap(file, read_plain_pickle(file))
    if not state:
        raise CheckpointError(f"{file}: holds no weights; expected parameter names with tensors")
    return {name.removeprefix(_PREFIX): tensor for name, tensor in state.items()}


def read_plain_pickle(file: Path) -> object:
    """Read what ``torch.save`` wrote, tensors and plain containers only; raises CheckpointError for anything else."""
    try:
        with warnings.catch_warnings():
            # torch warns of an unusual pickle protocol in many lines; the file is read anyway, or refused below.
            warnings.simplefilter("ignore")
            # Passed explicitly, because TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD would override the default.
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line), "")
        reason = reason.partition(" Please use")[0]  # torch's advice is to trust the file
        raise CheckpointError(
            f"{file}: refused: it is damaged or holds Python objects other than tensors, which could run code "
            f"({reason.strip() or type(error).__name__}); save it as a plain state dict or as safetensors"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = reason_of(error).partition(". ")[0]  # torch goes on to advise loading it as code
        raise CheckpointError(f"{file}: not a readable checkpoint ({reason}); copy it again") from error


def save_weights(state: Mapping[str, Tensor], file: Path) -> None:
    """Write a state dict as safetensors, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with replaced_atomically(file) as temporary:
        safetensors.torch.save_file(tensors, temporary)


def load_exactly(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load all weights of a network; BatchNorm's counters, which affect no output, may be missing.

    Args:
        network: Changed in place.
        state: Parameter name -> tensor.
        origin: Where the weights come from, for messages.

    Raises:
        CheckpointError: A parameter is missing, unknown, or has the wrong shape; the message names the first one.
    """
    expected = network.state_dict()
    missing = [name for name in expected if name not in state and not name.endswith(".num_batches_tracked")]
    unknown = [name for name in state if name not in expected]
    for names, verb in ((missing, "lacks"), (unknown, "has unknown")):
        if names:
            raise CheckpointError(f"{origin}: {verb} parameter {names[0]}; name weights of this network")
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            shape, expected_shape = tuple(tensor.shape), tuple(expected[name].shape)
            raise CheckpointError(
                f"{origin}: {name} has shape {shape}, in the network {expected_shape}; name weights of this network"
            )
    network.load_state_dict(dict(state), strict=False)


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return dict(safetensors.torch.load_file(file))
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: not a readable safetensors file ({error}); copy it again") from error


def _unwrap(file: Path, content: object) -> dict[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{file}: holds a {type(content).__name__}; expected parameter names with tensors")
    other = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if other:
        raise CheckpointError(f"{file}: entry {other[0]} is not a tensor; expected parameter names with tensors")
    return {str(name): tensor for name, tensor in content.items()}
