"""Models of mmsegmentation's zoo by name: as if their config and their downloaded weights had been named."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from loopback import Loopback, serving
from tiny_source import images
from zoo_server import TINY_NAME, only_loopback, tiny_zoo

from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.models.adapters._zoo import SERVER, dataset_in, find_model
from seg_transfer.models.adapters.mmseg import MmsegEntry
from seg_transfer.models.configs import read_model_config
from seg_transfer.models.sources import code_of, parse_entry
from seg_transfer.study.bank import read_sources
from seg_transfer.study.networks import loadable_source
from seg_transfer.study.run import Run

REAL = "fcn_hr18s_4xb2-40k_cityscapes-512x1024"
PATH = "/mmsegmentation/v0.5/hrnet/fcn_hr18s_512x1024_40k_cityscapes/"
FILE = "fcn_hr18s_512x1024_40k_cityscapes_20200601_014216-93db27d0.pth"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with serving() as loopback:
        only_loopback(loopback, tmp_path, monkeypatch)
        yield loopback


@pytest.fixture
def zoo(server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the config of a zoo of one tiny network."""
    return tiny_zoo(server, tmp_path, monkeypatch)


def refusal(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        find_model(name, "source a")
    assert str(caught.value).startswith(f"source a: field mmseg: {name!r}: mmsegmentation's zoo")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Names


def test_a_name_has_a_config_of_the_installed_package_and_an_address(monkeypatch):
    monkeypatch.delenv("SEG_TRANSFER_MMSEG_URL", raising=False)
    model = find_model(REAL, "source a")
    assert model.url == f"{SERVER}{PATH}{FILE}"
    assert model.config.name == f"{REAL}.py"
    assert len(read_model_config(model.config)["backbone"]["extra"]) == 4  # HRNet's stages


def test_an_unknown_name_gets_the_nearest_ones():
    assert f"has no such model; did you mean {REAL}" in refusal("fcn_hr18s_4xb2-40k_cityscape-512x1024")
    assert "take one from mmsegmentation's configs" in refusal("zzz")


def test_a_name_of_two_models_is_refused_with_both_addresses():
    text = refusal("ocrnet_hr18s_4xb4-80k_ade20k-512x512")
    assert "lists 2 weights (https://download.openmmlab.com/" in text
    assert "e80b62af.pth, https://" in text
    assert "name one as checkpoint, with config: /" in text


def test_an_address_outside_the_zoo_is_not_followed():
    # A slip in the metafile of mmsegmentation 1.2.2.
    assert f"names weights outside {SERVER}" in refusal("pspnet_r101-d8_4xb2-80k_cityscapes-769x769")


def test_a_model_without_a_config_is_refused():
    assert "has no config for it" in refusal("eemanet_r50-d8_4xb2-80k_cityscapes-512x1024")


def test_a_package_without_configs_is_named(monkeypatch):
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([]))
    with pytest.raises(ConfigError, match=r"^source a: the installed mmsegmentation has no configs; install a release"):
        find_model(REAL, "source a")


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        (REAL, "cityscapes"),
        ("pidnet-s_2xb6-120k_1024x1024-cityscapes", "cityscapes"),
        ("deeplabv3plus_r50-d8_4xb4-20k_voc12aug-512x512", "pascal_voc"),
        ("deeplabv3_r50-d8_4xb4-80k_coco-stuff164k-512x512", "coco"),
        ("deeplabv3_r101-d8_4xb4-40k_pascal-context-59-480x480", "pascal_context"),
        ("fcn_hr18_4xb4-80k_vaihingen-512x512", "isprs"),
        ("vpd_sd_4xb8-25k_nyu-480x480", None),
        ("net_cityscapes_ade20k-512x512", None),
    ],
)
def test_the_dataset_is_in_the_name(name, dataset):
    assert dataset_in(name) == dataset
    [entry], _ = read_sources({"name": "a", "mmseg": name})
    assert entry.dataset == (dataset or "a")


# The model


def test_it_is_the_source_that_its_config_and_weights_are(zoo, server, tmp_path):
    entry = parse_entry({"name": "a", "dataset": "d", "mmseg": TINY_NAME})
    by_hand = {"name": "a", "dataset": "d", "config": zoo / f"{TINY_NAME}.py", "checkpoint": tmp_path / "weights.pth"}
    by_hand = parse_entry(by_hand)
    assert entry.key() == by_hand.key()
    assert entry.network() == by_hand.network()
    assert entry.model_dump() == {"name": "a", "dataset": "d", "mmseg": TINY_NAME}
    seen, wanted = (one.load().feature_maps(images()) for one in (entry, by_hand))
    assert all(torch.equal(one, other) for one, other in zip(seen.features, wanted.features, strict=True))
    assert len(server.requests) == 1


def test_fields_of_the_entry_stay_with_it(zoo):
    fields = {"name": "a", "dataset": "d", "mmseg": TINY_NAME, "features": "stages", "learning_rate": 0.5}
    local = parse_entry(fields).local()
    assert (local.name, local.dataset, local.features, local.learning_rate) == ("a", "d", "stages", 0.5)
    assert parse_entry({**fields, "features": None, "scores_only": True}).local().scores_only


def test_a_study_loads_and_tunes_it_as_the_files(zoo, tmp_path):
    entry = parse_entry({"name": "a", "dataset": "d", "mmseg": TINY_NAME})
    loaded = loadable_source(Run(study=None, manifests={}, data_root=tmp_path, folder=tmp_path), entry)
    assert type(loaded) is MmsegEntry
    assert (loaded.config, loaded.checkpoint.read_bytes()) == (
        zoo / f"{TINY_NAME}.py",
        (tmp_path / "weights.pth").read_bytes(),
    )


def test_its_config_is_code_of_the_installed_package_and_needs_no_announcement(zoo):
    assert code_of([parse_entry({"name": "a", "dataset": "d", "mmseg": TINY_NAME})]) == []


def test_weights_with_another_hash_than_in_their_name_are_refused(server):
    server.files[f"/mirror{PATH}{FILE}"] = b"other weights"
    with pytest.raises(
        CheckpointError, match=f"^{server.url}/mirror{PATH}{FILE}: .* its name says 93db27d0; try again"
    ):
        parse_entry({"name": "a", "dataset": "d", "mmseg": REAL}).key()


@pytest.mark.parametrize("name", ["../escape", "a/b", "*", ""])
def test_a_name_is_no_path_and_no_pattern(name):
    with pytest.raises(ConfigError, match=r"mmseg: .*should match pattern"):
        read_sources({"name": "a", "dataset": "d", "mmseg": name})
