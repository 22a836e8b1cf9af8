"""The evaluation of the published pairs comes out as published."""

import pytest
from all_columns import on_all_columns

from seg_transfer.evaluation import evaluate
from seg_transfer.store.published import load_published

evaluate = on_all_columns(evaluate)


@pytest.fixture(scope="module")
def published():
    return evaluate(load_published())


def row(frame, scenario, metric):
    return frame[(frame["scenario"] == scenario) & (frame["metric"] == metric)].iloc[0]


@pytest.mark.parametrize(
    ("scenario", "metric", "top1", "tau_w", "half_unit"),
    [
        ("fixed_target", "gbc", 0.647, 0.593, 0.0005),
        ("fixed_target", "leep", 0.471, 0.517, 0.0005),
        ("fixed_target", "nleep", 0.588, 0.565, 0.0005),
        ("fixed_source", "gbc", 0.765, 0.69, 0.005),
        ("fixed_source", "leep", 0.235, 0.62, 0.005),
        ("fixed_source", "nleep", 0.882, 0.656, 0.0005),
        ("fixed_target", "rank_mean", 11 / 17, 0.631, 0.0005),
        # Two targets tie for first on one source, and one of the two is the best: half a hit, where others count none.
        ("fixed_source", "rank_mean", 13.5 / 17, 0.702, 0.0005),
    ],
)
def test_published_pairs(published, scenario, metric, top1, tau_w, half_unit):
    found = row(published, scenario, metric)
    assert found["n_groups"] == 17
    assert found["top1"] == pytest.approx(top1, abs=0.0005)
    assert found["tau_w"] == pytest.approx(tau_w, abs=half_unit)


def test_published_intervals_and_controls(published):
    gbc, logme = (row(published, "fixed_target", name) for name in ("gbc", "logme"))
    assert (gbc["tau_w_low"], gbc["tau_w_high"]) == pytest.approx((0.46, 0.71), abs=0.015)
    assert (logme["tau_w_low"], logme["tau_w_high"]) == pytest.approx((0.53, 0.74), abs=0.015)
    assert row(published, "fixed_source", "minus_n_classes")["tau_w"] == pytest.approx(0.555, abs=0.02)
    assert row(published, "fixed_source", "mean_rank_elsewhere")["top1"] == 1  # one target is best for all sources
    assert "minus_n_classes" in row(published, "fixed_source", "hscore")["beaten_by"]


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        ("accuracy_fine_tuned", {"gbc": 0.427, "leep": -0.068, "nleep": 0.612, "logme": 0.409, "hscore": -0.017}),
        ("accuracy_frozen", {"gbc": 0.570, "leep": -0.007, "nleep": 0.806, "logme": 0.498, "hscore": 0.017}),
    ],
)
def test_published_architectures(accuracy, expected):
    pairs = load_published("architecture").rename(columns={"source_architecture": "source", accuracy: "miou"})
    pairs = pairs[["source", "target", "miou", *expected]]
    frame = evaluate(pairs, n_bootstrap=10, scenarios=["fixed_target"]).set_index("metric")
    assert set(frame["scenario"]) == {"fixed_target"}
    assert frame["tau_w"][list(expected)].to_dict() == pytest.approx(expected, abs=0.0006)
