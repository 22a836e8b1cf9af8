"""Folders that are certain: images of every format and depth."""

from pathlib import Path

import numpy as np
from data.corpus.cases import Certain, Truth, certain
from data.corpus.files import (
    as_rgb,
    turned_upright,
    with_alpha,
    write_bands,
    write_image,
    write_oriented,
    write_palette,
)
from data.corpus.scenes import Array, Scene, Scenes, scenes, square_scenes
from PIL import Image


def _showing(made: Certain, images: dict[str, Array], notes: tuple[str, ...] = ()) -> Certain:
    """The same case, with the images as they must be read: (H, W, 3) or gray (H, W)."""
    shown = {name: image if image.ndim == 3 else as_rgb(image) for name, image in images.items()}
    read = {name: Scene(shown[Path(name).name], each.label) for name, each in made.truth.scenes.items()}
    return Certain(made.given, Truth(made.truth.classes, made.truth.values, read, notes))


def _gray(wanted: Scenes) -> dict[str, Array]:
    return {name: each.image[..., 1] for name, each in wanted.items()}


def jpeg(here: Path) -> Certain:
    read = {}

    def write(path: Path, pixels: Array) -> None:
        read[path.stem] = write_oriented(path, pixels, 1)

    return _showing(certain(here, image=write, image_path="images/{}.jpg"), read)


def _oriented(here: Path, orientation: int, *, labels_upright: bool, answers: dict[str, str] | None = None) -> Certain:
    """JPEG files with an orientation, and label maps drawn on the upright picture or on the stored pixels."""
    wanted = square_scenes() if answers else scenes()
    read = {}

    def write(path: Path, pixels: Array) -> None:
        stored = np.ascontiguousarray(
            turned_upright(pixels, {3: 3, 6: 8, 8: 6}[orientation]) if labels_upright else pixels
        )
        read[path.stem] = write_oriented(path, stored, orientation)

    made = certain(here, wanted=wanted, image=write, image_path="images/{}.jpg", answers=answers)
    if labels_upright:
        read = {name: np.ascontiguousarray(turned_upright(stored, orientation)) for name, stored in read.items()}
    return _showing(made, read, () if answers else ("EXIF",))


def exif_quarter_turn_that_fits_upright(here: Path) -> Certain:
    return _oriented(here, 6, labels_upright=True)


def exif_other_quarter_turn_that_fits_upright(here: Path) -> Certain:
    return _oriented(here, 8, labels_upright=True)


def exif_quarter_turn_that_fits_stored(here: Path) -> Certain:
    return _oriented(here, 6, labels_upright=False)


def exif_half_turn_applied(here: Path) -> Certain:
    return _oriented(here, 3, labels_upright=True, answers={"exif": "apply"})


def exif_half_turn_ignored(here: Path) -> Certain:
    return _oriented(here, 3, labels_upright=False, answers={"exif": "ignore"})


def exif_quarter_turn_of_squares_applied(here: Path) -> Certain:
    return _oriented(here, 6, labels_upright=True, answers={"exif": "apply"})


def gray_images(here: Path) -> Certain:
    return _showing(certain(here, image=lambda path, pixels: write_image(path, pixels[..., 1])), _gray(scenes()))


def gray_images_of_16_bits(here: Path) -> Certain:
    """The top bit is used, so 65535 is white; 257 x 8-bit values are their 16-bit equals."""

    def write(path: Path, pixels: Array) -> None:
        write_image(path, pixels[..., 1].astype(np.uint16) * 257)

    return _showing(certain(here, image=write), _gray(scenes()), ("65535",))


def _stretched(raw: Array, low: float, high: float) -> Array:
    """By hand: ``low`` becomes 0, ``high`` 255, halves are rounded up."""
    return np.floor((np.clip(raw.astype(np.float64), low, high) - low) * 255 / (high - low) + 0.5).astype(np.uint8)


def gray_images_of_12_bits_with_range(here: Path) -> Certain:
    raw = {name: image.astype(np.uint16) * 16 + 3 for name, image in _gray(scenes()).items()}
    made = certain(here, image=lambda path, pixels: write_image(path, raw[path.stem]), answers={"range": "0,4095"})
    return _showing(made, {name: _stretched(image, 0, 4095) for name, image in raw.items()})


def floating_point_images_with_range(here: Path) -> Certain:
    raw = {name: image.astype(np.float32) / 100 - 0.5 for name, image in _gray(scenes()).items()}
    made = certain(
        here,
        image=lambda path, pixels: write_image(path, raw[path.stem]),
        image_path="images/{}.tif",
        answers={"range": "-0.25,1.75"},
    )
    return _showing(made, {name: _stretched(image, -0.25, 1.75) for name, image in raw.items()})


def five_bands_in_stated_order(here: Path) -> Certain:
    def write(path: Path, pixels: Array) -> None:
        others = 255 - pixels[..., :2]
        write_bands(path, np.concatenate([pixels[..., ::-1], others], axis=2).transpose(2, 0, 1))

    return certain(here, image=write, image_path="images/{}.tif", answers={"bands": "3,2,1"})


def images_with_opaque_alpha(here: Path) -> Certain:
    return certain(here, image=lambda path, pixels: write_image(path, with_alpha(pixels)))


def gray_images_with_alpha(here: Path) -> Certain:
    made = certain(here, image=lambda path, pixels: write_image(path, with_alpha(pixels[..., 1])))
    return _showing(made, _gray(scenes()))


def palette_images(here: Path) -> Certain:
    colors = tuple((value, 255 - value, value // 2) for value in range(256))
    made = certain(here, image=lambda path, pixels: write_palette(path, pixels[..., 1], colors))
    return _showing(made, {name: np.array(colors, np.uint8)[image] for name, image in _gray(scenes()).items()})


def bmp_images(here: Path) -> Certain:
    return certain(here, image_path="images/{}.bmp")


def webp_images(here: Path) -> Certain:
    return certain(here, image_path="images/{}.webp")


def tiff_images(here: Path) -> Certain:
    return certain(here, image_path="images/{}.tiff")


def gif_images(here: Path) -> Certain:
    made = certain(here, image=lambda path, pixels: write_image(path, pixels[..., 1]), image_path="images/{}.gif")
    return _showing(made, _gray(scenes()))


def cmyk_images(here: Path) -> Certain:
    read = {}

    def write(path: Path, pixels: Array) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).convert("CMYK").save(path)
        with Image.open(path) as written:
            read[path.stem] = np.asarray(written.convert("RGB"))

    return _showing(certain(here, image=write, image_path="images/{}.jpg"), read)


def large_scene_as_tiles(here: Path) -> Certain:
    """An image with more pixels than stated is read as tiles of 1024; the last one is moved inward."""
    image = np.random.default_rng(0).integers(0, 256, (24, 1100, 3), np.uint8)
    label = np.zeros((24, 1100), np.uint8)
    label[3:20, 30:900], label[8:14, 950:1080] = 1, 2
    made = certain(
        here,
        wanted={"a": Scene(image, label), "b": scenes()["b"]},
        answers={"max_pixels": "20000"},
    )
    tiles = {
        "images/a@0_0": Scene(image[:, :1024], label[:, :1024]),
        "images/a@0_76": Scene(image[:, 76:], label[:, 76:]),
        "images/b": made.truth.scenes["images/b"],
    }
    return Certain(made.given, Truth(made.truth.classes, made.truth.values, tiles))
