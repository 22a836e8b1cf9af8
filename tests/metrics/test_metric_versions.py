"""Other values need another version, so that scores of earlier code are stale and not believed."""

import json
from dataclasses import replace

import numpy as np
import pytest
from metric_versions import RECORDED, TOLERANCE, fault, observations, record, values_of

from seg_transfer.metrics import METRICS
from seg_transfer.observations import Observations

INPUTS = observations()
NUMBERS = json.loads(RECORDED.read_text())
REASON = "raise the version of the metric, if its values are meant to change, and run: python tests/metric_versions.py"


@pytest.mark.parametrize("name", METRICS)
def test_values_are_those_of_the_version(name):
    found = fault(METRICS[name], values_of(METRICS[name], INPUTS), NUMBERS)
    assert not found, f"{found} ({REASON})"


def test_no_other_metric_is_recorded():
    assert NUMBERS.keys() == METRICS.keys(), REASON


def moved(given: Observations | None, by: float, seed: int) -> Observations | None:
    """Every number of these observations multiplied by 1 + by or 1 - by."""
    if given is None:
        return None
    rng = np.random.default_rng(seed)
    fields = {
        name: getattr(given, name) * (1 + by * rng.choice([-1.0, 1.0], size=getattr(given, name).shape))
        for name in ("features", "source_probs", "image_embeddings")
    }
    return replace(given, **fields, source_images=moved(given.source_images, by, seed + 1))


@pytest.mark.parametrize("name", METRICS)
def test_the_tolerance_follows_from_the_inputs(name):
    """Inputs moved by 1e-12, some 5000 times what rounding moves them, keep the values."""
    inputs = {place: moved(given, TOLERANCE / 10_000, 7) for place, given in INPUTS.items()}
    assert fault(METRICS[name], values_of(METRICS[name], inputs), NUMBERS) == ""


def changed(name: str, by: float):
    """A metric whose code gives values that are larger by this share."""
    metric = METRICS[name]
    return replace(metric, scores=lambda *a, **k: [score and score * (1 + by) for score in metric.scores(*a, **k)])


class TestAChange:
    @pytest.mark.parametrize("name", ["gbc", "leep", "otdd", "pactran"])
    def test_of_the_values_asks_for_a_version(self, name):
        other = changed(name, 1e-6)
        reason = fault(other, values_of(other, INPUTS), NUMBERS)
        assert reason == f"the values of metric {name} changed: raise its version and record them again"

    def test_of_the_version_asks_for_its_values(self):
        raised = replace(changed("gbc", 0.1), version=2)
        reason = fault(raised, values_of(raised, INPUTS), NUMBERS)
        assert reason == "version 1 of metric gbc is recorded, it declares version 2: record its values again"

    def test_that_adds_a_metric_asks_for_its_values(self):
        reason = fault(replace(METRICS["gbc"], name="new"), {}, NUMBERS)
        assert reason == "nothing of metric new is recorded, it declares version 1: record its values again"

    def test_is_recorded_with_its_version_only(self, tmp_path):
        file = tmp_path / "versions.json"
        assert record([METRICS["gbc"], METRICS["leep"]], file) == []
        before = json.loads(file.read_text())
        (refused,) = record([changed("gbc", 0.1), METRICS["leep"]], file)
        assert "raise its version" in refused
        assert json.loads(file.read_text()) == before
        raised = replace(changed("gbc", 0.1), version=2)
        assert record([raised], file) == []
        after = json.loads(file.read_text())
        assert after.keys() == {"gbc"}
        assert fault(raised, values_of(raised, INPUTS), after) == ""
