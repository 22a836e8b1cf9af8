"""Large images are used as tiles, each a record of its own, which are read without decoding the scene again."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from data.label_images import colored, rgb_labels, with_palette
from data.scene_files import HEIGHT, IMAGE, LABEL, SIZE, WIDTH, noise, save, two_scenes
from PIL import Image

from seg_transfer.data import scene_tiles, scenes
from seg_transfer.data.images import image_size, read_image, read_label, read_pair
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.record import ImageReading, Record
from seg_transfer.data.records import find_records, list_records, low_shot_records
from seg_transfer.data.rgb import read_rgb
from seg_transfer.data.scene_tiles import Tiles, windows_of, with_tiles
from seg_transfer.data.scenes import is_read_by_windows
from seg_transfer.errors import DataError
from seg_transfer.store.content_key import records_key

Manifest = Callable[..., DatasetManifest]
TILES = {"above": 1000, "size": SIZE}
TIFF_OPTIONS: dict[str, Any] = {"compression": "tiff_adobe_deflate"}


def pasted(records: list[Record], read: Callable[[Record], npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """The scene that tiles are parts of."""
    whole = np.zeros((HEIGHT, WIDTH, *read(records[0]).shape[2:]), np.uint8)
    for record in records:
        assert record.window is not None
        top, left, height, width = record.window
        whole[top : top + height, left : left + width] = read(record)
    return whole


# Records


def test_the_last_tiles_are_moved_inward_and_smaller_scenes_are_one_tile() -> None:
    assert windows_of(10, 25, 10) == [(0, 0, 10, 10), (0, 10, 10, 10), (0, 15, 10, 10)]
    assert windows_of(20, 10, 10) == [(0, 0, 10, 10), (10, 0, 10, 10)]
    assert windows_of(4, 12, 10) == [(0, 0, 4, 10), (0, 2, 4, 10)]
    assert windows_of(4, 3, 10) == [(0, 0, 4, 3)]


def test_a_large_image_becomes_tiles_and_a_small_one_stays(tmp_path: Path, split: Path, manifest: Manifest) -> None:
    records = list_records(manifest(tiles=TILES), tmp_path, "train")
    expected = [f"train/images/scene@{top}_{left}" for top in (0, 16, 24) for left in (0, 16, 32, 40)]
    assert [record.image_id for record in records] == sorted([*expected, "train/images/small"])
    assert all(image_size(record) == (SIZE, SIZE) for record in records[:-1])
    assert (records[-1].window, image_size(records[-1])) == (None, (20, 30))
    assert list_records(manifest(), tmp_path, "train")[0].window is None


def test_a_count_is_that_of_files(tmp_path: Path, split: Path, manifest: Manifest) -> None:
    train = {"images": "train/images/*.png", "labels": "train/labels/*.png"}
    records, problems = find_records(manifest(tiles=TILES, train=train | {"count": 2}), tmp_path, "train")
    assert (len(records), problems) == (13, [])


def test_the_low_shot_subset_is_a_seeded_draw_of_tiles(tmp_path: Path, split: Path, manifest: Manifest) -> None:
    drawn = [
        [
            record.image_id
            for record in low_shot_records(manifest(tiles=TILES, low_shot={"limit": n, "seed": seed}), tmp_path)
        ]
        for n, seed in ((5, 0), (5, 0), (5, 1), (3, 0))
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn[3]) < set(drawn[0])


def test_two_records_of_one_id_are_a_problem(tmp_path: Path, split: Path, manifest: Manifest) -> None:
    for kind in ("images", "labels"):
        (split / kind / "small.png").rename(split / kind / "scene@0_16.png")
    _, problems = find_records(manifest(tiles=TILES), tmp_path, "train")
    assert len(problems) == 1
    assert "would both have the id train/images/scene@0_16" in problems[0]


def test_more_tiles_than_anybody_has_are_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header of a few bytes can claim any size."""
    Image.fromarray(IMAGE).save(tmp_path / "a.tif")
    monkeypatch.setattr(scene_tiles, "read_size", lambda *_: (1 << 31, 1 << 31))
    found, problems = with_tiles([Record("a", tmp_path / "a.tif", tmp_path / "a.tif")], Tiles(size=1024))
    assert found == []
    assert len(problems) == 1
    assert "a.tif: 2147483648 x 2147483648 pixels would be 4398046511104 tiles, but at most 1048576" in problems[0]


