"""The page of a race in a real browser: offline, silent, readable on a phone, and hostile names stay text."""

from pathlib import Path

import pytest
from end_to_end.browser import Browser, browser, lacking
from race_reports import HOSTILE, SCRIPT, race_report

from seg_transfer.reports.race_page import write_race_page

pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking())

WIDTHS = ((1280, 900), (390, 844))
_LOADED = "return Array.from(document.images, (one) => one.complete && one.naturalWidth > 0 && one.clientWidth > 0)"
_PANELS = """
return Array.from(document.querySelectorAll('.panels'), (panel) => Array.from(panel.querySelectorAll('img'), (one) => {
  const box = one.getBoundingClientRect();
  return [box.left, box.right, box.top, box.bottom];
}));
"""
_CUT = """
const texts = Array.from(document.querySelectorAll('h1, h3, p, dt, dd, figcaption'));
return texts.filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.textContent);
"""
_SMALLEST_FONT = """
const texts = document.querySelectorAll('p, dd, td, th, h3, figcaption');
return Math.min(...Array.from(texts, (one) => parseFloat(getComputedStyle(one).fontSize)));
"""
_TOO_WIDE = """
const shown = Array.from(document.querySelectorAll('table, img, h1, h3'));
return shown.filter((one) => one.getBoundingClientRect().right > innerWidth).map((one) => one.outerHTML.slice(0, 80));
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    return write_race_page(race_report(n_racers=15, n_others=4), tmp_path_factory.mktemp("race"))[0]


@pytest.mark.parametrize("size", WIDTHS, ids=lambda size: str(size[0]))
def test_the_page_logs_nothing_and_requests_nothing(chromium: Browser, page: Path, size) -> None:
    chromium.open(page, *size)
    assert chromium.run(_LOADED) == [True] * (2 + 3 * 6)
    assert chromium.console_messages() == []
    assert chromium.requests() == [page.as_uri()]


@pytest.mark.parametrize("size", WIDTHS, ids=lambda size: str(size[0]))
def test_nothing_is_wider_than_the_screen_but_what_scrolls_in_its_box(chromium: Browser, page: Path, size) -> None:
    chromium.open(page, *size)
    assert chromium.run("return innerWidth") == size[0]
    assert chromium.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    chromium.run("window.scrollTo(500, 0)")
    assert chromium.run("return window.scrollX") == 0
    assert chromium.run(_CUT) == []
    assert chromium.run(_SMALLEST_FONT) >= 12


def test_an_image_its_labels_and_the_prediction_stand_side_by_side(chromium: Browser, page: Path) -> None:
    chromium.open(page, 1280, 900)
    rows = chromium.run(_PANELS)
    assert len(rows) == 6
    for image, labels, prediction in rows:
        assert image[1] <= labels[0] < labels[1] <= prediction[0]
        assert image[2:] == labels[2:] == prediction[2:]
        assert image[1] - image[0] > 300


def test_on_a_phone_they_stand_below_each_other(chromium: Browser, page: Path) -> None:
    chromium.open(page, 390, 844)
    for image, labels, prediction in chromium.run(_PANELS):
        assert image[:2] == labels[:2] == prediction[:2]
        assert image[3] <= labels[2] < labels[3] <= prediction[2]
        assert image[1] - image[0] > 300


@pytest.mark.parametrize("size", WIDTHS, ids=lambda size: str(size[0]))
def test_hostile_names_stay_text(chromium: Browser, page: Path, size) -> None:
    chromium.open(page, *size)
    assert chromium.run("return document.querySelector('h1').textContent") == f"{SCRIPT} for {SCRIPT}"
    assert chromium.run("return document.title") == f"{SCRIPT} for {SCRIPT}"
    assert chromium.run("return document.scripts.length") == 0
    assert chromium.run("return document.querySelectorAll('svg, iframe, [onerror], [onload]').length") == 0
    assert chromium.run("return Array.from(document.images).every((one) => one.src.startsWith('data:image/'))")
    assert chromium.run("return document.querySelectorAll('tbody tr').length") == 19
    names = chromium.run("return Array.from(document.querySelectorAll('dt'), (one) => one.textContent)")
    assert names == ["Which model?", *HOSTILE]


def test_no_script_runs_on_the_page(chromium: Browser, page: Path, tmp_path: Path) -> None:
    planted = tmp_path / "planted.html"
    text = page.read_text("utf-8")
    planted.write_text(text.replace("</main>", "<img src=x onerror=\"document.title='run'\"></main>"), "utf-8")
    planted.write_text(planted.read_text("utf-8") + "<script>document.title = 'run'</script>", "utf-8")
    chromium.open(planted, 1280, 900)
    assert chromium.run("return document.title") == f"{SCRIPT} for {SCRIPT}"
    messages = [one["message"] for one in chromium.console_messages()]
    assert sum("Content Security Policy" in one for one in messages) == 3  # the image, its handler, and the script


def test_the_page_prints(chromium: Browser, page: Path) -> None:
    chromium.open(page, 1280, 900)
    assert chromium.printed().startswith(b"%PDF")
    assert chromium.run_on_paper(_TOO_WIDE) == []
