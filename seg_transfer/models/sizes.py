"""The sizes of images that a network takes, found by trying, and images fitted to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_transfer.errors import ConfigError

# Sides are multiples of the window or patch sizes and of the strides of networks: 2 to 64 for halvings, 14 for DINOv2.
_MULTIPLES = (2, 4, 8, 14, 16, 28, 32, 56, 64, 128)
# Sizes of networks that take one size only, and whose description does not say which.
_FIXED = (224, 256, 384, 448, 512, 518, 640, 1024, 128, 64)
# Sides of the first image that is tried: odd, not square, and multiples of none of the above.
_ODD_SIZE = (75, 107)
_SMALLEST = 64
WHAT_IS_TAKEN = "a source takes normalized RGB images (B, 3, H, W) and nothing else"
# No network is made for larger images. A description may claim any size, and an image of that size is made.
_LARGEST = 2048
# Odd sides of images that a network takes if it pools over a large fixed window.
_SMALLEST_SIDES = (129, 257, 385, 513)
# Pixels are changed to values far beyond normalized colors, of both signs: with random weights, a small change may
# vanish in float32 on its way, and one of a single sign in a saturated activation.
_CHANGE = 20.0


class Extent(NamedTuple):
    """Fractions of a fitted image's `height` and `width` that the image itself covers; the rest is padding."""

    height: float = 1.0
    width: float = 1.0


WHOLE = Extent()


@dataclass(frozen=True)
class InputSizes:
    """The sizes of images that a network takes; any by default.

    Attributes:
        multiple: Both sides must be multiples of this.
        square: Both sides must be equal.
        fixed: The only height and width it takes.
        smallest: Both sides must be at least this.
    """

    multiple: int = 1
    square: bool = False
    fixed: tuple[int, int] | None = None
    smallest: int = 1

    def fitting(self, height: int, width: int) -> tuple[int, int]:
        """Return the size that images of this size are fitted to.

        Example:
            >>> InputSizes(multiple=32).fitting(59, 100)
            (64, 128)
        """
        if self.fixed is not None:
            return self.fixed
        height, width = (
            math.ceil(max(side, self.smallest) / self.multiple) * self.multiple for side in (height, width)
        )
        return (max(height, width),) * 2 if self.square else (height, width)

    def fit(self, images: Tensor) -> tuple[Tensor, Extent]:
        """Pad images at the right and bottom, or resize them to the fixed size.

        Args:
            images: Normalized (B, 3, H, W); zero is the mean color, which the padding gets.

        Returns:
            The fitted images, and the part that the image covers: all of it where it is resized.
        """
        height, width = images.shape[2:]
        goal = self.fitting(height, width)
        if goal == (height, width):
            return images, WHOLE
        if self.fixed is not None:
            resized = F.interpolate(images, size=goal, mode="bilinear", align_corners=False, antialias=True)
            return resized.contiguous(memory_format=torch.channels_last), WHOLE
        padded = F.pad(images, (0, goal[1] - width, 0, goal[0] - height))
        return padded.contiguous(memory_format=torch.channels_last), Extent(height / goal[0], width / goal[1])

    def describe(self) -> str:
        """Say it in words.

        Example:
            >>> InputSizes(multiple=14, square=True).describe()
            'squares with sides that are multiples of 14'
        """
        if self.fixed is not None:
            return f"only {self.fixed[0]} x {self.fixed[1]}"
        shape = "squares" if self.square else "any size" if self.multiple == self.smallest == 1 else "sizes"
        rules = [f"multiples of {self.multiple}"] if self.multiple > 1 else []
        rules += [f"at least {self.smallest}"] if self.smallest > 1 else []
        return f"{shape} with sides that are {' and '.join(rules)}" if rules else shape


ANY_SIZE = InputSizes()


