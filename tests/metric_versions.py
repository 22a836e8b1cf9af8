"""The values of every metric on committed inputs, with the version that the metric declares.

The content key of a score contains the metric's version: if code gave other values under the same version, old scores
would pass as new ones. To change values on purpose, raise the version in the metric's file and record the new values::

    python tests/metric_versions.py
"""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from seg_transfer import metrics
from seg_transfer.metrics import METRICS, Score
from seg_transfer.metrics._base import Metric, Statistics
from seg_transfer.observations import Observations, image_groups

FOLDER = Path(__file__).parent / "golden"
RECORDED = FOLDER / "metric_versions.json"
# The inputs have condition numbers below 10,000 for every metric, which a test measures: other orders of summation
# move a value by less than 1e-11, and a change that is worth a new version by far more than this.
TOLERANCE = 1e-8
_FIELDS = ("features", "labels", "source_probs", "image_index", "image_embeddings")
# Settings that let few observations reach what otherwise takes thousands: subsets and PCA.
_SMALL = {"max_observations": 100, "max_images": 5, "pixels_per_class": 5, "n_components": 3}
_SCORES_OF_PAIRS = ([0.3, -1.0, 0.3, 2.0, 1.5], [10.0, 20.0, 5.0, 15.0, 25.0])

Values = dict[str, list[float]]


def observations() -> dict[str, Observations]:
    """Two targets, 240 and 150 pixels, whose features are halves: exact in every precision."""
    with np.load(FOLDER / "metric_versions.npz") as arrays:

        def read(name: str, own: Observations | None) -> Observations:
            given = {field: arrays[f"{name}_{field}"] for field in _FIELDS}
            class_pixels = 500 * (1 + np.arange(len(np.unique(given["labels"]))))
            return Observations(**given, source_images=own, class_pixels=class_pixels)

        return {name: read(name, read(f"{name}_own", None)) for name in ("a", "b")}


def values_of(metric: Metric, inputs: Mapping[str, Observations]) -> Values:
    """Compute scores, with standard errors if any, with the metric's settings and with small ones."""
    if "scores" in metric.needs:
        return {"pairs": getattr(metrics, metric.name)(*_SCORES_OF_PAIRS).tolist()}
    small = {name: value for name, value in _SMALL.items() if name in metric.settings}
    found = {name: _numbers(metric, given) for name, given in inputs.items()}
    if small:
        changed = replace(metric, settings={**metric.settings, **small})
        found |= {f"{name}, small": _numbers(changed, given) for name, given in inputs.items()}
    return found


def _numbers(metric: Metric, given: Observations) -> list[float]:
    score: Score = metrics._score(metric, Statistics(given, image_groups(given.image_index)), all_standard_errors=False)
    return [score.score, *([] if score.standard_error is None else [score.standard_error])]


def fault(metric: Metric, values: Values, recorded: Mapping[str, Any]) -> str:
    """Say what is wrong with the version of a metric that now has these values; "" if nothing is."""
    known = recorded.get(metric.name)
    if known is None or known["version"] != metric.version:
        was = f"version {known['version']}" if known else "nothing"
        return (
            f"{was} of metric {metric.name} is recorded, it declares version {metric.version}: record its values again"
        )
    same = values.keys() == known["values"].keys() and all(
        np.allclose(values[name], known["values"][name], rtol=TOLERANCE, atol=0) for name in values
    )
    return "" if same else f"the values of metric {metric.name} changed: raise its version and record them again"


def record(chosen: Iterable[Metric], file: Path) -> list[str]:
    """Record the values of metrics with a new version, drop metrics that no longer exist, and return the refusals."""
    recorded = json.loads(file.read_text()) if file.exists() else {}
    inputs, kept, refused = observations(), {}, []
    for metric in chosen:
        known, values = recorded.get(metric.name), values_of(metric, inputs)
        if known and known["version"] == metric.version:
            refused += filter(None, [fault(metric, values, recorded)])
            kept[metric.name] = known
        else:
            kept[metric.name] = {"version": metric.version, "values": values}
    file.write_text(json.dumps(kept, indent=1) + "\n")
    return refused


if __name__ == "__main__":
    sys.exit("\n".join(record(METRICS.values(), RECORDED)) or None)
