"""score_all refuses what does not vary; a metric's own function still has its limit there."""

from dataclasses import replace

import numpy as np
import pytest

from seg_transfer.errors import ObservationsError
from seg_transfer.metrics import METRICS, Metric, gbc, score_all

NAMES = [name for name, metric in METRICS.items() if "scores" not in metric.needs and metric.installed]


def constant(observations, name):
    values = getattr(observations, name)
    return replace(observations, **{name: np.broadcast_to(values[:1], values.shape)})


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_refuses_its_constant_input(world, name):
    (measured,) = METRICS[name].inputs
    with pytest.raises(ObservationsError, match=f"^{measured} are constant: all 400 rows are equal, and metric {name}"):
        score_all(constant(world(), measured), [name])


@pytest.mark.parametrize("name", NAMES)
def test_no_metric_minds_the_input_that_it_does_not_measure(world, name):
    other = {"features": "source_probs", "source_probs": "features"}[next(iter(METRICS[name].inputs))]
    observations = world()
    assert score_all(constant(observations, other), [name])[name] == score_all(observations, [name])[name]


@pytest.mark.parametrize("name", NAMES)
def test_one_constant_channel_is_allowed(world, name):
    observations = world()
    features = observations.features.copy()
    features[:, 0] = 3
    assert np.isfinite(score_all(replace(observations, features=features), [name])[name].score)


def test_a_metric_of_labels_alone_minds_nothing(world):
    count = Metric.from_function(lambda observations: float(len(observations.labels)), name="n", needs=(), version=1)
    assert count.inputs == frozenset()
    embeddings = Metric.from_function(lambda _: 0.0, name="m", needs={"image_embeddings", "image_index"}, version=1)
    assert embeddings.inputs == {"features"}


def test_the_function_of_a_metric_has_a_limit():
    assert gbc(np.ones((6, 3)), np.array([0, 1, 2, 0, 1, 2])) == -6
