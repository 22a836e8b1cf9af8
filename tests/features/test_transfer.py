"""Batches reach the device in order, the copy of each started before the one before it is used."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from seg_transfer.errors import DataError
from seg_transfer.features.images import ImageBatch
from seg_transfer.features.transfer import Finish, copied_ahead, on_device


def batches(count: int) -> Iterator[ImageBatch]:
    for number in range(count):
        yield ImageBatch((number,), np.full((1, 3, 4, 5), number, np.uint8))


def test_pixels_come_with_their_batch():
    seen = list(on_device(batches(7), torch.device("cpu")))
    assert [batch.indices for batch, _ in seen] == [(number,) for number in range(7)]
    for batch, pixels in seen:
        np.testing.assert_array_equal(pixels, batch.pixels)
    assert list(on_device([], torch.device("cpu"))) == []


class Copies:
    """A device that counts what is done with each batch."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []
        self.threads: set[int] = set()

    def pin(self, pixels: Tensor) -> Tensor:
        self.threads.add(threading.get_ident())
        return pixels + 100

    def start(self, pinned: Tensor) -> Finish:
        number = int(pinned[0, 0, 0, 0]) - 100
        self.events.append(("start", number))

        def finish() -> Tensor:
            self.events.append(("finish", number))
            return pinned

        return finish


def test_the_next_copy_starts_before_a_batch_is_used():
    device = Copies()
    for batch, pixels in copied_ahead(batches(4), device.pin, device.start):
        assert int(pixels[0, 0, 0, 0]) == 100 + batch.indices[0]
        device.events.append(("use", batch.indices[0]))
    order = {event: place for place, event in enumerate(device.events)}
    assert len(order) == len(device.events) == 12
    for number in range(4):
        assert order["start", number] < order["finish", number] < order["use", number]
        if number < 3:
            assert order["start", number + 1] < order["use", number]
        if number < 2:  # no more than one copy waits on the device
            assert order["use", number] < order["start", number + 2]
    assert threading.get_ident() not in device.threads


@pytest.mark.parametrize("used", [0, 1, 3])
def test_a_consumer_that_stops_leaves_no_thread(used):
    before, stopped = set(threading.enumerate()), []

    def source() -> Iterator[ImageBatch]:
        try:
            yield from batches(50)
        finally:
            stopped.append(True)

    reading = on_device(source(), torch.device("cpu"))
    for _ in range(used):
        next(reading)
    reading.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) <= before
    assert stopped == ([True] if used else [])


def test_an_error_of_an_image_comes_through():
    def source() -> Iterator[ImageBatch]:
        yield from batches(2)
        raise DataError("c.png: cannot be decoded")

    seen = []
    with pytest.raises(DataError, match=r"^c\.png: cannot be decoded$"):
        seen += [batch.indices for batch, _ in on_device(source(), torch.device("cpu"))]
