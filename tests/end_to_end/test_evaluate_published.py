"""`evaluate --published` and `report --published`, with and without the name of a table or study."""

import json

import pytest

from seg_transfer.resources import shipped
from seg_transfer.store.published import published_names


def rows(ended):
    assert (ended.code, ended.err) == (0, "")
    return {(row["scenario"], row["metric"]): row for row in json.loads(ended.out)}


def test_alone_it_is_the_segmentation_pairs(invoke):
    alone = rows(invoke("evaluate", "--published", "--json"))
    assert alone == rows(invoke("evaluate", "--json", "--published", "segmentation"))
    assert alone["fixed_target", "gbc"]["n_groups"] == 17
    assert alone["fixed_target", "gbc"]["top1"] == pytest.approx(11 / 17)


@pytest.mark.parametrize(
    ("name", "tau_w", "top1"),
    [
        ("architectures", {"gbc": 0.427, "leep": -0.068, "nleep": 0.612, "logme": 0.409}, 2 / 9),
        ("architectures_frozen", {"gbc": 0.570, "leep": -0.007, "nleep": 0.806, "logme": 0.498}, 6 / 9),
    ],
)
def test_architectures_by_either_accuracy(invoke, name, tau_w, top1):
    found = rows(invoke("evaluate", "--published", name, "--json"))
    assert found == rows(invoke("evaluate", name, "--json", "--published"))
    assert {metric: found["fixed_target", metric]["tau_w"] for metric in tau_w} == pytest.approx(tau_w, abs=0.0006)
    assert found["fixed_target", "nleep"]["top1"] == pytest.approx(top1)
    assert (found["fixed_target", "nleep"]["n_groups"], found["fixed_source", "nleep"]["n_groups"]) == (9, 19)
    assert ("fixed_source", "minus_n_classes") in found


def test_a_study_of_this_project_by_name(invoke):
    by_name = invoke("evaluate", "--published", "real7")
    assert by_name == invoke("evaluate", shipped("data_manifests/published/real7"))
    assert "Fine-tuning noise" in by_name.out


def test_a_report_by_name(invoke, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = invoke("report", "--published", "architectures", "--json")
    assert (ended.code, ended.err) == (0, "")
    written = json.loads(ended.out)
    assert written[0] == "report/report.html"
    assert all((tmp_path / file).is_file() for file in written)
    assert "mIoU" not in (tmp_path / "report/evaluation.md").read_text()
    assert b"mIoU" not in b"".join(file.read_bytes() for file in (tmp_path / "report/figures").glob("*.svg"))


def test_tables_of_accuracies_do_not_say_miou(invoke, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = invoke("evaluate", "--published", "architectures").out
    assert "mIoU" not in out
    assert "accuracy" in out
    assert "efficientnetb3" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    assert "mIoU" in invoke("evaluate", "--published").out


def test_another_name_is_wrong_usage_and_names_the_tables(invoke, tmp_path):
    for command in ("evaluate", "report"):
        ended = invoke(command, "--published", "moon")
        assert ended.code == 2
        assert all(name in ended.err for name in published_names())
    assert invoke("evaluate", tmp_path, "--published").code == 2
    assert invoke("evaluate", "--published=architectures").code == 2
    # Without the option the word is a folder, as it was before.
    assert "architectures" in invoke("evaluate", "architectures").reason(7)
