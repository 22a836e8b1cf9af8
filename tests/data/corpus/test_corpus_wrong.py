"""Folders that cannot be read say so in one line."""

import re
from pathlib import Path

import pytest
from data.corpus import wrong, wrong_layouts
from data.corpus.cases import Kind, inspected, kinds_in

from seg_transfer.errors import DoubtfulError, SegTransferError

KINDS = kinds_in(wrong) | kinds_in(wrong_layouts)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_wrong_folder_is_refused_in_one_line(kind: Kind, tmp_path: Path) -> None:
    case = kind(tmp_path)
    with pytest.raises(SegTransferError) as error:
        inspected(case.given).require_certain()
    line = str(error.value)
    assert not isinstance(error.value, DoubtfulError), line
    assert error.value.exit_code == case.code, line
    assert "\n" not in line
    assert re.fullmatch(case.line, line), line
