"""Folders with two readings stop with one line, and each answer gives exactly its reading."""

import re
from pathlib import Path

import pytest
from data.corpus import doubtful_images, doubtful_masks, no_label_maps
from data.corpus.cases import Kind, Truth, answered, inspected, kinds_in
from data.corpus.checks import assert_reads

from seg_transfer.errors import DataError, DoubtfulError

KINDS = kinds_in(doubtful_masks) | kinds_in(doubtful_images) | kinds_in(no_label_maps)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_doubtful_folder_stops_and_each_answer_is_followed(kind: Kind, tmp_path: Path) -> None:
    case = kind(tmp_path)
    found = inspected(case.given)
    assert [doubt.kind for doubt in found.doubts] == [case.doubt]
    (doubt,) = found.doubts
    assert "\n" not in doubt.line
    for expression in case.seen:
        assert re.search(expression, doubt.line), (expression, doubt.line)
    for option in case.readings:
        assert all(part in doubt.line for part in option.split(" ")), (option, doubt.line)
    with pytest.raises(DoubtfulError, match=re.escape(doubt.line)):
        found.require_certain()
    for option, reading in case.readings.items():
        given = answered(case.given, option)
        if isinstance(reading, Truth):
            again = inspected(given)
            assert [each.line for each in again.doubts] == [], option
            assert_reads(again, reading, tmp_path)
        else:
            with pytest.raises(DataError, match=reading) as error:
                inspected(given).require_certain()
            assert not isinstance(error.value, DoubtfulError)
