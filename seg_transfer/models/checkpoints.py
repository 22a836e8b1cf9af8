"""Reading and writing network weights. A checkpoint is untrusted: nothing in it is ever run."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from seg_transfer.errors import CheckpointError, printable, reason_of
from seg_transfer.models.files import is_index, shards_of
from seg_transfer.models.weights.misfits import describe_choice, describe_misfit
from seg_transfer.models.weights.opened import WeightsFile, open_weights, read_values
from seg_transfer.models.weights.state_dicts import Fit, Leaf, find_fits, find_leaves, only_state_dict
from seg_transfer.store.atomic import replaced_atomically

_PREFIX = "module."


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the weights of a checkpoint file, without a network that says which they are.

    Args:
        path: A safetensors file, or a file that ``torch.save`` wrote: a plain state dict, a dict that holds one under
            ``state_dict`` (mmengine, mmseg), ``model_state_dict``, ``model`` or any other name, or a whole network.

    Returns:
        Parameter name -> tensor on the CPU, without the ``module.`` prefix that DataParallel leaves.

    Raises:
        CheckpointError: The file is missing or damaged, or holds no state dict or several. Pickled code is never run,
            whatever the environment variables say.

    Example:
        >>> load_checkpoint("missing.pth")
        Traceback (most recent call last):
        seg_transfer.errors.CheckpointError: missing.pth: no such checkpoint file; check the path in the study
    """
    opened = open_weights(Path(path))
    leaves = only_state_dict(opened.content, str(path))
    return {name.removeprefix(_PREFIX): tensor for name, tensor in read_values(opened, leaves).items()}


def weights_for(
    expected: Mapping[str, Sequence[int]],
    files: Path | Sequence[Path],
    *,
    optional: Sequence[str] = (),
    ignored: Sequence[str] = (),
    weights_key: str | None = None,
) -> dict[str, Tensor]:
    """Find and read the weights of a network, wherever in a checkpoint they are.

    The names of the network are looked for below any keys and behind any prefixes. Exactly one place must have all of
    them, in their shapes, and nothing else; places with equal values count as one. The counters of BatchNorm, which
    affect no output, may be missing.

    Args:
        expected: Name of a parameter or buffer -> its shape, in the order of the network.
        files: A file, an index of shards (``*.index.json``), or all shards.
        optional: Patterns (``fnmatch``) of names that may be missing.
        ignored: Patterns of names that the checkpoint may have in addition.
        weights_key: Dotted path of the weights in the checkpoint, such as "model_ema", where several fit; "." is the
            top.

    Returns:
        Name -> tensor on the CPU, float32 where it is not of integers.

    Raises:
        CheckpointError: A file is missing or damaged, no place fits or several do, or weights are NaN or infinite; one
            line says what was found.
    """
    paths = [files] if isinstance(files, Path) else list(files)
    opened = [open_weights(file) for path in paths for file in (shards_of(path) if is_index(path) else (path,))]
    origin = str(paths[0] if len(paths) == 1 else paths[0].parent)
    leaves, owners = _merged(opened, origin)
    fits = find_fits(expected, leaves, optional=optional, ignored=ignored)
    exact = _chosen(fits, expected, leaves, origin, weights_key)
    found = _values(exact[0], opened, owners)
    for other in exact[1:]:
        again = _values(other, opened, owners)
        if found.keys() != again.keys() or not all(torch.equal(found[name], again[name]) for name in found):
            raise CheckpointError(printable(describe_choice(origin, exact, expected)))
    return {name: _checked(tensor, name, origin) for name, tensor in found.items()}


def load_files(
    network: nn.Module,
    files: Path | Sequence[Path],
    *,
    optional: Sequence[str] = (),
    ignored: Sequence[str] = (),
    weights_key: str | None = None,
) -> None:
    """Find the weights of a network in files and load them; arguments and errors are those of `weights_for`."""
    state = weights_for(shapes_of(network), files, optional=optional, ignored=ignored, weights_key=weights_key)
    # Starting from its own state keeps the versions of its modules, which some modules ask for.
    complete = network.state_dict()
    complete.update(state)
    network.load_state_dict(complete)


def shapes_of(network: nn.Module) -> dict[str, torch.Size]:
    """Return name -> shape of a network's parameters and buffers, for `weights_for`."""
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


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
    # Copies, because weights that several layers share would share memory, which safetensors refuses.
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}
    with replaced_atomically(file) as temporary:
        safetensors.torch.save_file(tensors, temporary)


def load_exactly(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load all weights of a network; BatchNorm's counters, which affect no output, may be missing.

    Args:
        network: Changed in place.
        state: Parameter name -> tensor; the names may have a prefix in common.
        origin: Where the weights come from, for messages.

    Raises:
        CheckpointError: A parameter is missing, unknown, or has the wrong shape; the message names the first one.
    """
    expected, leaves = shapes_of(network), find_leaves(dict(state))
    exact = _chosen(find_fits(expected, leaves), expected, leaves, origin, None)
    if len(exact) > 1:
        raise CheckpointError(printable(describe_choice(origin, exact, expected)))
    network.load_state_dict({name: state[path] for name, path in exact[0].names.items()}, strict=False)


# Fits


def _merged(opened: Sequence[WeightsFile], origin: str) -> tuple[dict[str, Leaf], dict[str, int]]:
    """Return the tensors of all shards, and the index of the shard that holds each."""
    leaves: dict[str, Leaf] = {}
    owners: dict[str, int] = {}
    for index, part in enumerate(opened):
        twice = next((path for path in part.leaves if path in leaves), None)
        if twice is not None:
            raise CheckpointError(
                printable(f"{origin}: {opened[owners[twice]].file.name} and {part.file.name} both hold {twice}; ")
                + "remove the one that is no shard"
            )
        leaves |= part.leaves
        owners |= dict.fromkeys(part.leaves, index)
    return leaves, owners


def _chosen(
    fits: Sequence[Fit],
    expected: Mapping[str, Sequence[int]],
    leaves: Mapping[str, Leaf],
    origin: str,
    weights_key: str | None,
) -> list[Fit]:
    """Return the places that hold the weights of the network and nothing else, at least one."""
    if weights_key is not None:
        named = [fit for fit in fits if fit.key == weights_key]
        named = named or [fit for fit in fits if fit.prefix.startswith(f"{weights_key}.")]
        if fits and not named:
            places = ", ".join(fit.key for fit in fits[:5])
            reason = f"{weights_key!r} holds no parameter of this network; name one of {places}"
            raise CheckpointError(printable(f"{origin}: field weights_key: {reason}"))
        fits = named
    exact = [fit for fit in fits if fit.is_exact]
    if not exact:
        raise CheckpointError(printable(describe_misfit(origin, fits, expected, leaves)))
    return exact


def _values(fit: Fit, opened: Sequence[WeightsFile], owners: Mapping[str, int]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for index, part in enumerate(opened):
        own = {name: part.leaves[path] for name, path in fit.names.items() if owners[path] == index}
        found |= read_values(part, own)
    return {name: found[name] for name in fit.names}


def _checked(tensor: Tensor, name: str, origin: str) -> Tensor:
    """Return a tensor in float32; refuses NaN and infinite weights."""
    if not tensor.is_floating_point():
        return tensor
    values = tensor.float()
    if not torch.isfinite(values).all():
        is_mask = bool(((values == 0) | (values == -torch.inf)).all())
        what = "NaN" if values.isnan().any() else "infinite values"
        if not is_mask:  # of attention: a constant
            raise CheckpointError(
                printable(f"{origin}: parameter {name} holds {what}; the training diverged: name an earlier checkpoint")
            )
    return values
