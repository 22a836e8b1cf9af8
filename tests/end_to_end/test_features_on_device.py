"""Features that stay on the network's device, as tensors, give a study the scores that they give it in NumPy."""

import pytest
import torch
from small_study import by_pair

from seg_transfer.metrics import METRICS
from seg_transfer.stages import scoring
from seg_transfer.stages.context import ScoringContext

NAMES = [name for name, metric in METRICS.items() if "scores" not in metric.needs and metric.installed]


def test_all_metrics_of_a_study(trained, copy_of, monkeypatch):
    workspace = copy_of(trained)
    workspace.change(metrics=NAMES)
    workspace.done("score-pairs")
    expected = by_pair(workspace.rows("scores"))
    seen, score_all = [], scoring.score_all
    monkeypatch.setattr(ScoringContext, "features_on_device", True)
    monkeypatch.setattr(scoring, "score_all", lambda given, names: seen.append(given) or score_all(given, names))
    for file in (workspace.run / "scores").glob("*/*.parquet"):
        file.unlink()
    workspace.done("score-pairs")
    assert all(isinstance(given.features, torch.Tensor) for given in seen)
    found = by_pair(workspace.rows("scores"))
    assert found.keys() == expected.keys()
    assert len(found) == 6 * len(NAMES)
    for place, row in found.items():
        assert row["score"] == pytest.approx(expected[place]["score"], rel=1e-9, abs=1e-12), place