def test_headers_are_only_read_where_the_file_has_enough_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    monkeypatch.setattr(scene_tiles, "read_size", lambda path, _: looked_at.append(path.name) or (1, 1))
    for name, n_bytes in {"a.jpg": 0, "b.JPG": 1, "c.png": 0, "d.png": 1, "e.tif": 1, "f.webp": 1}.items():
        (tmp_path / name).write_bytes(bytes(n_bytes))
    records = [Record(path.stem, path, path) for path in sorted(tmp_path.iterdir())]
    assert with_tiles(records, Tiles(above=1000)) == (records, [])
    assert looked_at == ["b.JPG", "d.png", "e.tif", "f.webp"]


@pytest.mark.parametrize("fields", [{"size": 0}, {"above": 0}, {"size": 1.5}, {"overlap": 3}])
def test_fields_are_checked(manifest: Manifest, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"tiles.{next(iter(fields))}"):
        manifest(tiles=fields)


# Pixels


SAVED: dict[str, dict[str, Any]] = {
    "scene.png": {},
    "tiled.tif": {"tiled": True},
    "striped.tif": TIFF_OPTIONS | {"tiffinfo": {278: 4}},
    "plain.tif": {},
    "scene.bmp": {},
    "scene.webp": {"lossless": True},
}


@pytest.mark.parametrize("window", [(0, 0, 16, 16), (24, 40, 16, 16), (3, 5, 7, 20), (0, 0, HEIGHT, WIDTH)])
@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16", "1"])
def test_a_part_is_that_of_the_whole(tmp_path: Path, mode: str, name: str, window: Any) -> None:
    modes = {"RGB": IMAGE, "L": LABEL, "RGBA": noise(HEIGHT, WIDTH, 4), "I;16": LABEL.astype(np.uint16) * 20000}
    image = Image.fromarray(modes[mode]) if mode in modes else Image.fromarray(IMAGE).convert(mode)
    if (mode, name) == ("I;16", "scene.bmp") or (mode in ("I;16", "1") and name == "scene.webp"):
        return  # the format has no such images
    save(image, tmp_path / name, **SAVED[name])
    top, left, height, width = window
    expected = read_rgb(tmp_path / name)[top : top + height, left : left + width]
    assert np.array_equal(read_rgb(tmp_path / name, window=window), expected)


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_parts_of_tiff_files_are_read_alone(tmp_path: Path, mode: str, name: str) -> None:
    save(Image.fromarray(IMAGE).convert(mode), tmp_path / name, **SAVED[name])
    is_tiff = name.endswith("tif")
    assert is_read_by_windows(tmp_path / name) == is_tiff
    read_rgb(tmp_path / name, window=(0, 0, 9, 9))
    assert bool(scenes._kept) != is_tiff


