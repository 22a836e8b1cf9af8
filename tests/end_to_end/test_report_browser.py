"""The report in a real browser: nothing logged, offline, sortable, readable at 390 px, and hostile names stay text."""

import pytest
from end_to_end.browser import browser, lacking
from report_inputs import ATTACK
from selenium.webdriver.common.keys import Keys

pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking())

WIDTHS = ((1280, 900), (390, 844))
_OPEN_ALL = "document.querySelectorAll('details').forEach((one) => { one.open = true; });"
_ROWS = "return Array.from(document.querySelectorAll(arguments[0] + ' tbody tr'), (row) => row.cells[arguments[1]]"
_NUMBERS, _TEXTS = f"{_ROWS}.dataset.number);", f"{_ROWS}.textContent);"
_SCROLLING = "return Array.from(document.querySelectorAll('.scroll')).some((one) => one.scrollWidth > one.clientWidth)"
_SMALLEST_FONT = """
const texts = document.querySelectorAll('p, dd, td, th');
return Math.min(...Array.from(texts, (one) => parseFloat(getComputedStyle(one).fontSize)));
"""
_TOO_WIDE = """
const tables = Array.from(document.querySelectorAll('table'));
return tables.filter((one) => one.getBoundingClientRect().right > innerWidth).map((one) => one.id);
"""
_SEEN = """
const facts = Array.from(document.querySelectorAll('dl > div'));
const seen = facts.filter((one) => one.getBoundingClientRect().bottom <= innerHeight);
return seen.map((one) => one.firstChild.textContent);
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(params=["published_report", "hostile_report"])
def report(request):
    return request.getfixturevalue(request.param) / "report.html"


def heading(chromium, table, text):
    """The place of a column, and the button that sorts by it."""
    buttons = chromium.driver.find_elements("css selector", f"{table} thead th button")
    place = [button.text for button in buttons].index(text)
    return place, buttons[place]


@pytest.mark.parametrize("size", WIDTHS, ids=lambda size: str(size[0]))
def test_the_page_logs_nothing_and_requests_nothing(chromium, report, size):
    chromium.open(report, *size)
    chromium.run(_OPEN_ALL)
    assert chromium.run("return Array.from(document.images).every((one) => one.complete && one.naturalWidth > 0)")
    assert chromium.console_messages() == []
    assert chromium.requests() == [report.as_uri()]


def test_requests_and_console_messages_are_detected(chromium, tmp_path):
    planted = tmp_path / "planted.html"
    planted.write_text(
        '<meta http-equiv="Content-Security-Policy" content="script-src \'none\'">'
        '<img src="http://127.0.0.1:9/x.png"><script>alert(1)</script>'
    )
    chromium.open(planted, 1280, 900)
    assert "http://127.0.0.1:9/x.png" in chromium.requests()
    assert any("Content Security Policy" in one["message"] for one in chromium.console_messages())


def test_nothing_is_wider_than_a_phone_but_what_scrolls_in_its_box(chromium, report):
    chromium.open(report, 390, 844)
    chromium.run(_OPEN_ALL)
    assert chromium.run("return document.documentElement.scrollWidth") == 390
    chromium.run("window.scrollTo(500, 0)")
    assert chromium.run("return window.scrollX") == 0
    assert chromium.run(_SCROLLING)
    assert chromium.run(_SMALLEST_FONT) >= 12


@pytest.mark.parametrize("size", WIDTHS, ids=lambda size: str(size[0]))
def test_the_first_screen_answers(chromium, published_report, size):
    chromium.open(published_report / "report.html", *size)
    seen = chromium.run(_SEEN)
    assert {"Which metric?", "Which model?", "How certain?", "At what cost?", "What was skipped?"} <= set(seen)


def test_a_click_sorts_numbers_up_and_down(chromium, published_report):
    chromium.open(published_report / "report.html", 1280, 900)
    place, button = heading(chromium, "#table-answer", "its mIoU")
    before = [float(number) for number in chromium.run(_NUMBERS, "#table-answer", place)]
    assert before != sorted(before)
    for expected, order in ((sorted(before), "ascending"), (sorted(before, reverse=True), "descending")):
        button.click()
        assert [float(number) for number in chromium.run(_NUMBERS, "#table-answer", place)] == expected
        assert chromium.run("return arguments[0].parentElement.getAttribute('aria-sort')", button) == order
    others = "return document.querySelectorAll('#table-answer th[aria-sort=none]').length"
    assert chromium.run(others) == len(chromium.driver.find_elements("css selector", "#table-answer th")) - 1


@pytest.mark.parametrize("key", [Keys.ENTER, Keys.SPACE], ids=["enter", "space"])
def test_the_keyboard_sorts_texts_and_keeps_the_order_of_equal_ones(chromium, published_report, key):
    chromium.open(published_report / "report.html", 1280, 900)
    targets = chromium.run(_TEXTS, "#table-answer", 0)
    chosen = dict(zip(targets, chromium.run(_TEXTS, "#table-answer", 1), strict=True))
    _, button = heading(chromium, "#table-answer", "choose")
    chromium.run("arguments[0].focus()", button)
    button.send_keys(key)
    assert chromium.run(_TEXTS, "#table-answer", 0) == sorted(targets, key=chosen.__getitem__)


def test_missing_numbers_come_last_both_ways(chromium, published_report, tmp_path):
    page = (published_report / "report.html").read_text("utf-8")
    copy = tmp_path / "report.html"
    first = page.index("data-number=", page.index('id="table-answer"'))
    end = page.index("</td>", first)
    copy.write_text(page[:first] + 'data-number="">\N{EN DASH}' + page[end:], "utf-8")
    chromium.open(copy, 1280, 900)
    place, button = heading(chromium, "#table-answer", "its mIoU")
    assert chromium.run(_NUMBERS, "#table-answer", place)[0] == ""
    for _ in range(2):
        button.click()
        numbers = chromium.run(_NUMBERS, "#table-answer", place)
        assert numbers[-1] == ""
        assert "" not in numbers[:-1]


@pytest.mark.parametrize("size", WIDTHS, ids=lambda size: str(size[0]))
def test_hostile_names_stay_text(chromium, hostile_report, size):
    chromium.open(hostile_report / "report.html", *size)
    chromium.run(_OPEN_ALL)
    assert chromium.run("return document.querySelector('h1').textContent") == ATTACK
    assert chromium.run("return Array.from(document.images).every((one) => one.src.startsWith('data:image/'))")
    assert chromium.run("return document.scripts.length") == 1
    assert chromium.run("return document.querySelectorAll('svg, iframe, [onerror], [onload]').length") == 0
    assert chromium.run("return document.querySelectorAll('td').length") > 100
    _, button = heading(chromium, "#table-answer", "target")
    button.click()
    assert ATTACK in chromium.run(_TEXTS, "#table-answer", 0)
    assert chromium.console_messages() == []


def test_the_page_prints(chromium, published_report):
    chromium.open(published_report / "report.html", 1280, 900)
    assert chromium.printed().startswith(b"%PDF")
    assert chromium.run_on_paper(_TOO_WIDE) == []
