"""What is said reaches the terminal as one line that commands nothing."""

import logging

import pytest

from seg_transfer.console import EVERY_PROCESS, console_logging

TEXT = "im\x1b]0;owned\x07age\r\x9b2J\u202egnp\n.ü 漢字\udcff"
SHOWN = r"im\x1b]0;owned\x07age\r\x9b2J\u202egnp\n.ü 漢字\udcff"


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (logging.INFO, (f"{SHOWN}\n", "")),
        (logging.WARNING, ("", f"seg-transfer: {SHOWN}\n")),
        (logging.DEBUG, ("", "")),
    ],
)
def test_control_characters_are_shown_as_escapes(level, shown, capsys):
    with console_logging():
        logging.getLogger("seg_transfer.x").log(level, "%s", TEXT)
    assert capsys.readouterr() == shown


def test_of_several_processes_the_main_one_prints(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with console_logging():
        logging.getLogger("seg_transfer.x").error("a")
        logging.getLogger("seg_transfer.x").error("b", extra=EVERY_PROCESS)
    assert capsys.readouterr().err == "seg-transfer: b\n"


def test_nothing_is_shown_after_the_block_and_tracebacks_only_on_request(capsys):
    logger = logging.getLogger("seg_transfer.x")
    for debug in (False, True):
        with console_logging(debug=debug):
            try:
                raise ValueError("why")
            except ValueError:
                logger.debug("item", exc_info=True)
        logger.info("after")
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.endswith("ValueError: why\n") == debug
