"""Runs the installed command from an empty folder, as after `pip install`; test_install.sh calls it.

The argument `mmseg` means that mmsegmentation or a fork of it is installed: its networks are ranked and trained. The
argument `plain` means that it is not: commands that need it must say so in one line, and all others must work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

import seg_transfer
from seg_transfer.resources import shipped

ADVICE = "pip install 'seg_transfer[mmseg]'"
NETWORK = """
from torch import nn


class Tiny(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.Conv2d(8, 3, 1))
"""
FACTORY = {"dataset": "web", "factory": "nets:Tiny", "classifier": "2", "mean": [0.5] * 3, "std": [0.2] * 3}


def call(*words: str, code: int = 0) -> str:
    """Run a command, which must exit with this code, and return its output."""
    command = [str(Path(sys.executable).with_name("seg-transfer")), *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == code, f"{words} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}"
    print("ok: seg-transfer", *words)
    return ended.stdout if code == 0 else ended.stderr


def write_images(folder: Path) -> None:
    """Write four images of three classes, and their label maps."""
    random = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for number in range(4):
        labels = np.zeros((48, 64), np.uint8)
        labels[:, 20 + 8 * number :] = 1
        labels[30:] = 2
        image = 80 * labels[..., None] + random.integers(0, 40, (48, 64, 3))
        Image.fromarray(labels).save(folder / "labels" / f"{number}.png")
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{number}.png")


def write_factory_bank(folder: Path) -> None:
    """Write a bank of two networks that are built by a user's module."""
    (folder / "nets.py").write_text(NETWORK)
    sources = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4, stride=4), torch.nn.ReLU(), torch.nn.Conv2d(8, 3, 1))
        torch.save(network.state_dict(), folder / f"tiny{seed}.pth")
        sources.append({"name": f"tiny{seed}", "weights": f"tiny{seed}.pth", **FACTORY})
    (folder / "bank.yaml").write_text(yaml.safe_dump({"sources": sources}))


def write_study(folder: Path) -> None:
    """Write a study that trains mmsegmentation's networks for two steps, and names shipped files."""
    from seg_transfer.demo.world import build_world

    build_world(folder / "world", n_train=3, n_source_train=2, n_eval=1)
    changes = {"steps": 2, "batch_size": 2, "mixed_precision": False}
    study = {
        "name": "tiny",
        "manifests": ["world/manifests"],
        "sources": ["day_street"],
        "targets": ["dusk_street"],
        "model": "hrnetv2_tiny",
        "source_training": {"schedule": "source_training", "changes": changes},
        "fine_tuning": {"schedule": "fine_tuning", "changes": changes, "scratch": False},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))


def check_everywhere(data: list[str]) -> None:
    """Check commands that do not need mmsegmentation."""
    assert call("--version").strip() == version("seg_transfer") == seg_transfer.__version__
    assert "gbc" in call("metrics")
    assert len(json.loads(call("plan", "paper_272", "--json"))["absent_datasets"]) == 17
    assert "leep" in call("evaluate", "--published")
    assert "did you mean small/nyuv2?" in call("audit", "nyuv2", code=3)
    assert "class_2" in call("inspect", *data, "--write", "found.yaml")
    assert "problems: 0" in call("audit", "found.yaml")
    ranking = json.loads(call("rank", "bank.yaml", *data, "--json"))
    assert {row["source"] for row in ranking["ranking"]} == {"tiny0", "tiny1"}


def check_mmseg(data: list[str]) -> None:
    """Check that a network of mmsegmentation is trained, fine-tuned, scored and ranked."""
    study = ["study.yaml", "--data-root", "world"]
    for stage in ("train-sources", "score-pairs", "finetune-pairs"):
        call(stage, *study)
    call("plan", *study, "--check")
    ranking = json.loads(call("rank", "runs/tiny/sources", "bank.yaml", *data, "--json"))
    assert {row["source"] for row in ranking["ranking"]} == {"day_street", "tiny0", "tiny1"}


def check_plain(data: list[str]) -> None:
    """Check that commands that need mmsegmentation say so."""
    config = shipped("configs/models/hrnetv2_tiny.py")
    Path("tiny0.pth").rename("other.pth")
    Path("tiny0.pth").symlink_to("other.pth")
    for words in (
        ["train-sources", "study.yaml", "--data-root", "world"],
        ["rank", f"{config}:other.pth", "bank.yaml", *data],
    ):
        error = call(*words, code=3)
        assert ADVICE in error, error
        assert "Traceback" not in error, error


def main(kind: str) -> None:
    assert kind in ("plain", "mmseg"), "name plain or mmseg"
    assert "site-packages" in seg_transfer.__file__, f"{seg_transfer.__file__}: not the installed package"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        write_images(folder)
        write_factory_bank(folder)
        write_study(folder)
        data = ["--images", "images", "--labels", "labels"]
        check_everywhere(data)
        check_mmseg(data) if kind == "mmseg" else check_plain(data)


if __name__ == "__main__":
    main(*sys.argv[1:])
