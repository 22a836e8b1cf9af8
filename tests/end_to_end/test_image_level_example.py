"""The example of image classification runs, and its tables say accuracy and show the controls."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "image_level_example.py"


@pytest.mark.parametrize("layers", ["head", "all"])
def test_the_example_prints_both_evaluations_with_controls(layers):
    words = [sys.executable, str(SCRIPT), "--draws", "4", "--shots", "5", "--steps", "20", "--layers", layers]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    ended = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    out = ended.stdout
    assert "All ten classes, 5 labeled images of each, 849 to evaluate on" in out
    assert "Fixed target: ranking sources, mean over 4 groups" in out
    assert "Fixed source: ranking targets, mean over 10 groups" in out
    assert "accuracy" in out
    assert "mIoU" not in out
    first_words = [line.split()[0] for line in out.splitlines() if line.split()]
    for name in ("gbc", "nleep", "rank_mean", "mean_rank_elsewhere", "random"):
        assert first_words.count(name) >= 3
    assert first_words.count("minus_n_classes") == 2  # in the tables of rankings and of gaps
    assert {"negative", "random_labels", "scratch"} <= set(first_words)
    assert max(map(len, out.splitlines())) <= 80
