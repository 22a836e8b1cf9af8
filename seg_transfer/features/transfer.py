"""Brings the images of a target to the device, each batch while the network works on the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import Tensor

from seg_transfer.data.prefetch import prefetch
from seg_transfer.features.images import ImageBatch

Finish = Callable[[], Tensor]
"""Waits until a tensor may be used on the device, and returns it."""


def on_device(batches: Iterable[ImageBatch], device: torch.device) -> Iterator[tuple[ImageBatch, Tensor]]:
    """Yield every batch with its pixels, uint8 (B, 3, H, W), on a device.

    To CUDA, pixels go from pinned memory on a stream of their own.

    Args:
        batches: Batches of images.
        device: Where the network is.
    """
    if device.type != "cuda":
        return copied_ahead(batches, _unchanged, lambda pixels: partial(pixels.to, device))
    return copied_ahead(batches, Tensor.pin_memory, partial(_start_copy, torch.cuda.Stream(device)))  # type: ignore[no-untyped-call]


def copied_ahead(
    batches: Iterable[ImageBatch], pin: Callable[[Tensor], Tensor], start: Callable[[Tensor], Finish]
) -> Iterator[tuple[ImageBatch, Tensor]]:
    """Yield batches with their pixels; the copy of the next one has started before one is yielded.

    Args:
        batches: Batches of images.
        pin: Moves pixels to memory that a device can copy from; called in a thread.
        start: Starts the copy of pixels, and returns what finishes it.
    """
    before: tuple[ImageBatch, Finish] | None = None
    for batch, pixels in prefetch(
        lambda batch: (batch, pin(torch.from_numpy(batch.pixels))), batches, threads=1, ahead=1
    ):
        started = batch, start(pixels)
        if before is not None:
            yield before[0], before[1]()
        before = started
    if before is not None:
        yield before[0], before[1]()


def _unchanged(pixels: Tensor) -> Tensor:
    return pixels


def _start_copy(stream: torch.cuda.Stream, pinned: Tensor) -> Finish:
    """Copy pixels on a stream; to finish, the device's current stream waits, while this thread goes on."""
    with torch.cuda.stream(stream):
        pixels = pinned.to(stream.device, non_blocking=True)
        copied = stream.record_event()

    def finish() -> Tensor:
        current = torch.cuda.current_stream(stream.device)
        current.wait_event(copied)
        pixels.record_stream(current)  # its memory is free when the current stream is done with it
        return pixels

    return finish
