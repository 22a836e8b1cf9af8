"""Figures: reproducible, valid SVG for any names, and correct content."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.figure import Figure
from report_inputs import ATTACK, explanation, hostile_input, pairs_of, scores_of

from seg_transfer.evaluation import measures
from seg_transfer.reports.content import build
from seg_transfer.reports.drawing import Plot, file_stem, label, picture
from seg_transfer.reports.explanation_figures import explanation_plots, largest_overlaps
from seg_transfer.reports.figures import all_plots
from seg_transfer.reports.inputs import Explanation
from seg_transfer.reports.published import published_input


@pytest.fixture(scope="module")
def published():
    return {plot.name: plot for plot in all_plots(build(published_input()))}


@pytest.fixture(scope="module")
def pictures():
    return [picture(plot) for plot in all_plots(build(hostile_input(4)))]


def svg_texts(svg: bytes) -> list[str]:
    return ["".join(one.itertext()) for one in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_figures_of_other_metrics_come_last(published):
    assert list(published)[:5] == ["miou", "ranks_rank_mean", "scatter_rank_mean", "evaluation", "regret"]
    # Two figures of each of the five other metrics.
    assert len(published) == 5 + 2 * 5
    kinds = [plot.name.split("_")[0] for plot in all_plots(build(hostile_input(4)))]
    assert kinds[:9] == ["miou", "ranks", "scatter", "evaluation", "regret", "stability", "overlaps", "map", "map"]


def test_figures_are_valid_and_written_twice_the_same(pictures):
    again = {plot.name: plot for plot in all_plots(build(hostile_input(4)))}
    for one in pictures:
        assert ET.fromstring(one.svg).tag.endswith("svg")
        assert (one.png or b"").startswith(b"\x89PNG") == one.plot.is_main
    for one in pictures[::4]:
        repeated = picture(again[one.plot.name])
        assert (repeated.svg, repeated.png) == (one.svg, one.png)


def test_names_in_figures_are_text_and_no_formula(pictures):
    texts = {text for one in pictures for text in svg_texts(one.svg)}
    assert "$x_y$" in texts or "{{ 7*7 }}" in texts
    assert label(ATTACK) in texts
    for one in pictures:
        tags = {element.tag.rsplit("}", 1)[-1] for element in ET.fromstring(one.svg).iter()}
        assert not tags & {"script", "foreignObject", "img", "a"}


def test_every_figure_has_title_caption_and_alternative_text(pictures):
    for one in pictures:
        assert one.plot.title
        assert one.plot.alt.endswith(".")
        assert one.plot.caption.endswith(".")
    names = [one.plot.name for one in pictures]
    assert len(names) == len(set(names))


def test_drawing_does_not_change_global_settings():
    before = dict(mpl.rcParams)
    mpl.rcParams["font.size"] = 33
    try:
        mine = picture(Plot("n", "t", "a", "c", Figure))
        mpl.rcParams["font.size"] = 5
        assert picture(Plot("n", "t", "a", "c", Figure)).svg == mine.svg
        assert mpl.rcParams["font.size"] == 5
    finally:
        mpl.rcParams.update(before)


def test_the_scatter_shows_tau_of_every_target(published):
    texts = svg_texts(picture(published["scatter_gbc"]).svg)
    pairs = published_input().pairs
    for target, members in pairs.groupby("target"):
        tau = measures(members["miou"].to_numpy(), members["gbc"].to_numpy())["tau_w"]
        assert f"{target}, tau_w {tau:.2f}".replace("-", "\N{MINUS SIGN}") in texts
    assert {"gbc score, higher is better", "mIoU after fine-tuning", "chosen by gbc", "actual best"} <= set(texts)


def test_heat_maps_hold_every_pair_and_name_both_axes(published):
    miou = svg_texts(picture(published["miou"]).svg)
    pairs = published_input().pairs
    numbers = sorted(text for text in miou if re.fullmatch(r"\d\d", text))
    assert numbers == sorted(f"{100 * value:.0f}" for value in pairs["miou"])
    ranks = svg_texts(picture(published["ranks_logme"]).svg)
    assert [ranks.count(str(rank)) for rank in range(2, 16)].count(17) >= 10
    for texts in (miou, ranks):
        assert {"source", "target"} <= set(texts)
        assert all(texts.count(name) == 2 for name in pairs["source"].unique())


def test_control_rows_are_below_the_metrics(published):
    texts = svg_texts(picture(published["evaluation"]).svg)
    order = [text for text in texts if text in {"gbc", "logme", "hscore", "rank_mean", "mean_rank_elsewhere", "random"}]
    # Labels are written from the bottom to the top.
    assert order[:4] == ["random", "mean_rank_elsewhere", "hscore", "gbc"]


def test_without_fine_tuning_there_are_only_ranks():
    report_input = hostile_input(3)
    nothing = report_input.pairs[:0]
    only_scored = replace(report_input, pairs=nothing, miou=nothing)
    names = [plot.name for plot in all_plots(build(only_scored))]
    assert not [name for name in names if name.startswith(("miou", "scatter", "evaluation"))]
    assert "ranks_gbc" in names


def test_one_target_with_two_sources_can_be_drawn():
    pairs = pairs_of(["a", "b", "c"], ["gbc"]).query("target == 'a'")
    report_input = hostile_input(3)
    fields = {"scores": scores_of(pairs, ["gbc"]), "pairs": pairs, "miou": pairs[["source", "target", "miou"]]}
    for plot in all_plots(build(replace(report_input, **fields))):
        assert picture(plot).svg


def test_one_target_shows_its_sources_with_their_errors():
    pairs = pairs_of(["a", "b", "c"], ["gbc"]).query("target == 'a'")
    report_input = hostile_input(3)
    fields = {"scores": scores_of(pairs, ["gbc"]), "pairs": pairs[:0], "miou": pairs[:0]}
    (plot, *_) = all_plots(build(replace(report_input, **fields)))
    assert (plot.name, plot.title) == ("ranks_gbc", "Sources of a by gbc")
    assert "standard errors" in plot.caption
    texts = svg_texts(picture(plot).svg)
    assert {"b", "c", "source", "gbc score, higher is better"} <= set(texts)
    order = pairs.sort_values("gbc", ascending=False)["source"].tolist()
    assert [text for text in texts if text in {"b", "c"}] == order


def test_the_classes_that_overlap_most_come_first_without_duplicates():
    rows = [("b", "a", 0.5), ("a", "b", 0.5), ("a", "a", 1.0), ("c", "a", 0.75), ("b", "c", 0.25)]
    found = largest_overlaps(pd.DataFrame(rows, columns=["class_a", "class_b", "overlap"]), max_pairs=2)
    assert found.to_dict("records") == [
        {"class_a": "a", "class_b": "c", "overlap": 0.75},
        {"class_a": "a", "class_b": "b", "overlap": 0.5},
    ]


def test_explanations_draw_the_frames_that_exist():
    both = list(explanation_plots([explanation("s", "t")]))
    assert [plot.name for plot in both] == ["overlaps_s_t", "map_s_t", "map_fine_tuned_s_t"]
    texts = svg_texts(picture(both[1]).svg)
    assert {"road", "sky", label(ATTACK, 18)} <= set(texts)
    nothing = Explanation("s", "t", overlaps=explanation("s", "t").overlaps[:0])
    assert list(explanation_plots([nothing])) == []


def test_many_classes_are_cut_to_those_that_overlap():
    names = [f"class_{number:02d}" for number in range(40)]
    rows = [(a, b, 0.9 if "class_39" in (a, b) else 0.001) for i, a in enumerate(names) for b in names[i + 1 :]]
    overlaps = pd.DataFrame(rows, columns=["class_a", "class_b", "overlap"])
    where = pd.DataFrame({"x": range(40), "y": range(40), "label": range(40)})
    matrix, plane = explanation_plots([Explanation("s", "t", overlaps=overlaps, map=where)])
    texts = svg_texts(picture(matrix).svg)
    assert texts.count("class_39") == 2
    assert len({text for text in texts if text.startswith("class_")}) == 24
    assert "26 others" in svg_texts(picture(plane).svg)


def test_stems_are_safe_and_different():
    assert file_stem("ranks", "gbc") == "ranks_gbc"
    hostile = [file_stem("ranks", name) for name in (ATTACK, "../../etc", "a b", "a/b", "a" * 300)]
    assert len(set(hostile)) == len(hostile)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", stem) for stem in hostile)
