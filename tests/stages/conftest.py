import shutil
from pathlib import Path

import pytest
from pixel_samples import TARGET

from seg_transfer.data.manifest import load_manifest
from seg_transfer.models.entry import SourceEntry
from seg_transfer.study.definition import Sampling, Study
from seg_transfer.study.run import Run


@pytest.fixture
def run(small_world: Path, tmp_path: Path) -> Run:
    """A run of one target, whose files may be changed."""
    for name in (TARGET, "manifests"):
        shutil.copytree(small_world / name, tmp_path / "data" / name)
    manifest = load_manifest(tmp_path / "data" / "manifests" / f"{TARGET}.yaml")
    study = Study(
        name="mini",
        manifests=(tmp_path,),
        sources=(SourceEntry(name="other", dataset="other"),),
        targets=(TARGET,),
        sampling=Sampling(pixels_per_image=60, seed=3),
    )
    return Run(study, {TARGET: manifest}, tmp_path / "data", tmp_path / "run")
