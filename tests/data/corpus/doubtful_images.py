"""Folders that are doubtful: images whose orientation, range or bands have two meanings."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from data.corpus.cases import Certain, Doubtful, Given, Truth, certain
from data.corpus.certain_containers import cells, png
from data.corpus.files import as_rgb, turned_upright, write_bands, write_image, write_oriented
from data.corpus.scenes import Array, Scene, scenes, square_scenes


def _as_read(made: Certain, image_of: Callable[[str], Array]) -> Truth:
    read = {path: Scene(image_of(Path(path).name), each.label) for path, each in made.truth.scenes.items()}
    return replace(made.truth, scenes=read)


def _oriented(here: Path, orientation: int) -> Doubtful:
    stored: dict[str, Array] = {}

    def write(path: Path, pixels: Array) -> None:
        stored[path.stem] = write_oriented(path, pixels, orientation)

    wanted = scenes() if orientation == 3 else square_scenes()
    made = certain(here, wanted=wanted, image=write, image_path="images/{}.jpg")
    readings = {
        "--exif apply": _as_read(made, lambda name: np.ascontiguousarray(turned_upright(stored[name], orientation))),
        "--exif ignore": _as_read(made, stored.__getitem__),
    }
    return Doubtful(made.given, "exif", ("EXIF",), readings)


def exif_half_turn(here: Path) -> Doubtful:
    return _oriented(here, 3)


def exif_quarter_turn_of_squares(here: Path) -> Doubtful:
    return _oriented(here, 6)


def _ranged(here: Path, raw_of: Callable[[Array], Array], suffix: str, seen: str, ranges: tuple[str, ...]) -> Doubtful:
    raw: dict[str, Array] = {}

    def write(path: Path, pixels: Array) -> None:
        raw[path.stem] = raw_of(pixels[..., 1])
        write_image(path, raw[path.stem])

    made = certain(here, image=write, image_path=f"images/{{}}.{suffix}")

    def read(limits: str) -> Truth:
        low, high = map(float, limits.split(","))
        # By hand: black and white are the limits, halves are rounded up.
        scaled = {
            name: (np.clip(each.astype(float), low, high) - low) * 255 / (high - low) for name, each in raw.items()
        }
        return _as_read(made, lambda name: as_rgb(np.floor(scaled[name] + 0.5)))

    return Doubtful(made.given, "range", (seen,), {f"--range {limits}": read(limits) for limits in ranges})


def images_of_10_bits_in_16(here: Path) -> Doubtful:
    return _ranged(here, lambda gray: gray.astype(np.uint16) * 4, "png", "16", ("0,1023", "0,65535"))


def images_of_12_bits_in_16(here: Path) -> Doubtful:
    return _ranged(here, lambda gray: gray.astype(np.uint16) * 16, "tif", "16", ("0,4095", "0,65535"))


def thermal_images_near_one_value(here: Path) -> Doubtful:
    """The top bit is used, but hardly another one."""
    return _ranged(
        here, lambda gray: gray.astype(np.uint16) + 33000, "png", "nearly one gray", ("33000,33174", "0,65535")
    )


def floating_point_images(here: Path) -> Doubtful:
    return _ranged(here, lambda gray: gray.astype(np.float32) / 128, "tif", "32 bits", ("0,1.359375",))


def _banded(here: Path, order: tuple[int | None, ...], seen: str, readings: tuple[str, ...]) -> Doubtful:
    """Images whose bands are R, G, B (0, 1, 2) in an order, or something else (None)."""
    bands: dict[str, Array] = {}

    def write(path: Path, pixels: Array) -> None:
        other = 255 - pixels[..., 0]
        stacked = np.stack([other if channel is None else pixels[..., channel] for channel in order])
        bands[path.stem] = stacked
        write_bands(path, stacked)

    made = certain(here, image=write, image_path="images/{}.tif")

    def read(option: str) -> Truth:
        chosen = [int(number) - 1 for number in option.split(" ")[1].split(",")]
        return _as_read(made, lambda name: np.ascontiguousarray(bands[name][chosen].transpose(1, 2, 0)))

    return Doubtful(made.given, "bands", (seen,), {option: read(option) for option in readings})


def five_bands(here: Path) -> Doubtful:
    return _banded(here, (2, 1, 0, None, None), "5 bands", ("--bands 1,2,3", "--bands 3,2,1"))


def four_bands_without_alpha(here: Path) -> Doubtful:
    return _banded(here, (0, 1, 2, None), "4 bands", ("--bands 1,2,3", "--bands 3,2,1"))


def two_bands(here: Path) -> Doubtful:
    return _banded(here, (0, None), "2 bands", ("--bands 1,1,1", "--bands 2,2,2"))


def two_columns_that_may_be_masks(here: Path) -> Doubtful:
    """A table with classes and instances: the names of its columns do not say which are meant."""
    made = certain(here / "plain")
    rows = list(made.truth.scenes.values())
    instances = {"a": rows[0].label[::-1], "b": rows[1].label[::-1], "c": rows[2].label[::-1]}
    columns = {
        "image": [png(each.image) for each in rows],
        "class_mask": [png(each.label) for each in rows],
        "instance_mask": [png(label) for label in instances.values()],
    }
    file = here / "data.parquet"
    pq.write_table(pa.table({name: cells(contents) for name, contents in columns.items()}), file)

    def read(labels: Iterable[Array]) -> Truth:
        read = {f"data/{row}": Scene(rows[row].image, label) for row, label in enumerate(labels)}
        return replace(made.truth, scenes=read)

    readings = {
        "--columns image,class_mask": read(each.label for each in rows),
        "--columns image,instance_mask": read(instances.values()),
    }
    return Doubtful(Given(file, file), "columns", ("class_mask", "instance_mask"), readings)
