"""The project page, followed: popular models are ranked for a folder of photos, and one is fine-tuned and predicts.

A server on 127.0.0.1 has tiny networks with random weights under the names of the repositories.
"""

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hub_repositories import TIMM, TRANSFORMERS, serve
from loopback import Loopback, serving
from page_text import ROOT, code_blocks
from PIL import Image
from zoo_server import only_loopback

from seg_transfer.models.entry import SourceEntry
from seg_transfer.study.bank import read_sources

PAGE = (ROOT / "README.md").read_text()
TUNING = (ROOT / "configs/README.md").read_text().partition("## Fine-tune one model\n")[2].partition("\n## ")[0]
QUICK = {"steps": 2, "batch_size": 2}


def command(begin: str, page: str = PAGE) -> list[str]:
    """The words of the only command on a page that begins so, without the name of the program."""
    lines = [line for block in code_blocks(page, "sh") for line in block.splitlines()]
    (found,) = (line for line in lines if line.startswith(f"seg-transfer {begin}"))
    return shlex.split(found, comments=True)[1:]


def repository(entry: SourceEntry) -> str:
    return str(getattr(entry, entry.marker)).removeprefix("hf-hub:")


@pytest.fixture
def here(small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: photos with their masks, and no model."""
    for name, folder in (("photos", "images"), ("masks", "labels")):
        shutil.copytree(small_world / "day_street/train" / folder, tmp_path / name)
        (tmp_path / name / "val").mkdir()
        for file in sorted((tmp_path / name).glob("*.png"))[:1]:
            file.rename(tmp_path / name / "val" / file.name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEG_TRANSFER_DATA", raising=False)
    return tmp_path


@pytest.fixture
def entries() -> dict[str, SourceEntry]:
    return {entry.name: entry for entry in read_sources("popular")[0]}


@pytest.fixture
def server(here: Path, entries: dict[str, SourceEntry], monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    revisions = {repository(entry): entry.revision for entry in entries.values() if entry.revision}
    with serving() as loopback:
        only_loopback(loopback, here.parent / f"{here.name}_cache", monkeypatch)
        serve(loopback, here.parent / f"{here.name}_hub", revisions)
        yield loopback


def ranking(ended: Any) -> dict[str, dict[str, Any]]:
    assert ended.code == 0, ended.err
    answer = json.loads(ended.out)
    assert answer["skipped"] == {}
    return {row["source"]: row for row in answer["ranking"]}


def test_one_command_ranks_the_popular_models(server, entries, invoke):
    assert {repository(entry) for entry in entries.values()} == {*TRANSFORMERS, *TIMM}
    words = command("rank popular ")
    first = invoke(*words, "--json")
    assert sum(line.startswith("downloading ") for line in first.err.splitlines()) == len(entries)
    rows = ranking(first)
    assert rows.keys() == entries.keys()
    assert len({row["score"] for row in rows.values()}) > 1
    assert all(rows[name]["license"] == entry.license for name, entry in entries.items())
    server.requests.clear()
    again = invoke(*words)
    assert again.code == 0
    best, *others = json.loads(first.out)["best_of_families"]
    assert 1 < len(others) == len({row["family"] for row in rows.values()}) - 1
    assert f"Fine-tune {best}, or the best of another family ({', '.join(others)}): each is the first" in again.out
    assert server.requests == []


def test_a_backbone_has_no_rank_by_a_metric_of_probabilities(server, invoke):
    models = ["transformers:facebook/dinov2-small", "transformers:nvidia/segformer-b0-finetuned-ade-512-512"]
    ended = invoke("rank", *models, "--images", "photos", "--labels", "masks", "--metric", "leep", "--json")
    assert ended.code == 0, ended.err
    answer = json.loads(ended.out)
    assert [row["source"] for row in answer["ranking"]] == ["segformer-b0-finetuned-ade-512-512"]
    assert answer["skipped"] == {"dinov2-small": "cannot be scored by leep; choose another metric"}
    alone = invoke("rank", models[0], "--images", "photos", "--labels", "masks", "--metric", "leep")
    assert alone.code == 8
    assert alone.err.splitlines()[-1].endswith(
        "no source could be scored on photos (cannot be scored by leep; choose another metric); fix the cause and rank "
        "again"
    )


def test_networks_of_unlike_families_race(server, here, invoke):
    models = ["transformers:facebook/dinov2-small", "transformers:nvidia/segformer-b0-finetuned-ade-512-512"]
    words = ["choose", *models, "--images", "photos", "--labels", "masks", "--steps", "8", "--runs", "5", "--json"]
    ended = invoke(*words, "--threads", "1")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    raced = [row["source"] for row in found["race"] if row["place"]]
    assert sorted(raced) == ["dinov2-small", "segformer-b0-finetuned-ade-512-512"]
    assert len({row["family"] for row in found["race"]}) == 2
    assert (Path(found["folder"]) / "load.py").is_file()


def test_a_model_of_the_hub_is_fine_tuned_and_taken_home(server, here, invoke):
    inspect = ["inspect", "--images", "photos/", "--labels", "masks/", "--write", "photos.yaml"]
    assert f"`seg-transfer {shlex.join(inspect)}`" in TUNING
    assert invoke(*inspect).code == 0
    manifest = (here / "photos.yaml").read_text()
    excluded, evaluated = "exclude: [photos/val/*, masks/val/*]", "eval: {images: photos/val/*, labels: masks/val/*}"
    assert f"replace `exclude: []` in it by `{excluded}`" in TUNING
    assert f"`{evaluated}`" in TUNING
    assert manifest.count("exclude: []") == 1
    (here / "photos.yaml").write_text(f"{manifest.replace('exclude: []', excluded)}\n{evaluated}\n")
    study = yaml.safe_load(next(iter(code_blocks(TUNING, "yaml"))))
    study["fine_tuning"]["changes"] |= QUICK
    (here / "tune.yaml").write_text(yaml.safe_dump(study))
    ended = invoke(*command("finetune-pairs tune.yaml", TUNING), "--engine", "here", "--threads", "1")
    assert (ended.code, [line for line in ended.err.splitlines() if not line.startswith("downloading ")]) == (0, [])
    assert invoke(*command("predict ", TUNING)).code == 0
    (photo,) = (here / "photos/val").glob("*.png")
    predicted = np.asarray(Image.open(here / "predicted" / photo.name))
    assert predicted.shape == np.asarray(Image.open(photo)).shape[:2]
    assert set(np.unique(predicted)) <= set(range(8))
    assert (here / "predicted" / f"{photo.stem}_overlay.png").is_file()
    home = Path(command("predict ", TUNING)[1])
    assert {file.name for file in home.iterdir()} == {"load.py", "source.json", "weights.safetensors"}
