import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from data.label_images import record_of
from data.miniatures import limited, manifest_of
from PIL import Image

from seg_transfer.data.audit import audit
from seg_transfer.data.images import read_label
from seg_transfer.data.rgb import read_rgb
from seg_transfer.data.tiles import cut, starts
from seg_transfer.errors import DataError


def noise(*size: int) -> np.ndarray:
    """Blocks of noise: every patch is different, and a file is small."""
    blocks = np.random.default_rng(size).integers(0, 256, (-(-size[0] // 50), -(-size[1] // 50), 3), np.uint8)
    return blocks.repeat(50, 0).repeat(50, 1)[: size[0], : size[1]]


def colored(name: str, *size: int) -> np.ndarray:
    """Blocks in the colors of a dataset's classes."""
    colors = np.array(manifest_of(name).labels.colours, np.uint8)
    return colors[noise(*size)[..., 0] % len(colors)]


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def isprs(tmp_path: Path) -> Path:
    root = tmp_path / "isprs"
    save(root / "Potsdam/2_Ortho_RGB/top_potsdam_2_10_RGB.tif", noise(1700, 1400))
    save(root / "Potsdam/5_Labels_all/top_potsdam_2_10_label.tif", colored("isprs", 1700, 1400))
    for area, size in ((1, (900, 800)), (30, (700, 1000))):
        save(root / f"Vaihingen/top/top_mosaic_09cm_area{area}.tif", noise(*size))
        save(root / f"Vaihingen/ground_truth_COMPLETE/top_mosaic_09cm_area{area}.tif", colored("isprs", *size))
    return root


@pytest.mark.parametrize("length", [800, 801, 1400, 1401, 2569, 6000, 12029])
def test_patches_cover_a_side_and_stay_inside(length: int) -> None:
    found = starts(length)
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (0, length - 800)
    assert all(after - before <= 600 for before, after in pairwise(found))
    assert all(after - before == 600 for before, after in pairwise(found[:-1]))


def test_a_tile_of_potsdam_gives_a_hundred_patches() -> None:
    assert 38 * len(starts(6000)) ** 2 == manifest_of("isprs").train.count


def test_patches_of_isprs_match_its_manifest(isprs: Path) -> None:
    assert cut("isprs", isprs) == 3 * 2 + 2 + 1
    manifest = limited(manifest_of("isprs"))
    report = audit(manifest, isprs.parent)
    assert report.problems == ()
    assert (report.splits["train"].n_images, report.splits["eval"].n_images) == (6, 3)
    assert report.splits["train"].smallest == report.splits["train"].largest == (800, 800)
    assert (isprs / "patches/vaihingen/top/top_mosaic_09cm_area30.png").is_file()

    patch = "top_potsdam_2_10_900_1700_600_1400.png"
    image, tile = read_rgb(isprs / "patches/potsdam/top" / patch), noise(1700, 1400)[900:, 600:].astype(int)
    assert np.array_equal(image[..., :2], tile[..., :2])
    assert np.array_equal(image[..., 2], (tile[..., 0] + tile[..., 1]) // 2)
    label = read_label(record_of(isprs / "patches/potsdam/gt" / patch), manifest)
    assert np.array_equal(np.array(manifest.labels.colours)[label], colored("isprs", 1700, 1400)[900:, 600:])


def test_vaihingen_has_infrared_first(isprs: Path) -> None:
    cut("isprs", isprs)
    image = read_rgb(isprs / "patches/vaihingen/top/top_mosaic_09cm_area1_100_900_0_800.png")
    tile = noise(900, 800)[100:].astype(int)
    assert np.array_equal(image, np.stack([tile[..., 1], tile[..., 2], (tile[..., 1] + tile[..., 2]) // 2], 2))


def test_patches_of_isaid_match_its_manifest(tmp_path: Path) -> None:
    root = tmp_path / "iSAID"
    for split, name, size in (
        ("train", "P0001", (1500, 801)),
        ("train", "P1527", (800, 800)),
        ("val", "P0003", (799, 2000)),
    ):
        save(root / f"{split}/images/{name}.png", noise(*size))
        save(root / f"{split}/images/{name}_instance_color_RGB.png", colored("isaid", *size))
    assert cut("isaid", root) == 3 * 2 + 1
    assert cut("isaid", root) == 3 * 2 + 1  # once more over the same files
    report = audit(manifest_of("isaid"), tmp_path)
    assert report.problems == ()
    assert (report.splits["train"].n_images, report.splits["eval"].n_images) == (6, 1)
    assert report.splits["eval"].largest == (799, 2000)
    image = read_rgb(root / "train/patches/P0001_600_1400_1_801.png")
    assert np.array_equal(image, noise(1500, 801)[600:1400, 1:])


def test_missing_or_mismatched_files_are_one_line(isprs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no image train/images/.*unpack the dataset as its manifest's notes say"):
        cut("isaid", tmp_path)
    save(isprs / "Potsdam/5_Labels_all/top_potsdam_2_10_label.tif", colored("isprs", 1400, 1700))
    with pytest.raises(
        DataError, match=r"2_10_label\.tif: 1400 x 1700 \(height x width\), but its image is 1700 x 1400"
    ):
        cut("isprs", isprs)
    (isprs / "Potsdam/5_Labels_all/top_potsdam_2_10_label.tif").unlink()
    ended = subprocess.run(
        [sys.executable, "-m", "seg_transfer.data.tiles", "isprs", isprs], capture_output=True, text=True
    )
    assert ended.returncode == DataError.exit_code
    assert ended.stderr.endswith("top_potsdam_2_10_label.tif: the file does not exist; add it or exclude it\n")
    assert ended.stderr.count("\n") == 1
