"""Checkpoints that were brought along: wrong, damaged or malicious ones are refused, and run nothing."""

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from seg_transfer.resources import shipped

TINY = str(shipped("configs/models/hrnetv2_tiny.py"))


class _Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def bring(workspace: Any, checkpoint: Path, config: str = TINY) -> None:
    """Study the trained source beside one that the user brings."""
    entry: dict[str, Any] = {"name": "web", "dataset": "web", "config": config, "checkpoint": str(checkpoint)}
    if config == TINY:  # which states no normalization
        entry |= {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
    workspace.change(sources=["day_street", entry], targets=["cells_dark"])


def scored_sources(workspace: Any) -> set[str]:
    return {row["source"] for row in workspace.rows("scores")}


def test_a_checkpoint_of_another_class_count_is_named_with_both_counts(workspace):
    weights = workspace.run / "sources/day_street/weights.safetensors"
    bring(workspace, weights)
    line = workspace.call("score-pairs").reason(5)
    assert line == (
        f"web -> cells_dark: {weights}: classes differ: decode_head.conv_seg.weight has 8 outputs, in the network 19; "
        "correct the number of classes or name the right checkpoint"
    )
    assert scored_sources(workspace) == {"day_street"}


@pytest.mark.parametrize("stage", ["score-pairs", "finetune-pairs"])
@pytest.mark.parametrize("wrap", [False, True])
def test_a_checkpoint_that_would_run_code_runs_none(workspace, tmp_path, monkeypatch, stage, wrap):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker, checkpoint = tmp_path / "ran", tmp_path / "evil.pth"
    content = {**load_file(workspace.run / "sources/day_street/weights.safetensors"), "extra": _Payload(marker)}
    del content["backbone.conv1.weight"]
    if wrap:
        torch.save({"state_dict": content}, checkpoint)
    else:
        checkpoint.write_bytes(pickle.dumps(content["extra"]))
    bring(workspace, checkpoint)
    line = workspace.call(stage, "--source", "web").reason(5)
    assert f"{checkpoint}: {'lacks parameter backbone.conv1.weight' if wrap else 'holds no weights'}" in line
    assert not marker.exists()


def test_the_payload_of_these_tests_runs_without_protection(tmp_path):
    pickle.loads(pickle.dumps(_Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def test_a_damaged_checkpoint_is_named(workspace, tmp_path):
    checkpoint = tmp_path / "torn.pth"
    torch.save(load_file(workspace.run / "sources/day_street/weights.safetensors"), checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    bring(workspace, checkpoint)
    line = workspace.call("score-pairs").reason(5)
    assert line.startswith(f"web -> cells_dark: {checkpoint}: ")
    assert scored_sources(workspace) == {"day_street"}


def test_a_missing_checkpoint_is_named(workspace, tmp_path):
    bring(workspace, tmp_path / "none.pth")
    line = workspace.call("score-pairs").reason(5)
    assert f"{tmp_path / 'none.pth'}: no such checkpoint file; check the path in the study" in line
    assert scored_sources(workspace) == {"day_street"}


def test_a_model_config_from_elsewhere_is_announced_before_it_runs(workspace, tmp_path):
    config = tmp_path / "model.py"
    config.write_text("raise RuntimeError('boom')")
    bring(workspace, workspace.run / "sources/day_street/weights.safetensors", str(config))
    ended = workspace.call("score-pairs", "--source", "web")
    warning, line, _summary = ended.err.splitlines()
    assert ended.code == 3
    assert (
        warning
        == f"seg-transfer: warning: {config} is Python code and will be run; pass --trust-config if you trust it"
    )
    assert f"{config}: not a readable mmengine config" in line
    assert "warning" not in workspace.call("score-pairs", "--source", "web", "--trust-config").err


def test_untrained_sources_are_named_with_the_stage_that_trains_them(workspace):
    shutil.rmtree(workspace.run / "sources")
    for stage in ("score-pairs", "finetune-pairs"):
        line = workspace.call(stage, "--source", "day_street").reason(5)
        assert "sources/day_street/source.json: no such source; run `seg-transfer train-sources` first" in line
