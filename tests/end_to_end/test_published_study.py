"""The published runs of the studies of real datasets: complete, without paths of a machine, as their page says."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import yaml
from page_text import RESULTS_PAGE, tables

from seg_transfer.evaluation import fine_tuning_noise
from seg_transfer.resources import shipped
from seg_transfer.store.published import published_studies
from seg_transfer.store.run_results import read_run


class Published(NamedTuple):
    """What a published run must hold."""

    n_metrics: int
    seeds: list[int]
    n_sources: int
    n_targets: int
    model: str

    @property
    def n_pairs(self) -> int:
        return (self.n_sources - 1) * self.n_targets


RUNS = {
    "real7": Published(17, [0, 1, 2], 7, 7, "hrnetv2_w18_small.py"),
    "real7_rerun": Published(22, [0], 7, 7, "hrnetv2_w18_small.py"),
    "real11": Published(22, [0, 1], 11, 11, "efficientnet_lite0.safetensors"),
    "real11_20": Published(19, [0, 1], 11, 4, "efficientnet_lite0.safetensors"),
    "real11_100": Published(19, [0, 1], 11, 4, "efficientnet_lite0.safetensors"),
}


@pytest.fixture(scope="module", params=RUNS)
def folder(request):
    return shipped(f"data_manifests/published/{request.param}")


@pytest.fixture
def expected(folder):
    return RUNS[folder.name]


def test_every_published_run_is_tested():
    assert published_studies().keys() == RUNS.keys()


@pytest.fixture(scope="module")
def results(folder):
    return read_run(folder)


def test_every_pair_is_scored_by_every_metric_and_fine_tuned_with_every_seed(expected, results):
    assert (results.left_out, results.unscored, results.untuned) == ([], [], [])
    n_metrics = results.scores.groupby(["source", "target"])["metric"].nunique()
    assert n_metrics.to_list() == [expected.n_metrics] * expected.n_pairs
    seeds = results.performance.groupby(["source", "target"])["seed"].apply(sorted)
    assert seeds.to_list() == [expected.seeds] * (expected.n_pairs + expected.n_targets)
    assert len(results.cards) == expected.n_sources
    assert results.scores["score"].notna().all()


def texts(value):
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from texts(one)
    elif isinstance(value, str):
        yield value


def test_no_path_names_the_machine_and_it_is_small(folder, expected):
    described = [folder / "study.yaml", *folder.glob("sources/*/source.json")]
    found = [text for file in described for text in texts(yaml.safe_load(file.read_text()))]
    assert expected.model in found
    assert [text for text in found if Path(text).is_absolute()] == []
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 7e4 * expected.n_pairs


def test_the_page_has_the_performance_of_every_pair_and_its_noise(folder, expected, results):
    text = RESULTS_PAGE.read_text()
    (table,) = ((head[1:], rows) for head, rows in tables(text) if head[0] == f"{folder.name}, target")
    miou = results.miou.set_index(["target", "source"])["miou"]
    tuned = results.performance[results.performance["source"] != "scratch"]
    noise = tuned.groupby(["target", "source"])["miou"].var().groupby("target").mean() ** 0.5
    for target, cells in table[1].items():
        shown = {source: float(cell.strip("*")) for source, cell in zip(table[0], cells, strict=True) if cell}
        assert shown.pop("seeds", noise[target]) == pytest.approx(noise[target], abs=0.0006, nan_ok=True)
        assert shown == pytest.approx(miou[target].to_dict(), abs=0.0006)
    if len(expected.seeds) == 1:
        return
    assert "seeds" in table[0]
    fraction = fine_tuning_noise(results.performance).set_index("scenario")["fraction_distinguishable"]
    assert f"{fraction['fixed_target']:.0%}".replace("%", " % differ by more than") in " ".join(text.split())


def test_its_tables_are_those_of_its_results(folder, results):
    pairs = pd.read_parquet(folder / "tables/pairs.parquet").set_index(["source", "target"])
    scores = results.scores.set_index(["source", "target", "metric"])["score"]
    for (source, target, metric), score in scores.items():
        assert pairs.loc[(source, target), metric] == score
    miou = results.miou.set_index(["source", "target"])["miou"]
    assert pairs["miou"].to_dict() == miou[pairs.index].to_dict()
