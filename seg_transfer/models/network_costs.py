"""Counts the parameters of a network and the floating-point operations of one forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from seg_transfer.models.source_model import SourceModel, device_of
from seg_transfer.store.network_costs import NetworkCosts

SIDE = 512
"""Height and width in pixels of the image whose forward pass is counted."""


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

    The pass runs on the meta device, on shapes alone. A network that needs values, because it branches on them or keeps
    tensors outside its parameters and buffers, makes a real pass instead.

    Args:
        network: In evaluation mode.
        images: Normalized images (B, 3, H, W) on the network's device, of a size that it takes.

    Returns:
        Billions of operations per image; None if the network fails in both ways, or consists of other operations.

    Example:
        >>> count_gflops(nn.Conv2d(3, 8, kernel_size=1), torch.zeros(1, 3, 1000, 1000))
        0.048
    """
    for run in (_on_meta_device, _for_real):
        try:
            with _countable(), FlopCounterMode(display=False) as counter:
                run(network, images)
        except Exception:  # a network is arbitrary code, and a number for a table must not stop it from being used
            continue
        return counter.get_total_flops() / len(images) / 1e9 or None
    return None


def _on_meta_device(network: nn.Module, images: Tensor) -> None:
    named = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    functional_call(network, {name: tensor.to("meta") for name, tensor in named}, (images.to("meta"),))


def _for_real(network: nn.Module, images: Tensor) -> None:
    network(images)


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
