"""The wheel holds what the commands need, and finds it by name from any folder, without a checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement

from seg_transfer import __version__

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the content of the wheel, as pip lays it."""
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def installed(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A Python of this environment that imports the wheel's package, in an empty folder."""
    empty = site.parent / "empty"
    empty.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-P", *words]
    return subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)


def tracked(folder: str) -> set[str]:
    """The files of a folder of the checkout, but for what running them leaves."""
    files = (path.relative_to(CHECKOUT) for path in (CHECKOUT / folder).rglob("*") if path.is_file())
    return {path.as_posix() for path in files if "__pycache__" not in path.parts}


def test_the_wheel_holds_the_package_and_the_shipped_files_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {f"seg_transfer/_shipped/{name}" for name in tracked("configs") | tracked("data_manifests")}
    rest = {name for name in names if not PurePosixPath(name).parts[0].endswith(".dist-info")}
    assert rest == tracked("seg_transfer") | shipped


def test_mmcv_and_mmsegmentation_are_not_required(wheel: Path) -> None:
    """pip would lay mmcv-lite over the mmcv of an environment, and mmsegmentation over a fork."""
    archive = zipfile.ZipFile(wheel)
    metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    lines = archive.read(metadata).decode().splitlines()
    fields = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    required = [Requirement(field) for field in fields]
    of_mmseg = {one.name for one in required if one.marker and one.marker.evaluate({"extra": "mmseg"})}
    always = {one.name for one in required if not one.marker or one.marker.evaluate({"extra": ""})}
    assert {"mmcv-lite", "mmengine", "mmsegmentation", "ftfy"} <= of_mmseg
    assert "torch" in always
    assert not {name for name in always if name.startswith(("mm", "opencv"))}
    assert f"Version: {__version__}" in lines


def test_shipped_files_are_found_by_name(site: Path) -> None:
    planned = installed(site, "-m", "seg_transfer", "plan", "paper_272", "--json")
    assert planned.returncode == 0, planned.stderr
    assert len(json.loads(planned.stdout)["absent_datasets"]) == 17

    wrong = installed(site, "-m", "seg_transfer", "audit", "nyuv2")
    assert wrong.stderr.endswith("did you mean small/nyuv2?\n")

    code = (
        "from seg_transfer.resources import find, shipped_files, shipped\n"
        "assert len(shipped_files('manifest')) == 24\n"
        "from seg_transfer.store.published import published_source_facts\n"
        "assert len(published_source_facts('architecture')) == 19\n"
        "print(find('manifest', 'small/camvid'), shipped('data_manifests/published/real7'))"
    )
    found = installed(site, "-c", code)
    assert all(Path(path).is_relative_to(site) for path in found.stdout.split()), found
