"""Any PyTorch network as a source: a function makes it, a file has its weights."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from seg_transfer.errors import ConfigError, SegTransferError
from seg_transfer.models.checkpoints import load_checkpoint, load_exactly
from seg_transfer.models.factory_code import own_names, parts_of
from seg_transfer.models.networks import placed
from seg_transfer.models.source_model import SourceModel, source_of, source_of_scores
from seg_transfer.models.specs import FactorySource


def load_factory(spec: FactorySource, device: str) -> SourceModel:
    """Run a factory, load the weights into the network that it returns, and see that as a source.

    Raises:
        ConfigError: The factory fails or returns no network, or the network does not end in its classifier.
        CheckpointError: The weights are missing, unsafe, or those of another network.
    """
    state = load_checkpoint(spec.weights)
    network = made(spec.factory, spec.folder).float()  # half precision differs from device to device
    load_exactly(network, state, str(spec.weights))
    placed(network, device)
    try:
        if spec.scores_only:
            return source_of_scores(network, spec.mean, spec.std, spec.channel_order)
        return source_of(network, spec.classifier, spec.mean, spec.std, spec.channel_order)
    except ConfigError as error:
        raise ConfigError(f"factory {spec.factory}: {error}") from error


def made(factory: str, folder: Path) -> nn.Module:
    """What a factory returns; `folder` is where its module is looked for first. Raises ConfigError where it fails."""
    module, function = parts_of(factory)
    try:
        with _importable(factory, folder), torch.random.fork_rng():
            network: object = getattr(import_module(module), function)()
    except SegTransferError:
        raise
    except Exception as error:  # a factory is arbitrary code and fails in arbitrary ways
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(f"factory {factory}: cannot be run ({reason}); mend it, or correct its name") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"factory {factory}: returned an object of type {type(network).__name__}; it must return a torch.nn.Module"
        )
    return network


@contextlib.contextmanager
def _importable(factory: str, folder: Path) -> Iterator[None]:
    """The modules beside a factory can be imported; afterwards none of them is left, for those of another study may
    have the same names. Nothing is written beside them.
    """
    own = {name for name in own_names(factory, folder) if not _is_from(sys.modules.get(name), folder)}
    others = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in own}
    writes_bytecode = sys.dont_write_bytecode
    _forget(others)
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_bytecode
        sys.path.remove(str(folder))
        _forget(name for name in list(sys.modules) if name.partition(".")[0] in own)
        sys.modules.update(others)


def _forget(names: Iterable[str]) -> None:
    for name in names:
        del sys.modules[name]


def _is_from(module: ModuleType | None, folder: Path) -> bool:
    """Whether a module is loaded already, and from this folder."""
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(folder)
