from typing import Any

import pytest
from tiny_source import MEAN, STD, TINY

from seg_transfer.models.configs import read_model_config, with_classes, with_normalization
from seg_transfer.models.loading import load_source_model
from seg_transfer.models.source_model import SourceModel


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    return with_normalization(with_classes(read_model_config(TINY), 5), MEAN, STD)


@pytest.fixture(scope="module")
def source(model: dict[str, Any]) -> SourceModel:
    return load_source_model(model)
