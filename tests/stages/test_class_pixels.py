"""The labeled pixels of every class: stored with the pixel sample, counted where they are not, given to the metrics."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from other_nets import MEAN, STD, write_net
from pixel_samples import TARGET, assert_equal, label_map, sample_of, with_sampling

from seg_transfer.errors import DataError
from seg_transfer.metrics import probe_miou
from seg_transfer.observations import Observations
from seg_transfer.selection.rank import rank_sources
from seg_transfer.selection.source_scores import Request, rank_scored
from seg_transfer.stages import context, scoring
from seg_transfer.stages import sampling as module
from seg_transfer.store.tables import SAMPLES, read_table, write_table
from seg_transfer.study.bank import read_sources
from seg_transfer.study.run import Run


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The grids of the passes over label maps."""
    seen: list[str] = []
    label_maps = module._label_maps

    def noted(manifest: Any, records: Any, grid: str) -> Any:
        seen.append(grid)
        return label_maps(manifest, records, grid)

    monkeypatch.setattr(module, "_label_maps", noted)
    return seen


def by_hand(run: Run) -> list[int]:
    counts = [0] * len(run.manifests[TARGET].classes)
    for number in range(5):
        values, found = np.unique(label_map(run, number), return_counts=True)
        for value, n in zip(values.tolist(), found.tolist(), strict=True):
            if value != 255:
                counts[value] += n
    return counts


def counted(run: Run) -> list[int]:
    return module.class_pixels(run, TARGET, run.low_shot(TARGET)).tolist()


def change_metadata(run: Run, change: Any) -> None:
    file = run.sample_file(TARGET)
    table = read_table(file, SAMPLES)
    metadata = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    change(metadata)
    write_table(file, table.replace_schema_metadata(None), metadata)


def test_they_are_stored_with_a_sample_that_needed_them(run, passes):
    sample_of(run)
    assert passes == ["full", "full"]
    assert counted(run) == by_hand(run)
    assert sum(by_hand(run)) > 5000
    assert len(passes) == 2


@pytest.mark.parametrize("change", [{"balance": "image"}, {"balance": "none"}])
def test_they_are_counted_where_the_sample_did_not_need_them(run, passes, change):
    other = with_sampling(run, **change)
    sample_of(other)
    assert passes == ["full"]
    assert counted(other) == by_hand(run)
    assert passes == ["full", "full"]


def test_on_the_feature_grid_they_are_pixels_and_not_cells(run):
    other = with_sampling(run, grid="feature")
    sample_of(other)
    assert counted(other) == by_hand(run)


def test_a_file_without_them_stays_valid(run, passes):
    """As earlier versions wrote it: neither drawn again nor written again."""
    sample = sample_of(run)
    change_metadata(run, lambda metadata: [metadata.pop(name) for name in ("class_pixels", "class_pixels_key")])
    before = run.sample_file(TARGET).read_bytes()
    passes.clear()
    assert_equal(sample_of(run), sample)
    assert passes == []
    assert counted(run) == by_hand(run)
    assert passes == ["full"]
    assert run.sample_file(TARGET).read_bytes() == before


def test_damaged_numbers_are_counted_again(run, passes):
    sample_of(run)
    change_metadata(run, lambda metadata: metadata.update(class_pixels=metadata["class_pixels"].replace(",", "1,", 1)))
    assert counted(run) == by_hand(run)
    assert len(passes) == 3


def test_numbers_of_other_label_maps_are_not_believed(run):
    sample_of(run)
    manifest = run.manifests[TARGET]
    low_shot = manifest.low_shot.model_copy(update={"limit": 4})
    fewer = replace(run, manifests={TARGET: manifest.model_copy(update={"low_shot": low_shot})})
    assert sum(counted(fewer)) < sum(by_hand(run))


def entry(folder: Path) -> dict[str, Any]:
    own = {"factory": "nets:Pyramid", "factory_folder": folder, "weights": folder / "Pyramid.safetensors"}
    return {"name": "net", "dataset": "elsewhere", **own, "classifier": "head", "mean": MEAN, "std": STD}


def test_a_score_is_that_of_all_labeled_pixels(run, tmp_path, small_world, monkeypatch):
    """The stage gives the counts of the classes that the sample shows; the stored score is that of the function."""
    seen: list[Observations] = []
    score_all = scoring.score_all
    monkeypatch.setattr(scoring, "score_all", lambda given, *more: seen.append(given) or score_all(given, *more))
    write_net(tmp_path, "Pyramid")
    manifest = small_world / "manifests" / f"{TARGET}.yaml"
    ranking = rank_sources(manifest, [entry(tmp_path)], metric="probe_miou", data_root=small_world)
    (o,) = seen
    assert o.class_pixels.tolist() == np.array(by_hand(run))[o.classes].tolist()
    expected = probe_miou(o.features, o.labels, o.image_index, o.class_pixels)
    assert ranking.scores["net"] == pytest.approx(expected, rel=1e-12)


def test_other_metrics_need_no_counts(run, tmp_path, monkeypatch):
    seen: list[Observations] = []
    score_all = scoring.score_all
    monkeypatch.setattr(scoring, "score_all", lambda given, *more: seen.append(given) or score_all(given, *more))
    write_net(tmp_path, "Pyramid")
    sources, _ = read_sources(entry(tmp_path))
    # Without the linear head, whose mIoU needs them.
    request = Request(run.manifests[TARGET], run.data_root, sources, {}, "ridge_probe", with_linear_head=False)
    rank_scored(request, tmp_path / "rank_scored")
    assert [o.class_pixels for o in seen] == [None]


def test_label_maps_that_cannot_be_counted_cost_only_the_metric_that_needs_them(tmp_path, small_world, monkeypatch):
    def fail(*_: Any) -> None:
        raise DataError("label map unreadable")

    monkeypatch.setattr(context, "class_pixels", fail)
    write_net(tmp_path, "Pyramid")
    manifest = small_world / "manifests" / f"{TARGET}.yaml"
    ranking = rank_sources(manifest, [entry(tmp_path)], metric="h_score", data_root=small_world)
    assert (ranking.best, ranking.skipped) == ("net", {})
    assert np.isnan(ranking.table["probe_miou"].tolist()).all()
