"""One network or metric that fails in a way of its own loses its pair or its own scores only; all others are scored."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from other_nets import MEAN, NETS, STD, write_net

from seg_transfer import metrics
from seg_transfer.cli import main
from seg_transfer.errors import IncompleteError

# What the network does on images of the target, but not on those that it is looked at with when it is loaded.
FAULTS = {
    "cuda memory": ("raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 9 TiB')", 10, "out of memory"),
    "memory": ("raise MemoryError('Unable to allocate 9 TiB')", 10, "out of memory (Unable to allocate 9 TiB)"),
    "exit": ("raise SystemExit(0)", 10, "SystemExit: 0"),
    "error": ("raise ZeroDivisionError('boom')", 3, "network Faulty: fails on an image of 64 x 96 pixels (boom)"),
    "nan": ("return images[:, :2] * float('nan')", 3, "layer 'head': was not used in a forward pass"),
    "nan features": ("images = images * float('nan')", 6, "features[0, 0] is nan"),
}
FAULTY = """

class Faulty(Tokens):
    def forward(self, images):
        if tuple(images.shape[2:]) == (64, 96):
            {fault}
        return super().forward(images)
"""


def entry(name: str, network: str) -> dict[str, Any]:
    fields = {"factory": f"nets:{network}", "classifier": "head", "weights": f"{network}.safetensors"}
    return {"name": name, "dataset": "elsewhere", **fields, "mean": list(MEAN), "std": list(STD)}


def write_bank(folder: Path, fault: str) -> Path:
    """A bank of three networks, of which the middle one fails."""
    for network in ("Tokens", "Dictionary"):
        write_net(folder, network)
    (folder / "Faulty.safetensors").write_bytes((folder / "Tokens.safetensors").read_bytes())
    (folder / "nets.py").write_text(NETS + FAULTY.format(fault=fault))
    entries = [entry("first", "Tokens"), entry("middle", "Faulty"), entry("last", "Dictionary")]
    bank = folder / "bank.yaml"
    bank.write_text(yaml.safe_dump({"sources": entries}))
    return bank


@pytest.mark.parametrize("fault", FAULTS)
def test_of_three_sources_two_are_ranked_and_the_third_is_named_with_its_reason(small_world, tmp_path, invoke, fault):
    source_text, code, reason = FAULTS[fault]
    bank = write_bank(tmp_path / "models", source_text)
    target = small_world / "manifests/cells_dark.yaml"
    place = ["--target", target, "--data-root", small_world, "--run-folder", tmp_path / "run", "--trust-config"]
    ended = invoke("rank", bank, *place, "--metric", "gbc", "--json", "--threads", "1")
    assert ended.code == code, ended.err
    reported = json.loads(ended.out)
    assert {row["source"] for row in reported["ranking"]} == {"first", "last"}
    assert reason in reported["skipped"]["middle"]
    assert "Traceback" not in ended.err
    line, summary = ended.err.splitlines()
    assert line.startswith("seg-transfer: middle -> cells_dark: ")
    assert summary.startswith("seg-transfer: failed: middle -> cells_dark; all others are finished")


def test_debug_shows_where_an_item_failed(small_world, tmp_path, capsys):
    bank = write_bank(tmp_path / "models", FAULTS["memory"][0])
    target = small_world / "manifests/cells_dark.yaml"
    place = ["--target", target, "--data-root", small_world, "--run-folder", tmp_path / "run", "--trust-config"]
    with pytest.raises(IncompleteError):  # with its traceback
        main(["rank", *map(str, [bank, *place]), "--metric", "gbc", "--threads", "1", "--debug"])
    name, begin = capsys.readouterr().err.splitlines()[:2]
    assert name == "middle -> cells_dark"
    assert begin == "Traceback (most recent call last):"


@pytest.mark.parametrize("engine", ["here", "local"])
def test_other_pairs_of_the_stage_are_scored_too(small_world, tmp_path, invoke, engine):
    bank = write_bank(tmp_path / "models", FAULTS["memory"][0])
    study = {
        "name": "three",
        "manifests": [str(small_world / "manifests")],
        "sources": yaml.safe_load(bank.read_text())["sources"],
        "targets": ["cells_dark", "day_street"],
        "metrics": ["gbc", "leep"],
        "sampling": {"pixels_per_image": 100},
    }
    file = tmp_path / "models/study.yaml"
    file.write_text(yaml.safe_dump(study))
    words = ["score-pairs", file, "--data-root", small_world, "--run-folder", tmp_path / "run", "--engine", engine]
    ended = subprocess.run(
        [sys.executable, "-m", "seg_transfer", *map(str, words), "--trust-config", "--threads", "1"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 10, ended.stderr
    scored = {path.relative_to(tmp_path / "run/scores").as_posix() for path in tmp_path.glob("run/scores/*/*")}
    assert scored == {
        f"{source}/{target}.parquet" for source in ("first", "last") for target in ("cells_dark", "day_street")
    }


@pytest.mark.parametrize("value", ["raises", "nan"])
def test_a_failing_metric_loses_only_its_own_scores(workspace, monkeypatch, value):
    def broken(_statistics: Any, **_settings: Any) -> list[float]:
        if value == "raises":
            raise ValueError("boom")
        return [float("nan")]

    changed = {**metrics.METRICS, "leep": replace(metrics.METRICS["leep"], scores=broken)}
    monkeypatch.setattr(metrics, "METRICS", changed)
    workspace.change(metrics=["gbc", "leep", "nce"])
    line = workspace.call("score-pairs").reason(10)
    reason = "ValueError: boom" if value == "raises" else "metric leep gives nan, not a finite number"
    assert line.startswith(f"day_street -> dusk_street, leep: {reason}")
    assert {row["metric"] for row in workspace.rows("scores")} == {"gbc", "nce"}
