"""What is said reaches the terminal as one line that commands nothing."""

import logging

import pytest

from seg_transfer.console import EVERY_PROCESS, ON_STDERR, console_logging, silent_stdout, warnings_only

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


def test_every_process_shows_its_tracebacks(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with console_logging(debug=True):
        log_a_failure("a -> b")
    assert capsys.readouterr().err.startswith("a -> b\nTraceback")


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


def log_a_failure(label: str) -> None:
    logger = logging.getLogger("seg_transfer.x")
    try:
        raise ValueError("why")
    except ValueError:
        logger.debug("%s", label, exc_info=True)


def test_a_traceback_follows_the_name_of_its_item(capsys):
    with console_logging(debug=True):
        log_a_failure("a -> b\x1b")
    first, *_, last = capsys.readouterr().err.splitlines()
    assert (first, last) == (r"a -> b\x1b", "ValueError: why")


def test_where_information_is_not_printed_tracebacks_and_warnings_are(capsys):
    logger = logging.getLogger("seg_transfer.x")
    with console_logging(debug=True):
        with warnings_only():
            logger.info("hidden")
            logger.warning("warned")
            log_a_failure("a -> b")
        logger.info("shown")
    captured = capsys.readouterr()
    assert captured.out == "shown\n"
    assert captured.err.startswith("seg-transfer: warned\na -> b\nTraceback")


def test_a_closed_stdout_takes_neither_lines_nor_prints(capsys):
    with console_logging():
        with silent_stdout():
            logging.getLogger("seg_transfer.x").info("hidden")
            print("hidden")
            logging.getLogger("seg_transfer.x").error("shown")
        print("answer")
    assert capsys.readouterr() == ("answer\n", "seg-transfer: shown\n")


def test_code_that_configures_the_root_logger_does_not_double_the_lines(capsys):
    root, handler = logging.getLogger(), logging.StreamHandler()
    root.addHandler(handler)
    try:
        with console_logging():
            logging.getLogger("seg_transfer.x").error("once")
    finally:
        root.removeHandler(handler)
    assert capsys.readouterr().err == "seg-transfer: once\n"
    assert logging.getLogger("seg_transfer").propagate


def test_information_for_stderr_is_shown_beside_tables_too(capsys):
    with console_logging(), warnings_only():
        logging.getLogger("seg_transfer.x").info("downloading", extra=ON_STDERR)
    assert capsys.readouterr() == ("", "downloading\n")
