"""The numbers in tests/golden/metrics.json, which says where they come from, and their inputs."""

import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "golden"
GOLDEN = json.loads((FOLDER / "metrics.json").read_text())


def inputs(case: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{case}.npz") as arrays:
        return dict(arrays)
