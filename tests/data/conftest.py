from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.audit_scenes import SPLIT
from data.parquet_files import write_rows
from data.scene_files import IMAGE, LABEL
from PIL import Image

from seg_transfer.data import scenes
from seg_transfer.data.audit import AuditReport, audit
from seg_transfer.data.manifest import DatasetManifest

CLASSES = ("sky", "road", "car")


def plain_manifest(**changes: Any) -> dict[str, Any]:
    """The fields of a valid manifest for three classes, in which ``changes`` replace or add some."""
    fields: dict[str, Any] = {
        "name": "mini",
        "title": "A miniature",
        "domain": "driving",
        "classes": list(CLASSES),
        "root": "mini",
        "labels": {"encoding": "id", "ignore": [255]},
        "train": {"images": "train/images/*.png", "labels": "train/labels/*.png"},
        "eval": {"images": "test/images/*.png", "labels": "test/labels/*.png"},
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.3, 0.1],
        "crop_size": [16, 24],
    }
    return fields | changes


@pytest.fixture
def fields() -> Callable[..., dict[str, Any]]:
    return plain_manifest


@pytest.fixture
def manifest() -> Callable[..., DatasetManifest]:
    return lambda **changes: DatasetManifest.model_validate(plain_manifest(**changes))


@pytest.fixture
def write_pair() -> Callable[..., None]:
    """Writes images/STEM.png and labels/STEM.png of a split; the label map's classes are unbalanced and off-center."""

    def write(split: Path, stem: str, size: tuple[int, int] = (6, 8), seed: int = 0) -> None:
        generator = np.random.default_rng([seed, *stem.encode()])
        for kind in ("images", "labels"):
            (split / kind).mkdir(parents=True, exist_ok=True)
        image = generator.integers(0, 200, (*size, 3), dtype=np.uint8)
        label = generator.choice(np.array([0, 1, 2, 255], np.uint8), size, p=[0.6, 0.25, 0.05, 0.1])
        label[0, :3] = 0, 1, 2
        Image.fromarray(image).save(split / "images" / f"{stem}.png")
        Image.fromarray(label).save(split / "labels" / f"{stem}.png")

    return write


@pytest.fixture
def mini(tmp_path: Path, write_pair: Callable[..., None]) -> Path:
    """A data root that holds the dataset ``mini``: five pairs to train on, two to evaluate on."""
    for stem in "abcde":
        write_pair(tmp_path / "mini" / "train", stem)
    for stem in "xy":
        write_pair(tmp_path / "mini" / "test", stem, size=(9, 7))
    return tmp_path


@pytest.fixture
def tables(manifest: Callable[..., DatasetManifest]) -> Callable[..., DatasetManifest]:
    """Makes manifests of a dataset in Parquet files."""

    def make(
        columns: Any = None, labels: Any = None, labels_of_split: str = "data/*.parquet", **split: Any
    ) -> DatasetManifest:
        files = {"images": "data/*.parquet", "labels": labels_of_split} | split
        names = columns or {"image": "image", "label": "label"}
        return manifest(labels=labels or {"encoding": "id"}, columns=names, train=files, eval=files)

    return make


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve rows in row groups of five."""
    return write_rows(tmp_path / "mini/data/train.parquet", range(12), row_group_size=5)


@pytest.fixture
def audited(tmp_path: Path, manifest: Callable[..., DatasetManifest]) -> Callable[..., AuditReport]:
    """Audits what was written, with fields of the manifest that replace the usual ones."""

    def run(**fields: Any) -> AuditReport:
        return audit(manifest(**{"train": SPLIT, "eval": None} | fields), tmp_path)

    return run


@pytest.fixture(autouse=True)
def _no_scene_is_kept() -> None:
    scenes.forget_scenes()


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """A scene, and an image that is small enough to stay whole."""
    folder = tmp_path / "mini" / "train"
    for kind, scene in (("images", IMAGE), ("labels", LABEL)):
        (folder / kind).mkdir(parents=True)
        Image.fromarray(scene).save(folder / kind / "scene.png")
        Image.fromarray(scene[:20, :30]).save(folder / kind / "small.png")
    return folder
