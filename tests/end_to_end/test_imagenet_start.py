"""Backbones that start from a checkpoint that the user gives."""

import torch
from safetensors.torch import load_file

from seg_transfer.store.content_key import sha256_of_file
from seg_transfer.store.source_card import read_source_card

# Two steps so small that the weights stay what they started from, to six digits.
STILL = {"steps": 2, "learning_rate": 1e-12, "warmup_steps": 0}


def start_from(workspace, checkpoint):
    fields = {stage: workspace.study_fields()[stage] for stage in ("source_training", "fine_tuning")}
    changes = {stage: {**part, "changes": {**part["changes"], **STILL}} for stage, part in fields.items()}
    changes["source_training"]["init_checkpoint"] = str(checkpoint)
    workspace.change(**changes)


def test_sources_start_from_the_given_backbone_and_say_so(trained, copy_of, tmp_path):
    workspace = copy_of(trained)
    state = load_file(trained.run / "sources/day_street/weights.safetensors")
    # As ImageNet checkpoints are: the backbone without its prefix, and a classifier of its own.
    backbone = {name.removeprefix("backbone."): t for name, t in state.items() if name.startswith("backbone.")}
    checkpoint = tmp_path / "imagenet.pth"
    torch.save({"state_dict": {**backbone, "fc.weight": torch.zeros(10, 4)}}, checkpoint)
    start_from(workspace, checkpoint)

    workspace.done("train-sources", "--source", "cells_dark")
    folder = workspace.run / "sources/cells_dark"
    assert read_source_card(folder / "source.json").initialisation == sha256_of_file(checkpoint)
    weights = load_file(folder / "weights.safetensors")
    torch.testing.assert_close(weights["backbone.conv1.weight"], state["backbone.conv1.weight"], rtol=1e-5, atol=1e-7)
    assert not torch.equal(weights["decode_head.conv_seg.weight"], state["decode_head.conv_seg.weight"][:6])


def test_a_missing_start_is_named_before_any_training(trained, copy_of, tmp_path):
    workspace = copy_of(trained)
    start_from(workspace, tmp_path / "nowhere.pth")
    line = workspace.call("train-sources", "--source", "day_street").reason(5)
    assert "nowhere.pth: no such file; correct source_training.init_checkpoint" in line
