"""Each scene is decoded once for its tiles, within limits of memory; tiles go all the way through the pipeline."""

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from data.scene_files import HEIGHT, IMAGE, LABEL, SIZE, WIDTH, save, two_scenes
from PIL import Image

from seg_transfer.data import decoding, scenes
from seg_transfer.data.audit import audit
from seg_transfer.data.images import read_image, read_label, read_pair
from seg_transfer.data.manifest import DatasetManifest, load_manifest
from seg_transfer.data.record import Record
from seg_transfer.data.records import list_records
from seg_transfer.data.rgb import read_rgb
from seg_transfer.data.scene_tiles import Tiles, windows_of, with_tiles
from seg_transfer.errors import DataError
from seg_transfer.features.images import TargetImages
from seg_transfer.training import evaluate
from seg_transfer.training.crops import TrainingCrops
from seg_transfer.training.schedule import Schedule

Manifest = Callable[..., DatasetManifest]
TILES = {"above": 1000, "size": SIZE}
SMALL = ("camvid", "dubai_aerial", "fasseg", "idd_lite", "labelmefacade", "nyuv2", "voc_animals")


# Decoding once


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the PNG files whose pixels were decoded."""
    found: list[str] = []
    from PIL import PngImagePlugin

    load = PngImagePlugin.PngImageFile.load_prepare

    def counted(image: Any) -> None:
        found.append(Path(image.filename).name)
        load(image)

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load_prepare", counted)
    return found


def test_each_scene_is_decoded_once_for_all_its_tiles(tmp_path: Path, manifest: Manifest, decoded: list[str]) -> None:
    records = two_scenes(tmp_path)
    images = TargetImages(records, SIZE, batch_size=5)
    assert sum(len(batch.indices) for batch in images) == 24
    for record in records:
        read_pair(record, manifest())
    assert sorted(decoded) == ["a.png", "a_l.png", "b.png", "b_l.png"]


def test_little_memory_keeps_the_last_scene(
    tmp_path: Path, manifest: Manifest, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # One image of 4 bytes per pixel and its label map of 1
    monkeypatch.setattr(scenes, "MAX_KEPT_BYTES", 5 * HEIGHT * WIDTH)
    for record in two_scenes(tmp_path):
        read_pair(record, manifest())
        assert sum(size for _, size in scenes._kept.values()) <= 5 * HEIGHT * WIDTH
    assert decoded == ["a.png", "a_l.png", "b.png", "b_l.png"]


def test_a_scene_that_changed_is_decoded_again(tmp_path: Path) -> None:
    for value in (10, 200):
        Image.fromarray(np.full((HEIGHT, WIDTH + value, 3), value, np.uint8)).save(tmp_path / "a.png")
        assert (read_rgb(tmp_path / "a.png", window=(0, 0, 2, 2)) == value).all()


def test_without_rasterio_tiff_scenes_are_decoded_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(Image.fromarray(IMAGE), tmp_path / "a.tif", tiled=True)
    read_rgb(tmp_path / "a.tif", window=(8, 8, 8, 8))
    assert not scenes._kept
    monkeypatch.setattr(scenes, "is_available", lambda: False)
    assert np.array_equal(read_rgb(tmp_path / "a.tif", window=(8, 8, 8, 8)), IMAGE[8:16, 8:16])
    assert len(scenes._kept) == 1


# Limits


def test_the_limit_of_pixels_names_what_reads_larger_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(DataError, match=r"a\.png: .*tiles: \{above: 1000\} to the manifest, or --max-pixels 1000$"):
        read_rgb(tmp_path / "a.png")
    assert np.array_equal(read_rgb(tmp_path / "a.png", window=(0, 0, 9, 9)), IMAGE[:9, :9])
    assert Image.MAX_IMAGE_PIXELS == 500
    with pytest.raises(DataError, match=r"a\.png: cannot be decoded"):
        read_rgb(tmp_path / "a.png")


def test_the_limit_holds_for_other_threads_while_a_scene_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with decoding.any_size(), ThreadPoolExecutor(1) as other:
        assert read_rgb(tmp_path / "a.png").shape == IMAGE.shape
        with pytest.raises(DataError, match="exceeds limit of 1000 pixels"):
            other.submit(read_rgb, tmp_path / "a.png").result()


def test_a_scene_beyond_all_memory_is_not_decoded(tmp_path: Path, manifest: Manifest) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.bmp")
    content = bytearray((tmp_path / "a.bmp").read_bytes())
    content[18:26] = struct.pack("<ii", 60_000, 50_000)
    (tmp_path / "a.bmp").write_bytes(content)
    record = Record("a", tmp_path / "a.bmp", tmp_path / "a.bmp", window=(0, 0, 9, 9))
    for read in (read_image, partial(read_label, manifest=manifest())):
        with pytest.raises(DataError, match=r"a\.bmp: 3000000000 pixels, but at most 1073741824 can .*tiled TIFF"):
            read(record)


def test_a_window_beyond_the_image_is_refused(tmp_path: Path) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: 40 x 56 \(height x width\) has no part of 16 x 16 at row 30"):
        read_rgb(tmp_path / "a.png", window=(30, 0, 16, 16))


# The whole way


def test_the_audit_counts_tiles(
    tmp_path: Path, split: Path, manifest: Manifest, write_pair: Callable[..., None]
) -> None:
    write_pair(tmp_path / "mini" / "test", "x")
    report = audit(manifest(tiles=TILES), tmp_path)
    assert report.problems == ()
    tiles = [LABEL[top : top + SIZE, left : left + SIZE] for top, left, _, _ in windows_of(HEIGHT, WIDTH, SIZE)]
    expected = np.bincount(np.concatenate([part.ravel() for part in [*tiles, LABEL[:20, :30]]]), minlength=3)
    assert report.splits["train"].n_images == 13
    assert report.splits["train"].class_pixels.tolist() == expected.tolist()


@pytest.fixture
def bands_of_color(tmp_path: Path) -> list[Record]:
    """Tiles of a scene whose red channel is 80 times its class."""
    for kind, scene in (("image", np.stack([LABEL * 80] * 3, axis=2)), ("label", LABEL)):
        Image.fromarray(scene).save(tmp_path / f"{kind}.png")
    record = Record("scene", tmp_path / "image.png", tmp_path / "label.png")
    return with_tiles([record], Tiles(above=1000, size=SIZE))[0]


def test_training_crops_come_from_tiles(bands_of_color: list[Record], manifest: Manifest) -> None:
    schedule = Schedule(steps=4, batch_size=3, learning_rate=0.1, scale_range=(1.0, 1.0))
    crops = TrainingCrops(bands_of_color, manifest(crop_size=[SIZE, SIZE]), schedule, seed=0)
    for number in range(12):
        crop = crops[number]
        pixels, label = crop["inputs"], crop["data_samples"].gt_sem_seg.data
        assert (pixels.shape, label.shape) == ((3, SIZE, SIZE), (1, SIZE, SIZE))
        assert (pixels[:1] == label * 80).all()


def test_miou_is_measured_on_tiles(
    bands_of_color: list[Record], manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that takes class 2 for class 1."""
    monkeypatch.setattr(evaluate, "predict", lambda source, image, size: np.minimum(image[..., 0] // 80, 1).astype(int))
    source = SimpleNamespace(n_classes=3)
    quality = evaluate.evaluate_on(source, bands_of_color, manifest(crop_size=[SIZE, SIZE]))  # type: ignore[arg-type]
    windows = windows_of(HEIGHT, WIDTH, SIZE)
    counts = sum(
        np.bincount(LABEL[top : top + rows, left : left + columns].ravel(), minlength=3)
        for top, left, rows, columns in windows
    )
    assert quality.class_iou == pytest.approx((1, counts[1] / (counts[1] + counts[2]), 0))
    assert quality.n_images == 12


@pytest.mark.parametrize("name", SMALL)
def test_tiles_of_real_images_are_their_parts(real_data: Path, name: str) -> None:
    manifest = load_manifest(Path("small") / name)
    record = list_records(manifest, real_data, "eval")[0]
    image, label = read_pair(record, manifest)
    tiles, _ = with_tiles([record], Tiles(above=1000, size=100))
    assert len(tiles) > 1
    for tile in tiles:
        top, left, height, width = tile.window or (0, 0, 0, 0)
        part = np.s_[top : top + height, left : left + width]
        assert all(map(np.array_equal, read_pair(tile, manifest), (image[part], label[part])))


CODE = """
import json, sys
from pathlib import Path
from seg_transfer.data.images import read_image, read_label
from seg_transfer.data.manifest import DatasetManifest, load_manifest
from seg_transfer.data.records import low_shot_records
from seg_transfer.sampling import draw_pixel_sample
manifest = DatasetManifest.model_validate(json.loads(sys.argv[1]))
records = low_shot_records(manifest, Path(sys.argv[2]))
sample = draw_pixel_sample([(record.image_id, read_label(record, manifest)) for record in records], 50)
means = [round(float(read_image(record).mean()), 6) for record in records]
# Not ru_maxrss, which counts the process that started this one.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0]) / 2**20
print(json.dumps([len(records), len(sample.labels), sorted(set(means)), peak]))
"""


def test_a_scene_of_182_megapixels_takes_less_than_two_gigabytes(tmp_path: Path, manifest: Manifest) -> None:
    import rasterio

    side, block = 13_500, 512
    shape = {"height": side, "width": side, "dtype": "uint8", "tiled": True, "blockxsize": block, "blockysize": block}
    for kind, n_bands in (("images", 3), ("labels", 1)):
        folder = tmp_path / "mini" / "train" / kind
        folder.mkdir(parents=True)
        with rasterio.open(
            folder / "scene.tif", "w", driver="GTiff", count=n_bands, compress="deflate", sparse_ok=True, **shape
        ) as file:
            # Blocks that are not written are 0. A column of blocks is class 1, and light.
            for top in range(0, side - block, block):
                window = ((top, top + block), (2 * block, 4 * block))
                file.write(np.full((n_bands, block, 2 * block), 200 if n_bands == 3 else 1, np.uint8), window=window)
    train = {"images": "train/images/*.tif", "labels": "train/labels/*.tif"}
    fields = manifest(tiles={}, train=train, eval=None, low_shot={"limit": 20, "seed": 1}).model_dump_json()
    run = subprocess.run(
        [sys.executable, "-c", CODE, fields, str(tmp_path)], capture_output=True, text=True, check=True
    )
    n_records, n_pixels, means, peak_gib = json.loads(run.stdout)
    assert (n_records, n_pixels, run.stderr) == (20, 1000, "")
    assert set(means) <= {0.0, 200.0, *(round(200 * share / 1024, 6) for share in range(1024))}
    assert peak_gib < 1
