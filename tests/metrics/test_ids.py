from dataclasses import replace

import numpy as np
import pytest

from seg_transfer.errors import ObservationsError
from seg_transfer.metrics import ids, score_all


def test_equals_the_definition():
    rng = np.random.default_rng(0)
    target, source = rng.normal(size=(9, 5)), rng.normal(size=(14, 5)) + 0.3
    expected = -np.mean([min(np.linalg.norm(one - other) for other in source) for one in target])
    assert ids(target, source) == pytest.approx(expected, rel=1e-13)


def test_one_image_may_be_the_nearest_of_many():
    target = np.array([[0.0, 0.0], [0.0, 2.0], [0.0, 4.0]])
    assert ids(target, np.array([[0.0, 2.0], [90.0, 90.0]])) == pytest.approx(-4 / 3, rel=1e-14)


def test_more_source_images_can_only_come_nearer():
    rng = np.random.default_rng(1)
    target, source = rng.normal(size=(9, 5)), rng.normal(size=(20, 5))
    scores = [ids(target, source[:n]) for n in range(1, 21)]
    assert (np.diff(scores) >= 0).all()


def test_replicates_leave_out_the_images_of_a_group(world):
    observations = world()
    embeddings, source = observations.image_embeddings, observations.source_images.image_embeddings
    score = score_all(observations, ["ids"])["ids"]
    expected = [ids(embeddings[np.arange(23) % 10 != group], source) for group in range(10)]
    np.testing.assert_allclose(score.replicates, expected, rtol=1e-14)


def test_half_precision_and_large_offsets(world):
    observations = world()
    target, source = observations.image_embeddings, observations.source_images.image_embeddings
    assert ids(target.astype(np.float16), source.astype(np.float16)) == pytest.approx(ids(target, source), rel=1e-14)
    assert ids(target + 1e4, source + 1e4) == pytest.approx(ids(target, source), rel=1e-9)


def test_sides_that_cannot_be_compared_are_refused(world):
    rng = np.random.default_rng(0)
    with pytest.raises(ObservationsError, match="5 channels and source_image_embeddings 4"):
        ids(rng.normal(size=(9, 5)), rng.normal(size=(9, 4)))
    with pytest.raises(ObservationsError, match="source_image_embeddings"):
        ids(rng.normal(size=(9, 5)), np.empty((0, 5)))
    without = replace(world(), source_images=replace(world().source_images, image_embeddings=None))
    with pytest.raises(ObservationsError, match="source_images have no image_embeddings"):
        score_all(without, ["ids"])
