"""Cuts aerial images that are too large for a network into patches, as in the study of the GBC paper.

    python -m seg_transfer.data.tiles isprs DATA/isprs
    python -m seg_transfer.data.tiles isaid DATA/iSAID

The folder is the root of the dataset, with the images as distributed; the manifest's notes say where to put them.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_transfer.data.rgb import read_rgb
from seg_transfer.errors import DataError

_Pixels = npt.NDArray[np.uint8]
_SIDE = 800
_STEP = 600
# Name of a patch: the name of the image, the first and last row, and the first and last column.
_PATCH = "{}_{}_{}_{}_{}"


@dataclass(frozen=True)
class _Part:
    """Locations of images, label maps and patches; ``{}`` is the name of an image or a patch.

    Attributes:
        image: Images.
        label: Label maps.
        patch: Patches of images.
        patch_label: Patches of label maps.
        channels: Channels of red and green, if patches consist of red, green and their mean; None keeps all channels.
        excluded: Names of images to leave out.
    """

    image: str
    label: str
    patch: str
    patch_label: str
    channels: tuple[int, int] | None = None
    excluded: frozenset[str] = frozenset()


def _isaid(split: str) -> _Part:
    label = "{}_instance_color_RGB.png"
    images, patches = f"{split}/images", f"{split}/patches"
    excluded = frozenset({"P1527", "P1530"})
    return _Part(f"{images}/{{}}.png", f"{images}/{label}", f"{patches}/{{}}.png", f"{patches}/{label}", None, excluded)


_PARTS = {
    "isprs": (
        _Part(
            "Potsdam/2_Ortho_RGB/{}_RGB.tif",
            "Potsdam/5_Labels_all/{}_label.tif",
            "patches/potsdam/top/{}.png",
            "patches/potsdam/gt/{}.png",
            (0, 1),
        ),
        _Part(  # infrared, red, green
            "Vaihingen/top/{}.tif",
            "Vaihingen/ground_truth_COMPLETE/{}.tif",
            "patches/vaihingen/top/{}.png",
            "patches/vaihingen/gt/{}.png",
            (1, 2),
        ),
    ),
    "isaid": (_isaid("train"), _isaid("val")),
}


def cut(dataset: str, folder: Path) -> int:
    """Cut all images of a dataset, and their label maps, into patches.

    Patches have 800 x 800 pixels and overlap by 200; the last patch of a row or column is moved inward. An image with a
    side shorter than 800 pixels becomes one patch. Existing patches are replaced.

    Args:
        dataset: "isprs" or "isaid".
        folder: Root of the dataset.

    Returns:
        The number of patches.

    Raises:
        DataError: Images or label maps are missing, unreadable or of different sizes.
    """
    return sum(_cut_image(part, folder, name) for part in _PARTS[dataset] for name in _names(part, folder))


def starts(length: int) -> list[int]:
    """Return the positions at which patches along a side begin.

    Args:
        length: Length of the side in pixels; at least 800.

    Example:
        >>> starts(6000)[-3:], starts(2000), starts(800)
        ([4200, 4800, 5200], [0, 600, 1200], [0])
    """
    return [*range(0, length - _SIDE, _STEP), length - _SIDE]


def _names(part: _Part, folder: Path) -> list[str]:
    """List the names of the images, which end with a digit, unlike label maps in the same folder."""
    names = [_name_in(part.image, file, folder) for file in sorted(folder.glob(part.image.format("*[0-9]")))]
    if not names:
        raise DataError(f"{folder}: no image {part.image.format('*')}; unpack the dataset as its manifest's notes say")
    return [name for name in names if name not in part.excluded]


def _name_in(pattern: str, file: Path, folder: Path) -> str:
    before, _, after = pattern.partition("{}")
    match = re.fullmatch(f"{re.escape(before)}(.*){re.escape(after)}", file.relative_to(folder).as_posix())
    assert match is not None
    return match[1]


def _cut_image(part: _Part, folder: Path, name: str) -> int:
    image, label = (read_rgb(folder / pattern.format(name)) for pattern in (part.image, part.label))
    if image.shape != label.shape:
        sizes = [" x ".join(map(str, pixels.shape[:2])) for pixels in (label, image)]
        raise DataError(
            f"{folder / part.label.format(name)}: {sizes[0]} (height x width), but its image is {sizes[1]}; replace one"
        )
    if part.channels is not None:
        red, green = (image[..., channel] for channel in part.channels)
        mean = (red.astype(np.uint16) + green) // 2
        image = np.stack([red, green, mean.astype(np.uint8)], axis=2)
    patches = list(_patches(name, *image.shape[:2]))
    for patch, rows, columns in patches:
        _write(folder / part.patch.format(patch), image[rows, columns])
        _write(folder / part.patch_label.format(patch), label[rows, columns])
    return len(patches)


def _patches(name: str, height: int, width: int) -> Iterator[tuple[str, slice, slice]]:
    """Yield the name, rows and columns of every patch."""
    if min(height, width) < _SIDE:
        yield name, slice(height), slice(width)
        return
    for top in starts(height):
        for left in starts(width):
            bottom, right = top + _SIDE, left + _SIDE
            yield _PATCH.format(name, top, bottom, left, right), slice(top, bottom), slice(left, right)


def _write(path: Path, pixels: _Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written under another name first, so that a killed process leaves no incomplete patch.
    part = path.with_name(f".{path.name}.part")
    Image.fromarray(np.ascontiguousarray(pixels)).save(part, format="PNG")
    part.replace(path)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=_PARTS)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    try:
        print(f"{cut(arguments.dataset, arguments.folder)} patches")
    except DataError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
