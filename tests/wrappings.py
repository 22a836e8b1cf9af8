"""A tiny network and the many ways in which people save it."""

import argparse
import collections
import dataclasses
import enum
import io
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn


class Mode(enum.Enum):
    BEST = "best"


@dataclasses.dataclass
class TrainState:
    """A state object of a training loop, as people pickle it whole."""

    step: int
    network: nn.Module
    mode: Mode = Mode.BEST


class Lightning(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = network()
        self.criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0, 4.0]))


class Labeled(Tensor):
    """A subclass of tensors, as torchvision and fastai have them."""


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tiny = nn.Sequential(
            OrderedDict(backbone=nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)), head=nn.Conv2d(6, 4, 1))
        )
        tiny(torch.rand(2, 3, 8, 8))
    return tiny


def weights() -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network().state_dict().items()}


def named(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in weights().items()}


def optimizer() -> dict[str, Any]:
    tiny = network()
    adam = torch.optim.AdamW(tiny.parameters())
    tiny(torch.rand(2, 3, 8, 8)).mean().backward()
    adam.step()
    return adam.state_dict()


def beside() -> dict[str, Any]:
    """What stands beside weights: objects of the standard library, of NumPy and of torch."""
    return {
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, path=Path("data") / "images"),
        "best": np.float64(0.5),
        "history": np.arange(6.0),
        "rng": np.random.default_rng(0).bit_generator.state,
        "mode": Mode.BEST,
        "loss": collections.deque([0.5, 0.25], maxlen=5),
        "seen": {1, 2},
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "size": torch.Size([2, 3]),
        "options": SimpleNamespace(deep=[("a", None)]),
        "counter": collections.Counter("aab"),
        "complex": 1 + 2j,
        "range": range(3),
        "slice": slice(1, 2),
    }


def averaged() -> dict[str, Any]:
    averaged = torch.optim.swa_utils.AveragedModel(network())
    return averaged.state_dict()


def parallel() -> nn.Module:
    return nn.DataParallel(network())


CONTENTS: dict[str, Callable[[], Any]] = {
    "plain": weights,
    "state_dict with versions": lambda: network().state_dict(),
    "mmengine": lambda: {"state_dict": OrderedDict(weights()), "meta": beside(), "optimizer": optimizer()},
    "model and optimizer": lambda: {"model": weights(), "optimizer": optimizer(), **beside()},
    "model_state_dict": lambda: {"model_state_dict": weights(), "optimizer_state_dict": optimizer()},
    "DataParallel": lambda: {"net": named("module.")},
    "compiled": lambda: {"network": named("_orig_mod.")},
    "compiled and parallel": lambda: {"state_dict": named("module._orig_mod.")},
    "Lightning": lambda: {"state_dict": Lightning().state_dict(), "hyper_parameters": beside(), "loops": {"fit": {}}},
    "averaged": averaged,
    "nested": lambda: {"ema": {"module": {"teacher": {"net": weights()}}}},
    "equal twice": lambda: {"state_dict": weights(), "model_ema": weights()},
    "network": network,
    "parallel network": lambda: {"model": parallel(), **beside()},
    "training state": lambda: TrainState(3, network()),
    "parts": lambda: {"backbone": network().backbone.state_dict(), "head": dict(network().head.state_dict())},
    "parameters": lambda: dict(network().named_parameters()) | dict(network().named_buffers()),
    "subclassed tensors": lambda: {name: tensor.as_subclass(Labeled) for name, tensor in weights().items()},
    "profiled": lambda: {
        **weights(),
        "total_ops": torch.zeros(1).double(),
        "head.total_params": torch.zeros(1).double(),
    },
    "double": lambda: {name: tensor.double() for name, tensor in floats(weights()).items()},
    "shared storage": lambda: views(),
    "beside a plain state dict": lambda: {**weights(), **beside()},
}
"""Name -> what is saved. Every one holds the weights of `network()`."""


def views() -> dict[str, Tensor]:
    """Weights that lie in one storage, each at an offset and with its dimensions in reverse order."""
    state = floats(weights())
    whole = torch.zeros(sum(tensor.numel() for tensor in state.values()) + 3)
    found, start = {}, 3
    for name, tensor in state.items():
        reversed_shape = tuple(reversed(tensor.shape))
        found[name] = whole[start : start + tensor.numel()].view(reversed_shape).permute(*reversed(range(tensor.dim())))
        found[name].copy_(tensor)
        start += tensor.numel()
    return found


def zipped(content: object, file: Path) -> None:
    torch.save(content, file)


def legacy(content: object, file: Path) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


def pickled(content: object, file: Path, protocol: int = 2) -> None:
    file.write_bytes(pickle.dumps(content, protocol))


def sharded(file: Path, *, as_safetensors: bool) -> None:
    """Write an index with two shards beside it."""
    state = weights()
    ending = "safetensors" if as_safetensors else "bin"
    shards = {f"part-{index}.{ending}": dict(list(state.items())[index::2]) for index in range(2)}
    for name, shard in shards.items():
        if as_safetensors:
            safetensors.torch.save_file(shard, file.parent / name)
        else:
            torch.save(shard, file.parent / name)
    where = {name: part for part, shard in shards.items() for name in shard}
    file.write_text(json.dumps({"metadata": {}, "weight_map": where}))


def swapped(content: object, file: Path) -> None:
    """Save as a big-endian machine does: the same archive with every storage turned."""
    saved = io.BytesIO()
    torch.save(content, saved)
    with zipfile.ZipFile(saved) as here, zipfile.ZipFile(file, "w") as there:
        for name in here.namelist():
            record = here.read(name)
            if "/data/" in name:
                record = np.frombuffer(record, "<f4").byteswap().tobytes()
            there.writestr(name, b"big" if name.endswith("/byteorder") else record)


def floats(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights without counters, which are no floats."""
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
