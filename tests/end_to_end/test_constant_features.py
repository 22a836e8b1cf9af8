"""A dead network and images of one color get no score, in one line; everything else goes on."""

import json
from typing import Any

import pytest
from mixed_sources import factory
from other_nets import write_net
from PIL import Image
from safetensors.torch import load_file, save_file

from seg_transfer.data.images import read_size

PLACE = "on dusk_street are constant: all {} sampled pixels have the same, and a score of them would mean nothing; "


@pytest.fixture
def networks(workspace: Any) -> Any:
    """A network whose weights are all zero, one whose features vary but whose classifier is zero, and a usable one."""
    folder = workspace.study.parent
    write_net(folder, "Tokens")
    weights = load_file(folder / "Tokens.safetensors")
    save_file({name: 0 * tensor for name, tensor in weights.items()}, folder / "dead.safetensors")
    headless = {name: tensor * (not name.startswith("head.weight")) for name, tensor in weights.items()}
    save_file(headless, folder / "headless.safetensors")
    workspace.change(
        sources=[
            factory("tokens"),
            {**factory("tokens"), "name": "dead", "weights": "dead.safetensors"},
            {**factory("tokens"), "name": "headless", "weights": "headless.safetensors"},
        ],
        targets=["dusk_street"],
        metrics=["gbc", "logme", "leep"],
    )
    return workspace


def test_a_dead_network_has_no_score_and_the_others_have(networks):
    ended = networks.call("score-pairs")
    assert ended.code == 10
    lines = [line for line in ended.err.splitlines() if "--trust-config" not in line]
    dead, probabilities, headless, summary = lines
    assert f"dead -> dusk_street, gbc: features of dead {PLACE.format(800)}look at the images" in dead
    assert f"dead -> dusk_street, leep: class probabilities of dead {PLACE.format(800)}" in probabilities
    assert f"headless -> dusk_street, leep: class probabilities of headless {PLACE.format(800)}" in headless
    assert summary.startswith("seg-transfer: failed: dead -> dusk_street, gbc, dead -> dusk_street, logme, ")
    scored = sorted((row["source"], row["metric"]) for row in networks.rows("scores"))
    expected = [("headless", "gbc"), ("headless", "logme"), ("tokens", "gbc"), ("tokens", "leep"), ("tokens", "logme")]
    assert scored == expected


def test_rank_gives_the_reason(networks, invoke):
    bank = networks.study.parent / "bank.yaml"
    bank.write_text(json.dumps({"sources": networks.study_fields()["sources"]}))
    target = ["--target", networks.world / "manifests/dusk_street.yaml", "--data-root", networks.world]
    ended = invoke("rank", bank, *target, "--metric", "gbc", "--run-folder", networks.run / "ranked", "--json")
    assert ended.code == 10, ended.err
    report = json.loads(ended.out)
    assert sorted(entry["source"] for entry in report["ranking"]) == ["headless", "tokens"]
    assert report["skipped"]["dead"].startswith(f"features of dead {PLACE.format(4000)}")


def test_images_of_one_color_have_no_score(workspace):
    for file in (workspace.world / "dusk_street/train/images").iterdir():
        Image.new("RGB", read_size(file)[::-1]).save(file)
    line = workspace.call("score-pairs").reason(4)
    assert line.startswith("day_street -> dusk_street: target dusk_street: each of its 4 images holds one color")
    assert {row["target"] for row in workspace.rows("scores")} == {"cells_dark"}
