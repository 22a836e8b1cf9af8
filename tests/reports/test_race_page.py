"""The page of a race as a browser parses it: names stay text, it requests nothing, and shows every racer and number."""

import base64
import csv
import hashlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from race_reports import HOSTILE, KINDS, SCRIPT, names, panels, race_report
from report_inputs import Parsed, table_rows

from seg_transfer.reports.drawing import BLUE, GRAY, label
from seg_transfer.reports.race_page import RaceReport, race_plot, race_table, write_race_page

HEADINGS = ["place", "source", "mIoU", "from", "to", "steps", "by score", "seconds", "left"]
WITH_FAMILY = [*HEADINGS[:2], "family", *HEADINGS[2:]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("race")
    write_race_page(race_report(), path)
    return path


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return (folder / "choice.html").read_text("utf-8")


@pytest.fixture(scope="module")
def parsed(text: str) -> Parsed:
    return Parsed(text)


def page_of(report: RaceReport, folder: Path) -> str:
    page, *_ = write_race_page(report, folder)
    return page.read_text("utf-8")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def texts_in(parsed: Parsed, tag: str) -> str:
    return "\n".join(parsed.text_in(tag))


def svg_texts(svg: bytes) -> list[str]:
    return ["".join(one.itertext()) for one in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_hostile_names_stay_text(parsed: Parsed) -> None:
    assert texts_in(parsed, "h1") == texts_in(parsed, "title") == f"{SCRIPT} for {SCRIPT}"
    cells = parsed.text_in("td")
    for name in HOSTILE:
        assert name in parsed.text_in("dt")
        assert name in parsed.text_in("strong")
        assert name in cells
    assert SCRIPT in texts_in(parsed, "figcaption")
    assert f"The race for {SCRIPT}" in parsed.text_in("p")
    headings = parsed.text_in("h3")
    assert [heading.split(": 0.")[0] for heading in headings] == list(HOSTILE[:6])
    assert {one["alt"] for one in parsed.of("img")} >= {f"{name}: {kind}" for name in HOSTILE[:6] for kind in KINDS}
    assert "49" not in cells  # of {{ 7*7 }}


def test_the_page_has_no_element_but_its_own(parsed: Parsed) -> None:
    tags = {tag for tag, _ in parsed.elements}
    head = {"html", "head", "meta", "title", "link", "style", "body", "header", "main", "section"}
    body = {"h1", "h2", "h3", "p", "dl", "div", "dt", "dd", "strong", "figure", "img", "figcaption", "b"}
    assert tags == head | body | {"table", "thead", "tbody", "tr", "th", "td"}
    for tag, attributes in parsed.elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")], tag


def test_the_page_requests_nothing(text: str, parsed: Parsed) -> None:
    for tag, attributes in parsed.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "background"):
            assert re.match(r"data:|#", attributes.get(name) or "#"), (tag, attributes)
    assert not re.search(r"@import|url\(", texts_in(parsed, "style"))
    assert "http" not in re.sub(r"&#34;http://evil\.example|http-equiv", "", text)


def test_the_policy_allows_its_own_style_and_no_script(parsed: Parsed) -> None:
    policy = next(one["content"] for one in parsed.of("meta") if one.get("http-equiv") == "Content-Security-Policy")
    parts = dict(part.split(" ", 1) for part in (policy or "").split("; "))
    style, nothing = (
        base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in (texts_in(parsed, "style"), "")
    )
    assert parts.pop("script-src") in ("'none'", f"'sha256-{nothing}'")  # an empty script does nothing
    assert parts == {
        "default-src": "'none'",
        "style-src": f"'sha256-{style}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_equal_input_gives_equal_bytes(folder: Path, tmp_path: Path) -> None:
    written = write_race_page(race_report(), tmp_path)
    assert contents(tmp_path) == contents(folder)
    assert written[0] == tmp_path / "choice.html"
    assert sorted(str(file.relative_to(tmp_path)) for file in written) == sorted(contents(tmp_path))
    figures = [f"figures/{name}.{kind}" for name in ("race", "classes") for kind in ("svg", "png")]
    assert contents(tmp_path).keys() == {"choice.html", *figures, "race.parquet", "race.csv", "race.md"}


@pytest.mark.parametrize(("families", "headings"), [(("hrnet", SCRIPT), WITH_FAMILY), (("hrnet",), HEADINGS)])
def test_the_table_has_every_row_and_exact_numbers(families: tuple[str, ...], headings: list[str], tmp_path) -> None:
    report = race_report(n_racers=15, n_others=4, families=families)
    first, *rows = table_rows(page_of(report, tmp_path), "race")
    assert first == headings
    wanted = report.race if "family" in headings else report.race.drop(columns="family")
    assert len(rows) == 19
    for row, expected in zip(rows, wanted.itertuples(index=False), strict=True):
        for cell, value in zip(row, expected, strict=True):
            if isinstance(value, str):
                assert cell == (value or "\N{EN DASH}")
            else:
                assert cell == ("" if pd.isna(value) else str(float(value)))


def test_numbers_are_shown_in_short(parsed: Parsed) -> None:
    cells = parsed.text_in("td")
    assert {"1", "0.600", "0.550", "0.650", "80", "8", "120.0"} <= set(cells)


def test_files_have_families_even_where_the_page_has_none(tmp_path: Path) -> None:
    report = race_report(families=("hrnet",))
    write_race_page(report, tmp_path)
    for frame in (pd.read_parquet(tmp_path / "race.parquet"), pd.read_csv(tmp_path / "race.csv")):
        assert frame["family"].tolist() == ["hrnet"] * 8
        np.testing.assert_array_equal(frame["held_out_miou"].astype(float), report.race["miou"].astype(float))
        assert frame["rank_by_score"].tolist() == report.race["score_rank"].tolist()
    with (tmp_path / "race.csv").open(newline="", encoding="utf-8") as file:
        sources = [row["source"] for row in csv.DictReader(file)]
    assert sources == [f"'{name}" if name.startswith("=") else name for name in names(8)]
    assert SCRIPT not in (tmp_path / "race.md").read_text("utf-8")


def test_what_racers_reached_is_not_said_to_be_measured_on_an_eval_split(folder: Path, parsed: Parsed) -> None:
    meaning = {one["title"] or "" for one in parsed.of("th")}
    assert any("not trained on" in one for one in meaning)
    assert not any("eval split" in one for one in meaning)
    assert "eval split" not in (folder / "race.md").read_text("utf-8")
    columns = race_table(race_report()).columns().values()
    assert meaning == {column.meaning for column in columns}


def courses(report: RaceReport) -> Iterator[tuple[Any, Any]]:
    """The line of every racer in the figure, and the marker at its end."""
    (axes,) = race_plot(report).draw().axes
    lines = [line for line in axes.lines if line.get_marker() != "None"]
    return zip(lines[::2], lines[1::2], strict=True)


@pytest.mark.parametrize("n_racers", [1, 2, 6, 15])
def test_lines_end_where_racers_left(n_racers: int) -> None:
    report = race_report(n_racers)
    drawn = list(courses(report))
    assert len(drawn) == n_racers
    for (line, end), row in zip(drawn, report.race.itertuples(), strict=False):
        own = report.curves[report.curves["source"] == row.source]
        assert line.get_xdata().tolist() == own["steps"].tolist()
        assert line.get_ydata().tolist() == own["miou"].tolist()
        assert (list(end.get_xdata()), list(end.get_ydata())) == ([row.steps], [row.miou])
        assert line.get_color() == end.get_color()


def test_the_winner_stands_out_and_colors_of_others_are_not_used_twice() -> None:
    (won, end), *others = courses(race_report(n_racers=15))
    assert (won.get_color(), end.get_marker()) == (BLUE, "D")
    assert {last.get_marker() for _, last in others} == {"s"}
    assert all(line.get_linewidth() < won.get_linewidth() and line.zorder < won.zorder for line, _ in others)
    colors = [line.get_color() for line, _ in others]
    assert len({BLUE, GRAY, *colors[:5]}) == 7
    assert set(colors[5:]) == {GRAY}


def test_up_to_twelve_racers_are_named_in_the_figure_the_winner_in_bold(tmp_path: Path) -> None:
    report = race_report(n_racers=15)
    write_race_page(report, tmp_path)
    texts = svg_texts((tmp_path / "figures" / "race.svg").read_bytes())
    shown = [label(name) for name in names(15)]
    assert [name for name in shown if name in texts] == shown[:12]
    (axes,) = race_plot(report).draw().axes
    assert [text.get_text() for text in axes.texts if text.get_fontweight() == "bold"] == [label(SCRIPT)]
    assert len(table_rows((tmp_path / "choice.html").read_text("utf-8"), "race")) == 1 + 15 + 2


def test_the_figure_says_how_long_the_schedule_is() -> None:
    (axes,) = race_plot(replace(race_report(), of_steps=200)).draw().axes
    assert axes.get_xlabel() == "steps, of 200"
    assert axes.get_xlim()[0] == 0
    assert axes.get_xlim()[1] > 200
    assert [line.get_xdata() for line in axes.lines if line.get_linestyle() == ":"] == [[200, 200]]
    assert "200 steps" in race_plot(replace(race_report(), of_steps=200)).caption


@pytest.mark.parametrize("name", ["race", "classes"])
def test_figures_are_valid_and_have_no_code(folder: Path, name: str) -> None:
    svg = ET.fromstring((folder / "figures" / f"{name}.svg").read_bytes())
    tags = {one.tag.rsplit("}", 1)[-1] for one in svg.iter()}
    assert "svg" in tags
    assert not tags & {"script", "foreignObject", "a", "image"}


def test_every_class_is_named_beside_its_color(folder: Path) -> None:
    svg = (folder / "figures" / "classes.svg").read_bytes()
    assert set(svg_texts(svg)) == {label(name) for name in HOSTILE}
    for color in race_report().colors.values():
        assert f"fill: {to_hex(np.array(color) / 255)}" in svg.decode()


def test_the_page_has_the_figures_and_pictures_as_they_are(folder: Path, parsed: Parsed) -> None:
    uris = [one["src"] or "" for one in parsed.of("img")]
    svgs = [f"data:image/svg+xml;base64,{encoded(folder / f'figures/{name}.svg')}" for name in ("race", "classes")]
    jpegs = [f"data:image/jpeg;base64,{base64.b64encode(one).decode()}" for each in panels(6) for one in each.pictures]
    assert uris == svgs + jpegs
    assert all((one["alt"] or "").strip() for one in parsed.of("img"))


def encoded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


@pytest.mark.parametrize(
    ("n_panels", "ends"),
    [(0, []), (1, [": 0.900"]), (3, [": 0.900, the best", ": 0.800", ": 0.700, the worst"])],
)
def test_images_run_from_the_best_to_the_worst(n_panels: int, ends: list[str], tmp_path: Path) -> None:
    page = page_of(race_report(n_panels=n_panels), tmp_path)
    headings = Parsed(page).text_in("h3")
    assert headings == [name + end for name, end in zip(HOSTILE, ends, strict=False)]
    assert page.count('<div class="panels">') == n_panels
    assert len(Parsed(page).of("img")) == 1 + (n_panels > 0) + 3 * n_panels


def test_a_race_of_one_has_a_page(tmp_path: Path) -> None:
    page = page_of(race_report(n_racers=1, n_others=0, families=("hrnet",)), tmp_path)
    _, row = table_rows(page, "race")
    assert row[:3] == ["1.0", SCRIPT, "0.6000000000000001"]


def test_questions_and_answers_stand_in_their_order(parsed: Parsed) -> None:
    assert parsed.text_in("dt") == ["Which model?", *HOSTILE]
    assert [said.strip() for said in parsed.text_in("dd") if said.strip()] == [f"Also {name}." for name in HOSTILE]
