"""Pixel samples of one target, their comparison, and changes to the target's label maps."""

from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from seg_transfer.observations import PixelSample
from seg_transfer.stages.sampling import pixel_sample
from seg_transfer.study.definition import Sampling
from seg_transfer.study.run import Run

TARGET = "day_street"
FIELDS = ("image_sizes", "image_index", "rows", "columns", "labels")


def sample_of(run: Run) -> PixelSample:
    return pixel_sample(run, TARGET, run.low_shot(TARGET))


def with_sampling(run: Run, **changes: Any) -> Run:
    sampling = Sampling(**{**run.study.sampling.model_dump(), **changes})
    return replace(run, study=run.study.model_copy(update={"sampling": sampling}))


def assert_equal(found: PixelSample, expected: PixelSample) -> None:
    assert found.image_ids == expected.image_ids
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))
        assert getattr(found, field).dtype == getattr(expected, field).dtype


def differ(one: PixelSample, other: PixelSample) -> bool:
    return any(not np.array_equal(getattr(one, field), getattr(other, field)) for field in FIELDS)


def label_map(run: Run, number: int) -> np.ndarray:
    return np.array(Image.open(run.low_shot(TARGET)[number].label))


def put_label(run: Run, number: int, labels: np.ndarray) -> None:
    Image.fromarray(labels).save(run.low_shot(TARGET)[number].label)
