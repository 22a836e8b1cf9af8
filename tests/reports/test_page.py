"""The page as a browser parses it: it requests nothing, runs only its own script, and holds exact numbers."""

import base64
import hashlib
import re

import pytest
from all_columns import on_all_columns
from report_inputs import ATTACK, OTHERS, Parsed, hostile_input, names, pairs_of, scores_of, table_rows

from seg_transfer.evaluation import evaluate
from seg_transfer.reports.content import build
from seg_transfer.reports.drawing import Picture, Plot
from seg_transfer.reports.figures import all_plots
from seg_transfer.reports.inputs import ReportInput
from seg_transfer.reports.page import page
from seg_transfer.store.published import load_published, published_pairs

evaluate = on_all_columns(evaluate)

LIMIT = 3_000_000


@pytest.fixture(scope="module")
def hostile(hostile_report):
    return (hostile_report / "report.html").read_text("utf-8")


@pytest.fixture(scope="module")
def published(published_report):
    return (published_report / "report.html").read_text("utf-8")


@pytest.fixture(params=["hostile", "published"])
def text(request):
    return request.getfixturevalue(request.param)


def test_the_page_requests_nothing(text):
    parsed = Parsed(text)
    assert not {tag for tag, _ in parsed.elements} & {"iframe", "object", "embed", "base", "form", "video", "audio"}
    for tag, attributes in parsed.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "background", "xlink:href"):
            if name in attributes:
                assert re.match(r"data:|#", attributes[name]), (tag, attributes)
    assert not re.search(r"@import|url\(|fetch|XMLHttpRequest|WebSocket|sendBeacon", "".join(own_code(parsed)))


def test_no_image_refers_to_anything_outside_itself(text):
    images = [one["src"] for one in Parsed(text).of("img")]
    assert len(images) >= 5
    for uri in images:
        kind, data = re.fullmatch(r"data:image/(svg\+xml|png);base64,([A-Za-z0-9+/=]+)", uri).groups()
        if kind == "svg+xml":
            svg = base64.b64decode(data).decode()
            links = re.findall(r'(?:href|src)="([^"]*)"', svg)
            assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
            assert "<script" not in svg


def own_code(parsed: Parsed) -> list[str]:
    styles, scripts = parsed.text_in("style"), parsed.text_in("script")
    assert len(parsed.of("style")) == len(parsed.of("script")) == 1
    return ["".join(styles), "".join(scripts)]


def test_the_policy_allows_only_its_own_style_and_script(text):
    parsed = Parsed(text)
    policy = next(one["content"] for one in parsed.of("meta") if one.get("http-equiv") == "Content-Security-Policy")
    parts = dict(part.split(" ", 1) for part in policy.split("; "))
    style, script = (base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in own_code(parsed))
    assert parts == {
        "default-src": "'none'",
        "style-src": f"'sha256-{style}'",
        "script-src": f"'sha256-{script}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_no_element_has_a_style_or_a_handler_of_its_own(text):
    for _, attributes in Parsed(text).elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]


def test_hostile_names_stay_text(hostile):
    parsed = Parsed(hostile)
    assert [one for one in parsed.of("img") if not (one["src"] or "").startswith("data:image/")] == []
    assert parsed.of("svg") == []
    assert "".join(parsed.text_in("h1")) == ATTACK
    cells = set(parsed.text_in("td"))
    assert {ATTACK, *OTHERS[:4]} <= cells
    assert "{{ 7*7 }}" in cells
    assert "49" not in cells
    for place in ("th", "dd", "summary", "figcaption", "title", "p", "td"):
        assert ATTACK in "".join(parsed.text_in(place)), place


def test_every_attribute_with_a_name_is_quoted(hostile):
    assert any(ATTACK in (one["alt"] or "") for one in Parsed(hostile).of("img"))
    assert any(OTHERS[0] in (one.get("aria-label") or "") for one in Parsed(hostile).of("table"))


def test_every_image_and_table_has_an_alternative_text(text):
    parsed = Parsed(text)
    assert all((one.get("alt") or "").endswith(".") for one in parsed.of("img"))
    assert all(one.get("aria-label") for one in parsed.of("table"))


def test_the_published_page_is_small(published):
    assert len(published.encode()) <= LIMIT


def test_a_page_of_17_by_17_with_every_metric_is_small():
    metrics = [f"metric_{number}" for number in range(18)]
    pairs = pairs_of(names(17), metrics)
    report_input = ReportInput(
        title="all",
        origin=(),
        created="",
        scores=scores_of(pairs, metrics),
        miou=pairs[["source", "target", "miou"]],
        pairs=pairs.drop(columns=metrics[3:]),  # judging all is slow, and its tables are short
        performance=pairs[["source", "target", "miou"]].assign(seed=0, seconds=1.0),
    )
    content = build(report_input)
    drawn = [Picture(plot, b"s" * 150_000, b"p" * 240_000) for plot in all_plots(content)]
    text = page(content, drawn)
    assert 2_000_000 < len(text.encode()) <= LIMIT
    assert "Not shown on this page, for lack of space" in text
    shown = [one["src"] for one in Parsed(text).of("img")]
    assert 8 <= len(shown) < len(drawn)


def test_numbers_are_those_of_evaluate(published):
    expected = evaluate(published_pairs()[0])
    heading, *rows = table_rows(published, "evaluation")
    assert heading[:4] == ["scenario", "metric", "kind", "top-1"]
    for row, wanted in zip(rows, expected.to_dict("records"), strict=True):
        assert row[:3] == [wanted["scenario"], wanted["metric"], wanted["kind"]]
        numbers = [
            "top1",
            "top1_low",
            "top1_high",
            "tau_w",
            "tau_w_low",
            "tau_w_high",
            "rel_at_1",
            "kendall",
            "pearson",
        ]
        assert [float(cell) for cell in row[3:12]] == [wanted[name] for name in numbers]


def test_pairs_are_those_that_were_published(published):
    frame = load_published().set_index(["source", "target"])
    _, *rows = table_rows(published, "pairs")
    assert len(rows) == 272
    for source, target, miou, gbc, leep, *_ in rows:
        wanted = frame.loc[(source, target)]
        assert (float(miou), float(gbc), float(leep)) == (wanted["miou"], wanted["gbc"], wanted["leep"])


def test_the_answer_comes_first_and_covers_all_questions(hostile, published):
    for text, first in ((hostile, "Which model?"), (published, "Which metric?")):
        questions = Parsed(text).text_in("dt")
        assert questions[0] == first
        assert {"Which model?", "How certain?", "At what cost?", "What was skipped?"} <= set(questions)
        assert text.index('id="answer"') < text.index('id="rankings"')


def test_sections_without_content_are_not_there(published):
    for name in ("stability", "explanations"):
        assert f'id="{name}"' not in published
        assert f'href="#{name}"' not in published


def test_every_link_has_its_target_on_the_page(text):
    parsed = Parsed(text)
    places = {f"#{attributes['id']}" for _, attributes in parsed.elements if attributes.get("id")}
    assert {one["href"] for one in parsed.of("a")} <= places


def test_a_picture_is_embedded_in_its_smaller_form():
    content = build(hostile_input())
    plot = Plot("miou", "t", "a.", "c", lambda: None)
    svg, png = base64.b64encode(b"svg").decode(), base64.b64encode(b"pngs").decode()
    assert f"data:image/svg+xml;base64,{svg}" in page(content, [Picture(plot, b"svg", b"pngs")])
    assert f"data:image/png;base64,{png}" in page(content, [Picture(plot, b"longer", b"pngs")])
