"""Tensors that behave like those of a GPU where there is none: they meet no host tensor and no array of NumPy."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_PLAIN_RESULTS = {"tolist", "item", "__bool__", "__len__", "dim", "size"}


class Far(Tensor):
    """A tensor on the far side."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("a far tensor becomes an array of NumPy without a copy to the host")


class FarDevice(TorchFunctionMode):
    """Makes the CPU a far device: tensors that name a device lie there, and only ``cpu`` brings them back.

    Attributes:
        copied: Bytes of every copy to the host.
    """

    def __init__(self) -> None:
        super().__init__()
        self.copied: list[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.__name__
        given = list(_leaves([*args, *kwargs.values()]))
        is_far = any(isinstance(one, Far) for one in given)
        if is_far and name == "cpu":
            self.copied.append(args[0].numel() * args[0].element_size())
            return args[0].as_subclass(Tensor)
        if is_far:
            _refuse_host(name, given)
        result = func(*args, **kwargs)
        names_device = kwargs.get("device") is not None or (name == "to" and isinstance(args[1], torch.device))
        return _far(result) if (is_far or names_device) and name not in _PLAIN_RESULTS else result


def _refuse_host(name: str, given: list[Any]) -> None:
    if name in ("numpy", "__array__"):
        raise RuntimeError(f"{name}: a far tensor is no array of NumPy")
    for one in given:
        if isinstance(one, np.ndarray | Tensor) and not isinstance(one, Far) and one.ndim:
            raise RuntimeError(f"{name}: a far tensor meets a {type(one).__name__} of the host, {tuple(one.shape)}")


def _leaves(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _leaves(value)
        else:
            yield value


def _far(result: Any) -> Any:
    if isinstance(result, Tensor):
        return result.as_subclass(Far)
    if isinstance(result, list | tuple) and any(isinstance(one, Tensor) for one in result):
        return tuple(map(_far, result))
    return result