def find_input_sizes(
    run: Callable[[Tensor], Sequence[Tensor]], size_hint: tuple[int, int] | None = None, strides: Sequence[float] = ()
) -> InputSizes:
    """Find out by trying which sizes of images a network takes.

    A size counts only if the network looks at all of the image and its maps cover it: a network of patches drops the
    pixels beyond the last whole patch, and one that halves its maps may drop their last cells. Sizes are tried from the
    least to the most demanding.

    Args:
        run: Runs the network on normalized images (1, 3, H, W) and returns its maps; raises ConfigError where it fails.
        size_hint: Height and width that the network was made for, if known.
        strides: The strides of the maps, if known.

    Raises:
        ConfigError: It takes none of the sizes that are tried; the error is that of the first.
    """
    first_error: ConfigError | None = None
    runs: InputSizes | None = None
    for sizes, trials in _trials(size_hint):
        try:
            seen = [_sees_all(run, height, width, strides) for height, width in trials]
            if all(seen):
                return sizes
            runs = runs or sizes
        except ConfigError as error:
            first_error = first_error or error
    if runs is not None:  # it never looks at the border
        return runs
    assert first_error is not None
    reason, _, _ = str(first_error).rpartition("; ")
    raise ConfigError(f"{reason}, and on images of all other sizes that were tried; {WHAT_IS_TAKEN}") from first_error


def _trials(size_hint: tuple[int, int] | None) -> Iterator[tuple[InputSizes, list[tuple[int, int]]]]:
    """Yield each possible rule with the sizes of the images that show whether it holds.

    There are two of most, because one might be the only size that the network takes.
    """
    # Odd numbers of a multiple, so that larger multiples do not fit too.
    odd = {multiple: math.ceil(_SMALLEST / multiple) | 1 for multiple in _MULTIPLES}
    yield InputSizes(), [_ODD_SIZE]
    for multiple, n in odd.items():
        yield InputSizes(multiple), [(n * multiple, (n + 2) * multiple), ((n + 4) * multiple, n * multiple)]
    for smallest in _SMALLEST_SIDES:
        yield InputSizes(smallest=smallest), [(smallest, smallest + 33)]
    yield InputSizes(square=True), [(side, side) for side in _ODD_SIZE]
    for multiple, n in odd.items():
        yield InputSizes(multiple, square=True), [(n * multiple,) * 2, ((n + 2) * multiple,) * 2]
    squares = [(side, side) for side in _FIXED]
    hints = [size_hint] if size_hint and max(size_hint) <= _LARGEST else []
    for size in dict.fromkeys([*hints, *squares]):
        yield InputSizes(fixed=size), [size]


def _sees_all(run: Callable[[Tensor], Sequence[Tensor]], height: int, width: int, strides: Sequence[float]) -> bool:
    """Return whether all maps cover an image, and depend on its last row and on its last column."""
    image = probe_image(height, width)
    maps = run(image.clone())  # a network may change its input
    if any(one.shape[2] * s < height or one.shape[3] * s < width for one, s in zip(maps, strides, strict=False)):
        return False
    for row, column in ((-1, slice(None)), (slice(None), -1)):
        changed = image.clone()
        changed[:, :, row, column] *= -_CHANGE
        other = run(changed)
        if any(one.shape == two.shape and torch.equal(one, two) for one, two in zip(maps, other, strict=True)):
            return False
    return True


def probe_image(height: int, width: int) -> Tensor:
    """Make a normalized image (1, 3, height, width) with many different values, the same on every machine."""
    n = 3 * height * width
    values = torch.arange(n, dtype=torch.int64).mul(2654435761).remainder(1009).float() / 252 - 2
    return values.view(1, 3, height, width)


def probe_size(sizes: InputSizes) -> tuple[int, int]:
    """Return a size that the network takes, not square where possible, at which strides up to 64 divide both sides."""
    if sizes.fixed is not None:
        return sizes.fixed
    unit = math.lcm(sizes.multiple, 64 if 64 % sizes.multiple == 0 else 4)
    unit *= math.ceil(sizes.smallest / (3 * unit))
    return (4 * unit,) * 2 if sizes.square else (3 * unit, 5 * unit)
