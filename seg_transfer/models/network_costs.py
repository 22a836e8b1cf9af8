"""Counts the parameters of a network and the floating-point operations of one forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count, flop_registry

from seg_transfer.models.source_model import SourceModel, device_of
from seg_transfer.store.network_costs import NetworkCosts

SIDE = 512
"""Height and width in pixels of the image whose forward pass is counted."""

_NEEDS_VALUES = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


def network_costs(source: SourceModel) -> NetworkCosts:
    """Count the parameters of a source, and the operations of one image of 512 x 512 pixels.

    Args:
        source: The source. If it does not take that size, the image is padded or resized to one that it takes.
    """
    images, _ = source.sizes.fit(torch.zeros(1, 3, SIDE, SIDE, device=device_of(source.network)))
    gflops = count_gflops(source.network, images)
    height, width = images.shape[2:]
    return NetworkCosts(n_parameters(source.network), gflops, height, width)


def n_parameters(network: nn.Module) -> int:
    """Count the parameters of a network; shared ones count once.

    Example:
        >>> n_parameters(nn.Conv2d(3, 8, kernel_size=3))
        224
    """
    return sum(parameter.numel() for parameter in network.parameters())


def count_gflops(network: nn.Module, images: Tensor) -> float | None:
    """Count the floating-point operations of a forward pass: convolutions, matrix products and attention.

    A multiplication with an addition counts as two operations. Normalization, activations and resizing are left out,
    as usual; they are a few percent.

    A network whose only such operations are convolutions is run on an empty batch, which takes milliseconds; others on
    the meta device, on shapes alone. A network that needs values, because it branches on them or keeps tensors outside
    its parameters and buffers, makes a real pass instead.

    Args:
        network: In evaluation mode.
        images: Normalized images (B, 3, H, W) on the network's device, of a size that it takes.

    Returns:
        Billions of operations per image; None if the network fails in every way, or consists of other operations.

    Example:
        >>> count_gflops(nn.Conv2d(3, 8, kernel_size=1), torch.zeros(1, 3, 1000, 1000))
        0.048
    """
    for count in (_of_convolutions, _on_meta_device, _for_real):
        try:
            with _countable():
                operations = count(network, images)
        except Exception:  # a network is arbitrary code, and a number for a table must not stop it from being used
            continue
        if operations:
            return operations / 1e9
    return None


class _Convolutions(TorchDispatchMode):
    """Adds up the operations of convolutions on an empty batch, as if it had one image.

    Raises:
        ValueError: An operation is of another kind that counts, has no batch of images, or depends on values.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0.0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # skipping the compiler would import it, which takes longer than loading a network

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            images, weight, transposed = args[0], args[1], args[6]
            if len(images) or len(output):
                raise ValueError("the batch has become something else")
            image, result = ([1, *tensor.shape[1:]] for tensor in (images, output))
            self.operations += conv_flop_count(image, list(weight.shape), result, transposed)
        elif func._overloadpacket in flop_registry or _NEEDS_VALUES & set(func.tags):
            raise ValueError(f"{func} is counted on shapes or values")
        return output


def _of_convolutions(network: nn.Module, images: Tensor) -> float:
    with _Convolutions() as counter:
        network(images[:0])
    return float(counter.operations)


def _on_meta_device(network: nn.Module, images: Tensor) -> float:
    named = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    with FlopCounterMode(display=False) as counter:
        functional_call(network, {name: tensor.to("meta") for name, tensor in named}, (images.to("meta"),))
    return float(counter.get_total_flops()) / len(images)


def _for_real(network: nn.Module, images: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        network(images)
    return float(counter.get_total_flops()) / len(images)


@contextlib.contextmanager
def _countable() -> Iterator[None]:
    """Replace fused kernels, which the counter does not know, by the operations that they consist of."""
    is_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(is_fast)
