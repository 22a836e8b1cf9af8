"""Ten images of a real dataset with one fault each, as people's programs make them."""

import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from data.corpus.cases import Given
from data.corpus.files import gray8, made, write_oriented, write_palette
from PIL import Image

DATASETS = (
    "camvid",
    "dubai_aerial",
    "fasseg",
    "idd_lite",
    "labelmefacade",
    "nuclei",
    "nyuv2",
    "peanut",
    "road_damage",
    "voc_animals",
    "vocalfolds",
)
N_IMAGES = 10
BINARY = ("background", "foreground")
Label = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Ten:
    """Ten image files, their class indices (dense, 255 ignored), and the number of classes."""

    images: tuple[Path, ...]
    labels: tuple[Label, ...]
    n_classes: int


@dataclass(frozen=True)
class Fault:
    """Folders with a fault: the kind of the doubt that names it, "" if it is understood, and what its line says."""

    given: Given
    doubt: str
    seen: str = ""
    classes: tuple[str, ...] = ()


@functools.cache
def ten_of(dataset: Path) -> Ten:
    """Take every fifteenth image of the train split, and number the classes that they show."""
    images = sorted((dataset / "train" / "images").iterdir())
    images = images[:: len(images) // N_IMAGES][:N_IMAGES]
    labels = [np.asarray(Image.open(dataset / "train" / "labels" / f"{image.stem}.png")) for image in images]
    present = np.setdiff1d(np.unique(np.concatenate([label.ravel() for label in labels])), [255])
    table = np.full(256, 255, np.uint8)
    table[present] = np.arange(len(present))
    return Ten(tuple(images), tuple(table[label] for label in labels), len(present))


def _copy(ten: Ten, here: Path, mask: Callable[[Path, Label], object] = gray8, *, images: bool = True) -> Given:
    """Write label maps as a function does, and copy the images."""
    for image, label in zip(ten.images, ten.labels, strict=True):
        if images:
            shutil.copyfile(image, made(here / "images" / image.name))
        mask(here / "labels" / f"{image.stem}.png", label)
    return Given(here / "images", here / "labels")


def without_fault(ten: Ten, here: Path) -> Fault:
    classes = BINARY if ten.n_classes == 2 else tuple(f"class_{index}" for index in range(ten.n_classes))
    return Fault(_copy(ten, here), "", classes=classes)


def turned_images(ten: Ten, here: Path) -> Fault:
    """Cameras store a picture upside down and say so in EXIF data."""
    given = _copy(ten, here, images=False)
    for image in ten.images:
        with Image.open(image) as opened:
            write_oriented(here / "images" / image.name, np.asarray(opened.convert("RGB"))[::-1, ::-1].copy(), 3)
    return Fault(given, "exif", "EXIF")


def one_jpeg_mask(ten: Ten, here: Path) -> Fault:
    chosen = ten.images[4].stem

    def write(path: Path, label: Label) -> None:
        if path.stem == chosen:
            Image.fromarray(label).save(made(path.with_suffix(".jpg")), quality=90)
        else:
            gray8(path, label)

    return Fault(_copy(ten, here, write), "lossy", chosen)


def scaled_small_depths(ten: Ten, here: Path) -> Fault:
    """Masks of 2 bits that a program scaled to 8 bits: ids 0 to 3 are 0, 85, 170 and 255."""
    if ten.n_classes < 4:  # 1 bit: 0 and 255, which is binary whoever reads it
        given = _copy(ten, here, lambda path, label: gray8(path, 255 * (label % 2)))
        return Fault(given, "", classes=BINARY)
    return Fault(_copy(ten, here, lambda path, label: gray8(path, 85 * (label % 4))), "levels", "255")


def a_class_is_255(ten: Ten, here: Path) -> Fault:
    """What covers most of the images is stored as 255: the frequent classes that make up a quarter of all pixels."""
    counts = np.bincount(np.concatenate([label.ravel() for label in ten.labels]), minlength=256)
    by_count = np.argsort(counts[: ten.n_classes])[::-1]
    n_needed = 1 + int(np.searchsorted(counts[by_count].cumsum(), counts.sum() / 4))
    table = np.arange(256)
    table[255], table[by_count[:n_needed]] = by_count[n_needed], 255
    return Fault(_copy(ten, here, lambda path, label: gray8(path, table[label])), "ignored", "255")


def differing_palettes(ten: Ten, here: Path) -> Fault:
    colors = [(int(index) * 37 % 256, int(index) * 91 % 256, 255 - int(index)) for index in range(ten.n_classes)]
    stems = [image.stem for image in ten.images]

    def write(path: Path, label: Label) -> None:
        shift = stems.index(path.stem) % ten.n_classes
        label = np.where(label == 255, 0, label)
        write_palette(path, (label + shift) % ten.n_classes, colors[-shift:] + colors[:-shift] if shift else colors)

    return Fault(_copy(ten, here, write), "palettes", "palette")


def images_of_12_bits(ten: Ten, here: Path) -> Fault:
    given = _copy(ten, here, images=False)
    for image in ten.images:
        with Image.open(image) as opened:
            gray = np.asarray(opened.convert("L"), np.uint16) * 16
        Image.fromarray(gray).save(made(here / "images" / f"{image.stem}.png"), compress_level=1)
    return Fault(given, "range", "0,4095")


def ids_from_one(ten: Ten, here: Path) -> Fault:
    given = _copy(ten, here, lambda path, label: gray8(path, np.where(label == 255, 255, label + 1)))
    names = here / "names.txt"
    names.write_text("".join(f"thing {index}\n" for index in range(ten.n_classes)))
    return Fault(Given(given.images, given.labels, names), "first_id", "--first-id")


FAULTS = (
    turned_images,
    one_jpeg_mask,
    scaled_small_depths,
    a_class_is_255,
    differing_palettes,
    images_of_12_bits,
    ids_from_one,
)
