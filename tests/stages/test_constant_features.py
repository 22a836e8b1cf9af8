"""Which metrics fail on constant features, and when a source is warned of."""

import logging

import numpy as np
import pytest

from seg_transfer.metrics import METRICS, Metric
from seg_transfer.observations import Observations
from seg_transfer.stages.base import Item
from seg_transfer.stages.constant_features import constant_input_failures, warn_of_constant_features

ITEM = Item("web", "street")
LABELS = np.arange(40) % 3


def observed(n_constant: int, n_features: int = 8) -> Observations:
    features = np.random.default_rng(1).normal(size=(40, n_features))
    features[:, :n_constant] = 0
    return Observations(features, LABELS, np.full((40, 4), 0.25))


def metrics(*names: str) -> list[Metric]:
    return [METRICS[name] for name in names]


def test_metrics_of_a_constant_input_fail_with_one_line():
    failures = constant_input_failures(ITEM, observed(8), metrics("gbc", "leep", "ids", "nce"))
    assert list(failures) == ["gbc", "leep", "ids", "nce"]
    assert {error.exit_code for error in failures.values()} == {10}
    assert str(failures["ids"]) == str(failures["gbc"])
    assert str(failures["gbc"]) == (
        "features of web on street are constant: all 40 sampled pixels have the same, and a score of them would mean "
        "nothing; look at the images with 'seg-transfer inspect', or check the source's weights"
    )
    assert str(failures["nce"]).startswith("class probabilities of web on street are constant: all 40 sampled")


def test_metrics_of_what_varies_do_not_fail():
    assert list(constant_input_failures(ITEM, observed(7), metrics("gbc", "leep", "logme"))) == ["leep"]


@pytest.mark.parametrize(
    ("n_constant", "warns"), [(0, False), (1, False), (4, False), (5, True), (7, True), (8, False)]
)
def test_a_majority_of_constant_features_is_said_once_per_source(caplog, n_constant, warns):
    warned: set[str] = set()
    with caplog.at_level(logging.INFO, "seg_transfer"):
        for target in ("street", "cells"):
            warn_of_constant_features(Item("web", target), observed(n_constant), warned)
    assert [record.getMessage() for record in caplog.records] == warns * [
        f"source web: {n_constant} of its 8 features are constant on street, and only the others are compared; check "
        "its weights and the normalization of its images"
    ]
    assert warned == ({"web"} if warns else set())


def test_a_source_of_probabilities_alone_is_not_warned_of(caplog):
    warn_of_constant_features(ITEM, Observations(None, LABELS, np.full((40, 4), 0.25)), set())
    assert not caplog.records
