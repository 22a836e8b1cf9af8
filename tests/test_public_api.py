"""What the package itself offers: names that import what they need when they are asked for."""

import importlib

import pytest

import seg_transfer


def test_every_public_name_is_the_function_of_its_room():
    assert seg_transfer.__all__ == ["choose_source", "evaluate", "rank_sources", "score_all"]
    assert set(seg_transfer.__all__) <= set(dir(seg_transfer))
    for name, module in seg_transfer._MODULES.items():
        assert getattr(seg_transfer, name) is getattr(importlib.import_module(module), name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'seg_transfer' has no attribute 'rank_source'"):
        seg_transfer.rank_source  # noqa: B018
