"""Pages of published pairs by name: what they measure is called by its name, and a study is found in its folder."""

import shutil

import pandas as pd
import pytest
from report_inputs import Parsed, table_rows

from seg_transfer.errors import ResultsError
from seg_transfer.reports.content import build
from seg_transfer.reports.figures import all_plots
from seg_transfer.reports.inputs import run_input
from seg_transfer.reports.page import page
from seg_transfer.reports.performance import MIOU, Performance
from seg_transfer.reports.published import published_input
from seg_transfer.reports.report import report_published
from seg_transfer.resources import shipped
from seg_transfer.store.published import load_published, published_studies

REAL7 = shipped("data_manifests/published/real7")


@pytest.fixture(scope="module")
def frozen():
    return build(published_input("architectures_frozen"))


def test_a_page_of_accuracies_does_not_speak_of_miou_or_of_fine_tuning(frozen):
    parsed = Parsed(page(frozen, []))
    about_columns = {text for text in parsed.texts if text[1].startswith("fraction in [0, 1]")}
    texts = [text for kind, text in set(parsed.texts) - about_columns if kind not in ("style", "script")]
    meanings = [attributes["title"] for attributes in parsed.of("th")]
    captions = [text for plot in all_plots(frozen) for text in (plot.title, plot.alt, plot.caption)]
    assert [text for text in (*texts, *meanings, *captions) if "mIoU" in text or "ine-tun" in text] == []
    assert "accuracy on the target's eval split with a linear head on fixed features, fraction in [0, 1]" in meanings
    assert "Judged by accuracy with a linear head on fixed features, rank_mean chose" in " ".join(texts)
    assert "For every target: the source to choose, by rank_mean" in texts
    assert "Published architectures, frozen: which metric chooses the right source?" in parsed.text_in("h1")


def test_its_numbers_are_those_that_were_published(frozen):
    raw = load_published("architecture").set_index(["source_architecture", "target"])
    heading, *rows = table_rows(page(frozen, []), "pairs")
    assert heading[:4] == ["source", "target", "accuracy", "gbc"]
    assert len(rows) == 171
    for source, target, accuracy, gbc, *_ in rows:
        pair = raw.loc[(source, target)]
        assert (float(accuracy), float(gbc)) == (pair["accuracy_frozen"], pair["gbc"])


def test_the_axes_of_figures_say_accuracy(frozen):
    plots = {plot.name: plot for plot in all_plots(frozen)}
    assert plots["miou"].title == "Accuracy of every pair"
    assert b">accuracy / best accuracy of the target</text>" in plots["miou"].draw().svg()
    assert b">accuracy with a linear head on fixed features</text>" in plots["scatter_nleep"].draw().svg()


def test_either_accuracy_has_its_own_words():
    tuned = published_input("architectures")
    assert tuned.title == "Published architectures, fine-tuned: which metric chooses the right source?"
    assert tuned.measured.words("best mIoU after fine-tuning") == "best accuracy after fine-tuning"
    assert tuned.miou["miou"].tolist() == load_published("architecture")["accuracy_fine_tuned"].tolist()


def test_miou_leaves_every_text_as_it_is():
    text = "For mIoU: fine-tune after fine-tuning."
    assert MIOU.words(text) == text
    assert Performance("F1", "from scratch", "take").words(text) == "For F1: take from scratch."


def test_words_within_names_stay_and_captions_begin_with_a_capital():
    accuracy = Performance("accuracy", "with a linear head", "choose")
    names = "For mIoU-t: fine-tune mIoU.v2 or net_mIoU, not x-fine-tune; best by mIoU."
    assert accuracy.words(names) == "For mIoU-t: choose mIoU.v2 or net_mIoU, not x-fine-tune; best by accuracy."
    assert accuracy.words("It was fine-tuned.") == "It was fine-tuned."
    assert accuracy.caption("mIoU against gbc") == "Accuracy against gbc"
    assert accuracy.caption("For every target: the source to fine-tune") == "For every target: the source to choose"
    assert MIOU.caption("mIoU against gbc") == "mIoU against gbc"


def test_the_page_shows_regret_in_points_and_files_hold_the_fraction(frozen):
    gaps = frozen.tables["gaps"]
    assert gaps.columns_of(gaps.frame)["regret"].meaning.startswith("best accuracy minus that of the chosen, fraction")
    assert "in points (100 x)" in gaps.columns()["regret_points"].meaning
    fraction = gaps.frame.set_index(["scenario", "metric"])["regret"]
    heading, *rows = table_rows(page(frozen, []), "gaps")
    place = heading.index("regret")
    assert gaps.columns()["regret_points"].form == ".2f"
    shown = {(row[0], row[1]): float(row[place]) for row in rows}
    assert shown == pytest.approx((100 * fraction).to_dict())


def test_a_study_is_found_by_the_name_of_its_folder(tmp_path, monkeypatch):
    for name in ("real7", "real7_again"):
        shutil.copytree(REAL7, tmp_path / name)
    (tmp_path / "figures").mkdir()
    monkeypatch.setattr("seg_transfer.store.published.shipped", lambda relative: tmp_path)
    assert list(published_studies()) == ["real7", "real7_again"]
    found, wanted = published_input("real7_again"), run_input(REAL7)
    assert found.title == wanted.title
    pd.testing.assert_frame_equal(found.pairs, wanted.pairs)


def test_an_unknown_name_names_the_known_ones_and_writes_nothing(tmp_path):
    with pytest.raises(ResultsError, match=r"'moon' are unknown; choose among segmentation, .*, real7"):
        report_published(tmp_path / "report", "moon")
    assert not (tmp_path / "report").exists()
