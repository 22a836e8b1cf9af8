"""The canvas of a procedural scene, and the domain of the scene."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

VARIETY = 0.7
"""Fraction of an object's color that is random; the rest comes from the palette of the domain."""

Parts = Mapping[str, tuple[str, tuple[float, float, float]]]
"""Structure -> its class and its color (RGB in [0, 1])."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain of the demo world.

    Attributes:
        title: Its title.
        family: Its family, "street" or "cells".
        draw: Function that draws a scene; the domains of a family share it.
        parts: Structure -> its class and color.
        light: Range of image brightness.
        grain: Amplitude of the sensor noise.
    """

    title: str
    family: str
    draw: Callable[[Scene], None]
    parts: Parts
    light: tuple[float, float]
    grain: float

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of class indices."""
        return tuple(dict.fromkeys(name for name, _ in self.parts.values()))


def random_stream(*key: object) -> np.random.Philox:
    """Create a stream of random numbers that depends only on the key."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.Philox(key=int.from_bytes(digest[:16], "little"))


class Scene:
    """A canvas on which objects are painted, the farthest first, and a stream of random numbers that shape them.

    Attributes:
        stream: Source of the random numbers.
        domain: Domain of the scene.
        size: (height, width), in pixels.
        unit: Length, in pixels, of one pixel of a 64 x 96 image.
        rows: Row of every pixel, (H, 1).
        cols: Column of every pixel, (1, W).
        image: RGB, (H, W, 3), approximately in [0, 1].
        classes: Class indices, (H, W).
    """

    def __init__(self, stream: np.random.Philox, domain: Domain, size: tuple[int, int]) -> None:
        self.stream = stream
        self.domain = domain
        self.size = size
        self.unit = min(size[0] / 64, size[1] / 96)
        self.rows, self.cols = (axis.astype(np.float64) for axis in np.ogrid[: size[0], : size[1]])
        self.image = np.zeros((*size, 3))
        self.classes: Bytes = np.zeros(size, np.uint8)

    def draw(self, low: float, high: float, shape: tuple[int, ...]) -> Array:
        """Draw uniform random numbers in [low, high)."""
        # NumPy guarantees the raw stream across versions, but not the methods of a Generator.
        raw = self.stream.random_raw(math.prod(shape)) >> np.uint64(11)
        uniform: Array = np.asarray(raw, np.float64).reshape(shape) * 2.0**-53
        return low + (high - low) * uniform

    def number(self, low: float, high: float) -> float:
        """Draw one uniform random number in [low, high)."""
        return float(self.draw(low, high, (1,))[0])

    def pixels(self, low: float, high: float) -> float:
        """Draw a random length; the bounds are in pixels of a 64 x 96 image."""
        return self.number(low, high) * self.unit

    def count(self, low: int, high: int) -> int:
        """Draw a random integer n with low <= n <= high."""
        return int(self.number(low, high + 1))

    def noise(self, height: float, width: float) -> Array:
        """Make value noise in [0, 1], (H, W): a lattice with cells of height x width units, interpolated linearly."""
        y, x = self.rows[:, 0] / (height * self.unit), self.cols[0] / (width * self.unit)
        i, j = y.astype(np.int64), x.astype(np.int64)
        lattice = self.draw(0, 1, (int(i[-1]) + 2, int(j[-1]) + 2))
        v, u = (y - i)[:, None], x - j
        lines: Array = lattice[i] * (1 - v) + lattice[i + 1] * v
        smooth: Array = lines[:, j] * (1 - u) + lines[:, j + 1] * u
        return smooth

    def disc(self, row: float, col: float, height: float, width: float) -> Array:
        """Return squared distances from (row, col) in units of the semi-axes, (H, W); below 1 inside the ellipse."""
        down, right = (self.rows - row) / height, (self.cols - col) / width
        return down * down + right * right

    def box(self, top: float, bottom: float, left: float, right: float) -> Mask:
        """Return the mask of a rectangle, (H, W)."""
        return (self.rows >= top) & (self.rows < bottom) & (self.cols >= left) & (self.cols < right)

    def paint(self, structure: str, mask: Mask, shade: Array | Mask, contrast: float) -> None:
        """Fill the pixels of a mask with a structure in a random color; `shade`, in [0, 1], is its texture."""
        name, tone = self.domain.parts[structure]
        base = (1 - VARIETY) * np.array(tone) + VARIETY * self.draw(0, 1, (3,))
        swing = self.draw(-0.1, 0.1, (3,)) + (contrast if self.number(0, 1) < 0.5 else -contrast)
        texture: Array = np.broadcast_to(shade, self.size)[mask].astype(np.float64)
        self.image[mask] = base + swing * (texture[:, None] - 0.5)
        self.classes[mask] = self.domain.classes.index(name)
