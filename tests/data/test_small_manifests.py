import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_transfer.data.audit import audit
from seg_transfer.data.manifest import DatasetManifest, load_manifests
from seg_transfer.data.records import list_records

FOLDER = Path(__file__).resolve().parents[2] / "data_manifests" / "small"
MANIFESTS = load_manifests(FOLDER)


def test_the_small_manifests_load() -> None:
    of_real7 = {"camvid", "dubai_aerial", "fasseg", "idd_lite", "labelmefacade", "nyuv2", "voc_animals"}
    assert set(MANIFESTS) == of_real7 | {"nuclei", "peanut", "road_damage", "vocalfolds"}
    for name, manifest in MANIFESTS.items():
        assert (FOLDER / f"{name}.yaml").is_file()
        assert manifest.crop_size == (144, 144)
        assert manifest.licence
        assert manifest.citation
        assert manifest.notes


def raw_classes(meta: dict[str, Any]) -> tuple[list[str], list[int]]:
    """The manifest's classes by the dataset's own description, and the class index of every raw value."""
    merged = meta.get("to_13_classes")
    return (merged["classes"], merged["map"]) if merged else (meta["classes"], list(range(len(meta["classes"]))))


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
def test_the_manifest_agrees_with_the_files(manifest: DatasetManifest, real_data: Path) -> None:
    meta = json.loads((real_data / manifest.root / "meta.json").read_text(encoding="utf-8"))
    classes, index = raw_classes(meta)
    assert list(manifest.classes) == classes
    assert manifest.raw_classes() == dict(enumerate(index)) | {255: 255}
    extra = meta["stats"]["train_extra"]["n"] if "train_extra" in meta["stats"] else meta["n_train_extra"]
    assert len(list_records(manifest, real_data, "source_train")) == meta["n_train"] + extra

    report = audit(manifest.model_copy(update={"source_train": None}), real_data)
    assert report.problems == ()
    for name, stated in (("train", meta["stats"]["train"]), ("eval", meta["stats"]["test"])):
        split = report.splits[name]
        shares = np.bincount(index, weights=list(stated["pixel_fraction"].values()))
        assert split.n_images == stated["n"]
        assert split.class_shares == pytest.approx(shares, abs=5e-6 * max(np.bincount(index)) + 1e-9)
        assert split.ignored_share == pytest.approx(stated["ignore_fraction"], abs=6e-5)
        if len(set(index)) == len(index):
            assert split.class_images.tolist() == list(stated["images_with_class"].values())
    # The numbers in the manifest are those of train, rounded to four digits.
    assert manifest.mean == pytest.approx(report.splits["train"].mean, abs=6e-5)
    assert manifest.std == pytest.approx(report.splits["train"].std, abs=6e-5)
