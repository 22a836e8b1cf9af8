"""What is said reaches the terminal as one line that commands nothing."""

import pytest

from seg_transfer.messages import complain, say

TEXT = "im\x1b]0;owned\x07age\r\x9b2J\u202egnp\n.ü 漢字\udcff"
SHOWN = r"im\x1b]0;owned\x07age\r\x9b2J\u202egnp\n.ü 漢字\udcff"


@pytest.mark.parametrize(("tell", "begin"), [(say, ""), (complain, "seg-transfer: ")])
def test_control_characters_are_shown_as_escapes(tell, begin, capsys):
    tell(TEXT)
    told = capsys.readouterr()
    assert told.out + told.err == f"{begin}{SHOWN}\n"
