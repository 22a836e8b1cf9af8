"""The published study of seven real datasets: complete, without paths of a machine, and as its page says."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from page_text import RESULTS_PAGE, tables

from seg_transfer.evaluation import fine_tuning_noise
from seg_transfer.resources import shipped
from seg_transfer.store.run_results import read_run

FOLDER = shipped("data_manifests/published/real7")


@pytest.fixture(scope="module")
def results():
    return read_run(FOLDER)


def test_every_pair_is_scored_by_every_metric_and_fine_tuned_with_every_seed(results):
    assert (results.left_out, results.unscored, results.untuned) == ([], [], [])
    assert results.scores.groupby(["source", "target"])["metric"].nunique().to_list() == [17] * 42
    seeds = results.performance.groupby(["source", "target"])["seed"].apply(sorted)
    assert seeds.to_list() == [[0, 1, 2]] * 49
    assert len(results.cards) == 7
    assert results.scores["score"].notna().all()


def texts(value):
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from texts(one)
    elif isinstance(value, str):
        yield value


def test_no_path_names_the_machine_and_it_is_small():
    described = [FOLDER / "study.yaml", *FOLDER.glob("sources/*/source.json")]
    found = [text for file in described for text in texts(yaml.safe_load(file.read_text()))]
    assert "hrnetv2_w18_small.py" in found
    assert [text for text in found if Path(text).is_absolute()] == []
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 3e6


def test_the_page_has_the_performance_of_every_pair_and_its_noise(results):
    text = RESULTS_PAGE.read_text()
    ((head, page),) = ((head, rows) for head, rows in tables(text) if "scratch" in head)
    miou = results.miou.set_index(["target", "source"])["miou"]
    sources = head[1:-1]
    for target, (*cells, _) in page.items():
        shown = {(target, source): float(cell.strip("*")) for source, cell in zip(sources, cells, strict=True) if cell}
        assert shown == pytest.approx(miou[[target]].to_dict(), abs=0.0006)
    noise = fine_tuning_noise(results.performance).set_index("scenario").loc["fixed_target"]
    measured = noise[["fraction_distinguishable", "top1", "tau_w"]].to_list()
    assert measured == pytest.approx([0.524, 0.571, 0.614], abs=0.0005)
    assert all(words in text for words in ("52 % differ by more", "top-1 of 0.571", "tau_w of 0.614"))


def test_its_tables_are_those_of_its_results(results):
    pairs = pd.read_parquet(FOLDER / "tables/pairs.parquet").set_index(["source", "target"])
    scores = results.scores.set_index(["source", "target", "metric"])["score"]
    for (source, target, metric), score in scores.items():
        assert pairs.loc[(source, target), metric] == score
    miou = results.miou.set_index(["source", "target"])["miou"]
    assert pairs["miou"].to_dict() == miou[pairs.index].to_dict()
