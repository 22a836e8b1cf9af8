"""Makes float32 networks compute in float32 on every device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch


@contextlib.contextmanager
def plain_float32() -> Iterator[None]:
    """Disable the use of TF32 (10 bits of mantissa) and bfloat16 for float32; restores the settings afterward.

    By default, CUDA convolves in TF32, and a model's code may enable more. torch has two sets of settings and
    raises an error where they disagree, so both are set.
    """
    newer = [(switch, switch.fp32_precision) for switch in _switches()]
    products = _unless_they_disagree(torch.get_float32_matmul_precision)
    convolutions = _unless_they_disagree(lambda: torch.backends.cudnn.allow_tf32)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    for switch, _ in newer:
        switch.fp32_precision = "ieee"
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
