"""The fields of a manifest that say how images are read."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from seg_transfer.data.record import ImageReading


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"range": [5, 5]}, r"images\.range is \[5, 5\], but the value of black must be less"),
        ({"range": [4095, 0]}, "write the lower one first"),
        ({"range": [0, float("nan")]}, "finite"),
        ({"bands": [0, 1, 2]}, "greater than or equal to 1"),
        ({"bands": [1, 2]}, "bands"),
        ({"exif": "maybe"}, "'apply' or 'ignore'"),
        ({"gamma": 2.2}, "gamma"),
    ],
)
def test_fields_are_checked(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ImageReading.model_validate(fields)


def test_a_manifest_without_new_fields_dumps_as_before(manifest: Callable[..., Any]) -> None:
    dump = manifest().model_dump(mode="json")
    assert {"images", "tiles"}.isdisjoint(dump)
    assert manifest(images={"exif": "ignore"}).model_dump(mode="json") == dump
    stated = manifest(images={"range": [0, 4095]}, tiles={"size": 64}).model_dump(mode="json")
    assert stated["images"] == {"range": [0, 4095]}
    assert stated["tiles"] == {"above": 178956970, "size": 64}
