"""Running a factory: its modules can be imported while it runs, and are unloaded afterward."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

import seg_transfer
from seg_transfer.errors import ConfigError, SegTransferError
from seg_transfer.models.adapters._factory_code import own_names, parts_of, source_files
from seg_transfer.models.layers import find_classifier
from seg_transfer.models.outputs import is_auxiliary, run_network, score_maps
from seg_transfer.models.sealed import installation
from seg_transfer.models.sizes import probe_image, probe_size
from seg_transfer.models.source_model import SourceModel, device_of
from seg_transfer.models.watching import Recorded, recording

_THIS_PACKAGE = seg_transfer.__name__

STATEMENTS = "Name its classifier, choose features: stages for a backbone, or set scores_only: true"
"""What an entry may say about its network."""


def check_unstated(source: SourceModel, factory: str) -> None:
    """Check that what a network returns is clear, although its entry does not name a classifier.

    Args:
        source: The network, read as a backbone or as a network with class scores.
        factory: Where it comes from, for messages.

    Raises:
        ConfigError: A backbone may give class scores: its only map is the output of its last linear layer or
            convolution. Or class scores may be other maps: no such layer gives them, or they differ in their channels.
    """
    images = probe_image(*probe_size(source.sizes)).to(device_of(source.network))
    with recording(source.network) as recorded:
        output = run_network(source.network, images)
    n_channels = {one.shape[1] for one in score_maps(output)}
    if source.scores_known and (source.classifier_name is None or len(n_channels) > 1):
        raise ConfigError(
            f"factory {factory}: its network returns maps of {' and '.join(map(str, sorted(n_channels)))} channels: "
            f"class scores, or features? {STATEMENTS}"
        )
    if source.scores_known:
        _check_single(source.network, recorded, output, factory)
    name = find_classifier(source.network, recorded, output)
    if not source.scores_known and len(source.layers) == 1 and name is not None:
        raise ConfigError(
            f"factory {factory}: the only map that its network returns is the output of its last layer {name}: class "
            f"scores, or features? If scores, give classifier: {name}; if features, features: [{name}]"
        )


def _check_single(network: nn.Module, recorded: Recorded, output: object, factory: str) -> None:
    """Raise ConfigError if several layers give maps of as many classes: the main head may be the first or the last."""
    main = {k: v for k, v in output.items() if not is_auxiliary(k)} if isinstance(output, Mapping) else output
    names = dict.fromkeys(filter(None, (find_classifier(network, recorded, one) for one in score_maps(main))))
    if len(names) > 1:
        raise ConfigError(
            f"factory {factory}: its network returns {len(score_maps(main))} maps, of its layers {', '.join(names)}: "
            f"which are its class scores? {STATEMENTS}"
        )


def call_factory(factory: str, folder: Path) -> nn.Module:
    """Run a factory and return its network.

    Args:
        factory: ``package.module:function``.
        folder: Where its module is looked for first.

    Raises:
        ConfigError: It fails, or does not return a network.
    """
    module, function = parts_of(factory)
    try:
        with _importable(factory, folder), torch.random.fork_rng():
            network: object = getattr(import_module(module), function)()
    except SegTransferError:
        raise
    except Exception as error:  # a factory is arbitrary code and fails in arbitrary ways
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(f"factory {factory}: cannot be run ({reason}); fix it, or correct its name") from error
    network = getattr(network, "_orig_mod", network)  # torch.compile hides the layers
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"factory {factory}: returned an object of type {type(network).__name__}; it must return a torch.nn.Module"
        )
    return network


@contextlib.contextmanager
def _importable(factory: str, folder: Path) -> Iterator[None]:
    """Within the context, the modules next to a factory can be imported, and no bytecode is written.

    Afterward these modules are unloaded, because modules of another study may have the same names, and ``sys.path`` is
    restored.

    Raises:
        ConfigError: Code was imported that the factory's content key does not cover.
    """
    files = {file.resolve() for file in source_files(factory, folder).values()}
    own = own_names(factory, folder) - {_THIS_PACKAGE}
    others = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in own}
    # Modules found only after the code changes sys.path may also share names with modules of another study.
    below = {part.removesuffix(".py") for file in files for part in file.parts}
    others |= {
        name: module for name, module in sys.modules.items() if name.partition(".")[0] in below and _is_loose(module)
    }
    _unload(others)
    modules, path, entries, no_bytecode = dict(sys.modules), sys.path, list(sys.path), sys.dont_write_bytecode
    finder = _RelativePathFinder(folder, set(entries))
    sys.path.insert(0, str(folder))
    sys.meta_path.insert(0, finder)
    sys.dont_write_bytecode = True
    try:
        yield
        _check_covered(factory, folder, files, [sys.modules[name] for name in sys.modules.keys() - modules.keys()])
    finally:
        sys.dont_write_bytecode = no_bytecode
        sys.meta_path.remove(finder)
        sys.path, sys.path[:] = path, entries  # code may have replaced the list, or its items
        new = sys.modules.keys() - modules.keys()
        loose = {name.partition(".")[0] for name in new if _is_loose(sys.modules[name])}
        _unload([name for name in new if name.partition(".")[0] in own | loose])
        sys.modules.update(others)


class _RelativePathFinder(MetaPathFinder):
    """Resolves relative paths that a factory's code adds to ``sys.path`` against the factory's folder."""

    def __init__(self, folder: Path, known: set[str]) -> None:
        self.folder, self.known = folder, known

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a top-level module on one of these paths; None if there is none."""
        added = [entry for entry in sys.path if entry not in self.known and not Path(entry).is_absolute()]
        return None if path else PathFinder.find_spec(name, [str(self.folder / entry) for entry in added])


def _check_covered(factory: str, folder: Path, known: set[Path], loaded: Iterable[ModuleType]) -> None:
    untracked = sorted({str(_file_of(module)) for module in loaded if _is_loose(module)} - set(map(str, known)))
    if untracked:
        raise ConfigError(
            f"factory {factory}: imports {untracked[0]}, whose changes would go unnoticed: only modules in {folder} "
            "and installed ones are tracked; name a factory_folder that contains all of its code"
        )


def _is_loose(module: ModuleType) -> bool:
    """Return whether a module is part of neither Python nor an installed library."""
    file = _file_of(module)
    return file is not None and not str(file).startswith(installation())


def _unload(names: Iterable[str]) -> None:
    for name in names:
        del sys.modules[name]


def _file_of(module: object) -> Path | None:
    """Return the file of a module, if any; some libraries put other objects into ``sys.modules``."""
    file = getattr(module, "__dict__", {}).get("__file__")
    return Path(file).resolve() if isinstance(file, str) else None