@pytest.mark.parametrize("name", SAVED)
def test_label_maps_of_scenes_in_every_encoding(tmp_path: Path, manifest: Manifest, name: str) -> None:
    label = LABEL.copy()
    label[5:9] = 255
    maps = {
        "id": (Image.fromarray(label), {"encoding": "id", "ignore": [255]}),
        "palette": (with_palette(label), {"encoding": "palette", "ignore": [255]}),
        "rgb": (Image.fromarray(colored(label)), rgb_labels()),
    }
    Image.fromarray(IMAGE).save(tmp_path / "image.png")
    for encoding, (image, labels) in maps.items():
        if encoding == "palette" and name == "scene.webp":
            continue
        (tmp_path / encoding).mkdir()
        path = tmp_path / encoding / name
        save(image, path, **SAVED[name])
        if encoding == "id" and name == "scene.webp":
            continue  # WebP has no gray
        records = [
            Record(str(window), tmp_path / "image.png", path, window=window)
            for window in windows_of(HEIGHT, WIDTH, SIZE)
        ]
        read = partial(read_pair, manifest=manifest(labels=labels))
        assert np.array_equal(pasted(records, partial(read_label, manifest=manifest(labels=labels))), label)
        assert all(np.array_equal(read(record)[0], read_image(record)) for record in records)


def test_tiles_of_bands_on_a_range(tmp_path: Path) -> None:
    import rasterio

    values = np.random.default_rng(0).integers(0, 4096, (5, HEIGHT, WIDTH), dtype=np.uint16)
    options = {"count": 5, "height": HEIGHT, "width": WIDTH, "dtype": "uint16", "tiled": True}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", blockxsize=16, blockysize=16, **options) as file:
        file.write(values)
    reading = ImageReading(bands=(4, 3, 2), range=(0, 4095))
    record = Record("a", tmp_path / "a.tif", tmp_path / "a.tif", reading=reading)
    tiles, _ = with_tiles([record], Tiles(above=1000, size=SIZE))
    expected = np.floor(values[[3, 2, 1]].transpose(1, 2, 0) / 4095 * 255 + 0.5).astype(np.uint8)
    assert len(tiles) == 12
    assert np.array_equal(pasted(tiles, read_image), expected)


def test_tiles_of_a_turned_scene_are_those_of_the_upright_one(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(IMAGE)).save(tmp_path / "a.png", exif=exif)
    record = Record("a", tmp_path / "a.png", tmp_path / "a.png", reading=ImageReading(exif="apply"))
    tiles, _ = with_tiles([record], Tiles(above=1000, size=SIZE))
    assert np.array_equal(pasted(tiles, read_image), IMAGE)


def test_a_label_map_of_another_size_than_its_scene_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    for name, label in (("id", Image.fromarray(LABEL[:, 1:])), ("rgb", Image.fromarray(colored(LABEL)[:, 1:]))):
        label.save(tmp_path / "l.png")
        described = manifest(labels=rgb_labels()) if name == "rgb" else manifest()
        record = Record("a", tmp_path / "a.png", tmp_path / "l.png", window=(0, 0, 16, 16))
        with pytest.raises(DataError, match=r"l\.png: 40 x 55 .* its image .*a\.png is 40 x 56"):
            read_label(record, described)


def test_an_unlisted_value_is_placed_in_the_scene(tmp_path: Path, manifest: Manifest) -> None:
    label = LABEL.copy()
    label[20, 33] = 9
    Image.fromarray(label).save(tmp_path / "a.png")
    record = Record("a", tmp_path / "a.png", tmp_path / "a.png", window=(16, 32, 16, 16))
    with pytest.raises(DataError, match="value 9 at row 20, column 33"):
        read_label(record, manifest())


# Keys


def test_keys_tell_tiles_apart_and_each_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = two_scenes(tmp_path)
    hashed: list[Path] = []
    monkeypatch.setattr("seg_transfer.store.content_key._sha256_of_file", lambda path: hashed.append(path) or path.name)
    key = records_key(records, trust_mtime=False)
    assert sorted(path.name for path in hashed) == ["a.png", "a_l.png", "b.png", "b_l.png"]
    moved = [replace(records[0], window=(1, 0, SIZE, SIZE)), *records[1:]]
    whole = [replace(records[0], window=None), *records[1:]]
    assert len({key, records_key(moved, trust_mtime=False), records_key(whole, trust_mtime=False)}) == 3
    assert records_key(two_scenes(tmp_path), trust_mtime=False) == key
