"""The shipped banks: every entry parses, says its license, and names a network that its library has."""

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from seg_transfer.errors import ConfigError
from seg_transfer.models.compat import import_torchvision, quiet
from seg_transfer.models.entry import SourceEntry
from seg_transfer.resources import shipped_files
from seg_transfer.study.bank import read_sources

BANKS = ("mmseg_zoo", "popular", "remote_sensing", "small")
# Repositories of the Hub -> the class of the transformers library that their config.json names.
ARCHITECTURES = {
    "facebook/dinov2-small": "Dinov2Model",
    "facebook/dinov2-base": "Dinov2Model",
    "nvidia/segformer-b0-finetuned-ade-512-512": "SegformerForSemanticSegmentation",
    "nvidia/segformer-b2-finetuned-ade-512-512": "SegformerForSemanticSegmentation",
    "nvidia/segformer-b0-finetuned-cityscapes-1024-1024": "SegformerForSemanticSegmentation",
    "openmmlab/upernet-convnext-tiny": "UperNetForSemanticSegmentation",
    "facebook/mask2former-swin-tiny-ade-semantic": "Mask2FormerForUniversalSegmentation",
    "Intel/dpt-large-ade": "DPTForSemanticSegmentation",
    "microsoft/beit-base-finetuned-ade-640-640": "BeitForSemanticSegmentation",
}
# Licenses as timm writes them -> as the banks do.
LICENSES = {"apache-2.0": "Apache-2.0", "mit": "MIT", "dinov3-license": "DINOv3 License"}


def entries_of(bank: str) -> list[dict[str, Any]]:
    """The entries of a shipped bank as its file has them."""
    return list(yaml.safe_load(shipped_files("bank")[bank].read_text(encoding="utf-8"))["sources"])


def values(marker: str) -> dict[str, dict[str, Any]]:
    """Every value of a marker field in the banks -> its entry."""
    return {entry[marker]: entry for bank in BANKS for entry in entries_of(bank) if marker in entry}


def test_these_banks_are_shipped() -> None:
    assert sorted(shipped_files("bank")) == sorted(BANKS)


@pytest.mark.parametrize("bank", BANKS)
def test_every_entry_parses_and_says_its_license(bank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no checkout
    entries, skipped = read_sources(bank)
    assert skipped == []
    assert [entry.name for entry in entries] == [entry["name"] for entry in entries_of(bank)]
    assert all(entry.license for entry in entries)
    assert all(entry.kind != SourceEntry.kind for entry in entries)


def test_a_repository_stays_a_name() -> None:
    """It does not become a path beside the bank."""
    entries = {entry.name: entry for entry in read_sources("popular")[0]}
    assert str(entries["dinov2_small"].model_dump(mode="json")["transformers"]) == "facebook/dinov2-small"


def test_a_folder_of_models_wins_over_a_bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    with pytest.raises(ConfigError, match="small: holds no source"):
        read_sources("small")


def test_an_unknown_name_lists_the_banks() -> None:
    with pytest.raises(
        ConfigError, match=r"smal: no such .* shipped bank \(mmseg_zoo, popular, remote_sensing, small\)"
    ):
        read_sources("smal")


def test_every_name_of_the_zoo_is_in_the_installed_package() -> None:
    try:
        files = importlib.metadata.files("mmsegmentation") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("mmsegmentation is not installed")
    metafiles = [Path(str(file.locate())) for file in files if file.name == "metafile.yaml"]
    models = [model for file in metafiles for model in yaml.safe_load(file.read_text("utf-8")).get("Models", ())]
    urls = {model["Name"]: model["Weights"] for model in models}
    wanted = values("mmseg")
    assert wanted.keys() <= urls.keys()
    assert all(urls[name].startswith("https://download.openmmlab.com/") for name in wanted)
    families = {Path(model["Config"]).parent.name for model in models if model["Name"] in set(map_names("mmseg_zoo"))}
    assert len(families) >= 6


def map_names(bank: str) -> list[str]:
    return [entry["mmseg"] for entry in entries_of(bank)]


def test_every_network_of_timm_exists_with_this_repository_and_license() -> None:
    import_torchvision()
    with quiet():
        timm = pytest.importorskip("timm")
    for name, entry in values("timm").items():
        organization, _, model = name.removeprefix("hf-hub:").partition("/")
        config = timm.models.get_pretrained_cfg(model)
        assert (organization, config is not None) == ("timm", True), name
        assert config.hf_hub_id in (f"timm/{model}", "timm/"), name
        assert LICENSES[config.license] == entry["license"], name


def test_every_network_of_torchvision_exists() -> None:
    import_torchvision()
    with quiet():
        torchvision = pytest.importorskip("torchvision")
    for name, entry in values("torchvision").items():
        assert name in torchvision.models.list_models(torchvision.models.segmentation)
        assert torchvision.models.get_model_weights(name)[entry["weights"]].url.startswith(
            "https://download.pytorch.org/"
        )


def test_every_architecture_of_transformers_exists() -> None:
    import_torchvision()
    with quiet():
        library = pytest.importorskip("transformers")
    assert values("transformers").keys() == ARCHITECTURES.keys()
    assert all(hasattr(library, architecture) for architecture in ARCHITECTURES.values())
