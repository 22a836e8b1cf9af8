"""The arithmetic that float32 networks compute in: float32 on every device, unless a study asks for less."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch

from seg_transfer.models.devices import Precision


@contextlib.contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Let networks on a device compute in a precision; restores all settings afterward.

    In bfloat16 and float16, torch chooses for every operation whether it is safe (autocast).
    """
    half = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_float32_products("tf32" if precision == "tf32" else "ieee"))
        if half is not None:
            stack.enter_context(torch.autocast(device.type, dtype=half))
        yield


@contextlib.contextmanager
def plain_float32() -> Iterator[None]:
    """Disable the use of TF32 and bfloat16 for float32; restores the settings afterward.

    By default, CUDA convolves in TF32, and a model's code may enable more.
    """
    with _float32_products("ieee"):
        yield


@contextlib.contextmanager
def _float32_products(kind: Literal["ieee", "tf32"]) -> Iterator[None]:
    """Set how float32 is multiplied. torch has two sets of settings and fails where they disagree: both are set."""
    newer = [(switch, switch.fp32_precision) for switch in _switches()]
    products = _unless_they_disagree(torch.get_float32_matmul_precision)
    convolutions = _unless_they_disagree(lambda: torch.backends.cudnn.allow_tf32)
    torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = kind == "tf32"
    for switch, _ in newer:
        switch.fp32_precision = kind
    try:
        yield
    finally:
        if products is not None:
            torch.set_float32_matmul_precision(products)
        if convolutions is not None:
            torch.backends.cudnn.allow_tf32 = convolutions
        for switch, precision in newer:
            switch.fp32_precision = precision


def _switches() -> list[Any]:
    """List the newer settings, one per kind of operation; an older setting covers several of them."""
    cuda: Any = torch.backends.cuda
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    return [cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn]


def _unless_they_disagree(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except RuntimeError:
        return None
