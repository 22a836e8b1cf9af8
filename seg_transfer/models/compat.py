"""Importing mmsegmentation quietly, with any mmcv, and torchvision beside a torch that it was not built for.

mmsegmentation is optional, and comes from several distributions: mmsegmentation with mmcv or mmcv-lite, or the forks
onedl-mmsegmentation and onedl-mmcv, whose packages have the same names. Nothing here depends on their versions.

mmsegmentation 1.2 imports two compiled operators of mmcv unconditionally, although none of the models here use them,
and mmcv-lite, like onedl-mmcv where it was built without torch, has no compiled operators. While ``mmcv.ops`` is
imported, a stand-in takes the place of the missing extension; it is removed at once, because a module without a spec
left in ``sys.modules`` breaks mmengine's Runner. Where the real operators exist, nothing is replaced.

torchvision, too, has compiled operators, which load only beside the very build of torch that they were compiled for:
the wheel on PyPI fails to import beside the CPU build of the same torch. Networks of torchvision, timm and transformers
that classify pixels use none of them, so declaring their names is enough to import the package.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from seg_transfer.errors import ConfigError, reason_of

# Package -> the distribution that messages name.
_PACKAGES = {"mmseg": "mmsegmentation", "mmcv": "mmcv", "mmengine": "mmengine"}
_EXTENSION = "mmcv._ext"
_SHARDED = "fully_sharded_distributed", "MMFullyShardedDataParallel"
# Operators whose names the Python code of torchvision refers to when it is imported.
_WITH_GRADIENT = ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
_OPERATORS = ("nms", "qnms", "qroi_align", *_WITH_GRADIENT, *(f"_{name}_backward" for name in _WITH_GRADIENT))
# A Library removes its operators when it is garbage-collected.
_declared: list[object] = []


class _MissingOperators(types.ModuleType):
    """Stub of ``mmcv._ext``: it has every operator by name, and runs none."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_args: object, **_kwargs: object) -> None:
            raise NotImplementedError(
                f"mmcv operator {name} is compiled code that this mmcv lacks; install mmcv with compiled operators"
            )

        return missing


class _Sharded:
    """Stub of mmengine's wrapper of ``FullyShardedDataParallel``."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        raise NotImplementedError(f"{_SHARDED[1]} is left out; import mmengine.runner before seg_transfer.models")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the deprecation warnings of mmseg's and mmcv's own code on import and when networks are built."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def import_mmseg(needed_by: str = "model config") -> None:
    """Import ``mmseg.models``, which fills its registry. This takes seconds the first time, so call it late.

    Args:
        needed_by: The file or source that needs it; error messages begin with it.

    Raises:
        ConfigError: mmsegmentation is not installed, or refuses the installed mmcv or mmengine.
    """
    require_mmseg(needed_by)
    try:
        _import()
    except (ImportError, AssertionError) as error:  # mmseg asserts the versions it works with
        raise ConfigError(
            f"{needed_by}: mmsegmentation cannot be imported ({reason_of(error)}); install versions of mmsegmentation, "
            "mmcv and mmengine that belong together"
        ) from error


def require_mmseg(needed_by: str) -> None:
    """Raise ConfigError where mmsegmentation, mmcv or mmengine is not installed; imports none of them."""
    _require(needed_by, _PACKAGES)


def require_mmengine(needed_by: str) -> None:
    """Raise ConfigError where mmengine, which trains networks of any kind, is not installed; does not import it."""
    _require(needed_by, {"mmengine": _PACKAGES["mmengine"]})


def _require(needed_by: str, packages: Mapping[str, str]) -> None:
    for package, distribution in packages.items():
        if package not in sys.modules and importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"{needed_by}: {distribution} is not installed: pip install 'seg_transfer[mmseg]', or a fork of it"
            )


@cache
def _import() -> None:
    with quiet():
        import_mmengine()
        if importlib.util.find_spec(_EXTENSION) is None:
            with _standing_in(_MissingOperators(_EXTENSION)):
                importlib.import_module("mmcv.ops")
        with _hidden("timm"):
            importlib.import_module("mmseg.models")
        logging = importlib.import_module("mmengine.logging")
        # Otherwise building a network logs the initialization of every parameter.
        logging.MMLogger.get_instance("mmengine", log_level="ERROR")


def import_mmengine() -> None:
    """Import mmengine without what it brings to train one network in shards, which takes longer than all the rest.

    Its optimizers of transformers and its wrappers of FullyShardedDataParallel are not registered then. A process that
    has imported ``mmengine.runner`` before keeps them.
    """
    if "mmengine.runner" in sys.modules:
        return
    sharded = types.ModuleType(f"mmengine.model.wrappers.{_SHARDED[0]}")
    setattr(sharded, _SHARDED[1], _Sharded)
    with quiet(), _hidden("transformers", "torch.distributed.optim", "torch.distributed.fsdp"), _standing_in(sharded):
        importlib.import_module("mmengine.runner")


@contextlib.contextmanager
def _standing_in(module: types.ModuleType) -> Iterator[None]:
    """Within the context, a module takes the place of the one of that name."""
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        del sys.modules[module.__name__]


@contextlib.contextmanager
def _hidden(*packages: str) -> Iterator[None]:
    """Within the context, packages that are not yet imported look as if they were not installed."""
    hidden = [package for package in packages if package not in sys.modules]
    # This is how Python marks what must not be imported.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]


def bring_timm(origin: str) -> None:
    """Import timm for mmsegmentation's ``TIMMBackbone``, which `import_mmseg` leaves without it.

    Args:
        origin: What needs it; the message begins with it.

    Raises:
        ConfigError: timm is not installed, or does not fit.
    """
    backbone = importlib.import_module("mmseg.models.backbones.timm_backbone")
    backbone.timm = import_after_torchvision("timm", origin, "pip install 'seg_transfer[timm]'")  # type: ignore[attr-defined]


def import_torchvision() -> None:
    """Import torchvision, if it is installed, so that libraries which import it can be imported too.

    Call this before importing torchvision, timm, segmentation_models_pytorch or transformers. Where the operators of
    torchvision cannot be loaded, their names are declared without implementations; where they can, nothing changes.
    Any other failure is left to the library that needs torchvision.
    """
    try:
        with quiet():
            importlib.import_module("torchvision")
    except RuntimeError as error:
        if _declared or "operator torchvision::" not in str(error):
            return
        # The failed import has left submodules behind.
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        _declared.append(_declare_operators())
        import_torchvision()
    except ImportError:
        return


def import_after_torchvision(package: str, origin: str, advice: str) -> Any:
    """Import a library that needs torchvision, or torchvision itself.

    Args:
        package: Its name.
        origin: What needs it; the message begins with it.
        advice: How to install it, the end of the message.

    Raises:
        ConfigError: It is not installed, or does not fit.
    """
    try:
        import_torchvision()
        with quiet():
            return importlib.import_module(package)
    except (ImportError, RuntimeError) as error:  # a torchvision that does not fit torch raises RuntimeError
        raise ConfigError(f"{origin}: {package} cannot be imported ({reason_of(error)}); {advice}") from error


def _declare_operators() -> object:
    import torch

    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in _OPERATORS:
        library.define(f"{name}(Tensor x) -> Tensor")
    return library
