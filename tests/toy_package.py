"""A package as pip installs it: a module, and metadata with entry points, in a folder on the search path."""

from collections.abc import Mapping
from pathlib import Path

CONTRAST = """
import numpy as np
from seg_transfer.metrics import Metric

def contrast(observations, *, scale=2.0):
    means = [observations.features[observations.labels == label].mean() for label in observations.classes]
    return scale * float(np.ptp(means))

METRIC = Metric.from_function(contrast, needs={"features"}, version=VERSION, range="[0, inf)")
"""


def install(folder: Path, name: str, code: str, metrics: Mapping[str, str]) -> None:
    """Write a distribution with one module of this name; ``metrics`` maps an entry point to a module attribute."""
    (folder / f"{name}.py").write_text(code)
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{entry} = {name}:{attribute}" for entry, attribute in metrics.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[seg_transfer.metrics]", *lines, ""]))
