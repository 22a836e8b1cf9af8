"""The shipped slopes: what is read, and what is said of a damaged file."""

import json
from pathlib import Path

import pytest

from seg_transfer.errors import ResultsError
from seg_transfer.metrics import METRICS
from seg_transfer.resources import shipped
from seg_transfer.store import confidence
from seg_transfer.store.confidence import CONFIDENCE_FILE, published_slope


def test_the_slope_of_a_metric_is_the_one_in_the_file() -> None:
    stored = json.loads(shipped(CONFIDENCE_FILE).read_text())
    assert set(stored) <= set(METRICS)
    judged = {name: row["slope"] for name, row in stored.items() if len(row["studies"]) > 1 and row["slope"] > 0}
    assert {"rank_mean", "gbc", "logme"} <= set(judged)
    assert {name: published_slope(name) for name in stored} == dict.fromkeys(stored) | judged
    assert published_slope("a_metric_of_mine") is None


@pytest.mark.parametrize(
    ("slope", "ece", "said"), [(0.5, 0.1, 0.5), (0.5, None, None), (0.0, 0.1, None), (-0.5, 0.1, None)]
)
def test_a_slope_that_was_never_judged_or_promises_nothing_is_not_said(
    slope: float, ece: float | None, said: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "confidence.json"
    file.write_text(json.dumps({"gbc": {"slope": slope, "n_rival_pairs": 9, "studies": ["a", "b"], "ece": ece}}))
    monkeypatch.setattr(confidence, "shipped", lambda relative: file)
    assert published_slope("gbc") == said


@pytest.mark.parametrize("text", ["{", "[]", '{"gbc": 1}', '{"gbc": {}}', '{"gbc": {"slope": "steep"}}', "\xff"])
def test_a_damaged_file_is_named_in_one_line(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "confidence.json"
    file.write_bytes(text.encode("latin-1"))
    monkeypatch.setattr(confidence, "shipped", lambda name: file)
    with pytest.raises(ResultsError, match=r"confidence\.json: not the table of .*; reinstall seg_transfer") as caught:
        published_slope("gbc")
    assert "\n" not in str(caught.value)
