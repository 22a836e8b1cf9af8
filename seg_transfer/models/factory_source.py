"""Any PyTorch network as a source: a function makes it, a file has its weights."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

import seg_transfer
from seg_transfer.errors import ConfigError, SegTransferError
from seg_transfer.models.checkpoints import load_checkpoint, load_exactly
from seg_transfer.models.factory_code import code_of, own_names, parts_of
from seg_transfer.models.networks import placed
from seg_transfer.models.sealed import installation
from seg_transfer.models.source_model import SourceModel, source_of, source_of_scores
from seg_transfer.models.specs import FactorySource

_THIS_PACKAGE = seg_transfer.__name__


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
    have the same names, nor what they added to the places where modules are looked for. Nothing is written beside them.

    Raises ConfigError where code was imported that the key of the factory's code does not cover.
    """
    files = {file.resolve() for file in code_of(factory, folder).values()}
    own = own_names(factory, folder) - {_THIS_PACKAGE}
    others = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in own}
    # What is found only when the code has changed sys.path may have the name of a module of another study too.
    below = {part.removesuffix(".py") for file in files for part in file.parts}
    others |= {
        name: module for name, module in sys.modules.items() if name.partition(".")[0] in below and _is_loose(module)
    }
    _forget(others)
    before, path, places, writes_bytecode = dict(sys.modules), sys.path, list(sys.path), sys.dont_write_bytecode
    finder = _BesideFactory(folder, set(places))
    sys.path.insert(0, str(folder))
    sys.meta_path.insert(0, finder)
    sys.dont_write_bytecode = True
    try:
        yield
        _check_covered(factory, folder, files, [sys.modules[name] for name in sys.modules.keys() - before.keys()])
    finally:
        sys.dont_write_bytecode = writes_bytecode
        sys.meta_path.remove(finder)
        sys.path, sys.path[:] = path, places  # code may have replaced the list, or what is in it
        new = sys.modules.keys() - before.keys()
        loose = {name.partition(".")[0] for name in new if _is_loose(sys.modules[name])}
        _forget([name for name in new if name.partition(".")[0] in own | loose])
        sys.modules.update(others)


class _BesideFactory(MetaPathFinder):
    """Relative places that a factory's code adds to ``sys.path`` are in its folder, wherever this process started."""

    def __init__(self, folder: Path, known: set[str]) -> None:
        self.folder, self.known = folder, known

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """A top-level module in one of them; None where there is none."""
        added = [place for place in sys.path if place not in self.known and not Path(place).is_absolute()]
        return None if path else PathFinder.find_spec(name, [str(self.folder / place) for place in added])


def _check_covered(factory: str, folder: Path, known: set[Path], loaded: Iterable[ModuleType]) -> None:
    unseen = sorted({str(_file_of(module)) for module in loaded if _is_loose(module)} - set(map(str, known)))
    if unseen:
        raise ConfigError(
            f"factory {factory}: imports {unseen[0]}, a change of which would go unseen: only modules in {folder} and "
            "installed ones are known; name a factory_folder that holds all of its code"
        )


def _is_loose(module: ModuleType) -> bool:
    """Whether a module is neither Python's nor of an installed library, this one among them."""
    file = _file_of(module)
    return file is not None and not str(file).startswith(installation())


def _forget(names: Iterable[str]) -> None:
    for name in names:
        del sys.modules[name]


def _file_of(module: object) -> Path | None:
    """Where a module was loaded from; some libraries put objects of other kinds among the modules."""
    file = getattr(module, "__dict__", {}).get("__file__")
    return Path(file).resolve() if isinstance(file, str) else None
