"""Versions of libraries are read from what is installed, as far as they count, and nothing is imported for it."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from seg_transfer.models import libraries
from seg_transfer.models.adapters import ADAPTERS
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.libraries import MMSEGMENTATION, library_versions

KINDS = {"study": SourceEntry, **ADAPTERS}
INSTALLED = {"torch": "2.13.1+cu128", "pillow": "13.0.0", "mmsegmentation": "1.2.2", "timm": "1.0.31+local.3"}


def planted(monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], providers: dict[str, list[str]]) -> None:
    def version(name: str) -> str:
        if name.lower() not in installed:
            raise PackageNotFoundError(name)
        return installed[name.lower()]

    monkeypatch.setattr(libraries, "version", version)
    monkeypatch.setattr(libraries, "packages_distributions", lambda: providers)
    libraries.installed_version.cache_clear()


@pytest.fixture(autouse=True)
def forgotten():
    yield
    libraries.installed_version.cache_clear()


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("study", {"mmsegmentation": "1.2.2"}),
        ("mmseg", {"mmsegmentation": "1.2.2"}),
        ("mmseg_zoo", {"mmsegmentation": "1.2.2"}),
        ("timm", {"timm": "1.0.31"}),
        ("torchvision", {"torchvision": "not installed"}),
        ("smp", {"segmentation_models_pytorch": "not installed", "timm": "1.0.31"}),
        ("transformers", {"transformers": "not installed"}),
        ("factory", {}),
    ],
)
def test_each_kind_of_source_has_its_library(monkeypatch, kind, own):
    planted(monkeypatch, INSTALLED, {})
    assert library_versions(KINDS[kind].libraries) == {"torch": "2.13", "Pillow": "13.0.0", **own}


def test_every_kind_of_source_is_above():
    """A new kind of source says here whether a library has its networks."""
    assert set(KINDS) == {"study", "mmseg", "mmseg_zoo", "timm", "torchvision", "smp", "transformers", "factory"}


def test_a_fork_provides_the_package_under_another_name(monkeypatch):
    forks = {"onedl-mmsegmentation": "1.3.0", "pillow-simd": "9.5.0.post2", "torch": "2.13.0"}
    planted(monkeypatch, forks, {"mmseg": ["onedl-mmsegmentation"], "PIL": ["pillow-simd"]})
    assert library_versions([MMSEGMENTATION]) == {"torch": "2.13", "Pillow": "9.5.0.post2", "mmsegmentation": "1.3.0"}


def test_nothing_is_imported():
    code = (
        "import sys; from seg_transfer.models.adapters import ADAPTERS;"
        "from seg_transfer.models.libraries import library_versions; sys.modules.pop('PIL', None);"
        "[library_versions(adapter.libraries) for adapter in ADAPTERS.values()];"
        "print(*sorted({'torch', 'PIL', 'mmseg', 'timm', 'transformers'} & sys.modules.keys()))"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == ""
