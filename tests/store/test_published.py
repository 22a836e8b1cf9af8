"""The shipped result tables: complete, as published, described, and refused when damaged."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from seg_transfer import resources
from seg_transfer.errors import ResultsError
from seg_transfer.evaluation import SOURCE_FACTS
from seg_transfer.metrics import METRICS
from seg_transfer.resources import shipped
from seg_transfer.store import results
from seg_transfer.store.key_parts import KEY_PARTS, parts_in
from seg_transfer.store.published import (
    NAMES,
    PAIRS,
    load_published,
    published_names,
    published_pairs,
    published_source_facts,
    published_studies,
)
from seg_transfer.store.tables import SCORES, metadata_of, read_table


def test_a_published_study_stays_what_it_was(monkeypatch):
    before = published_pairs("real7")[0]
    newer = {name: replace(metric, version=metric.version + 1) for name, metric in METRICS.items()}
    monkeypatch.setattr(results, "METRICS", newer)
    assert published_pairs("real7")[0].equals(before)


@pytest.mark.parametrize("name", published_studies())
def test_all_published_scores_of_a_metric_are_of_one_version(name):
    versions = {}
    for file in sorted((published_studies()[name] / "scores").glob("*/*.parquet")):
        for metric, parts in parts_in(metadata_of(read_table(file, SCORES), KEY_PARTS)).items():
            versions.setdefault(metric, set()).add(parts.get("version"))
    assert all(len(found) == 1 for found in versions.values()), versions


def test_segmentation_pairs_are_complete():
    pairs = load_published()
    assert list(pairs) == ["source", "target", "miou", "gbc", "leep", "nleep", "logme", "hscore", "n_target_classes"]
    assert len(pairs) == 17 * 16
    assert set(pairs["source"]) == set(pairs["target"])
    assert not pairs.duplicated(["source", "target"]).any()
    assert not (pairs["source"] == pairs["target"]).any()
    assert pairs["miou"].between(0, 1).all()
    assert pairs.notna().all(axis=None)


def test_values_as_published():
    pair = load_published().set_index(["source", "target"]).loc[("bdd", "ade20k")]
    published = [0.2162834405899048, -1399.846320632, -3.51857543, -2.172634363, 1.304362416, 369.282074, 150]
    assert pair.tolist() == published
    architecture = load_published("architecture").set_index(["source_architecture", "target"])
    assert architecture.loc[("resnet50", "sun397"), "accuracy_fine_tuned"] == 0.6595402
    assert architecture.shape == (171, 7)


def test_class_counts():
    counts = load_published().groupby("target")["n_target_classes"].unique().map(list).to_dict()
    assert counts == {
        **{"ade20k": [150], "bdd": [19], "camvid": [31], "cityscapes": [32], "coco": [133], "idd": [34], "isaid": [15]},
        **{"isprs": [5], "kitti": [32], "mapillary": [65], "pascal_context": [60], "pascal_voc": [21], "scannet": [40]},
        **{"suim": [7], "sun_rgbd": [37], "vgallery": [9], "vkitti2": [14]},
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_column_is_described_and_the_fault_is_marked(name):
    schema = pq.read_schema(shipped(f"data_manifests/published/{name}_pairs.parquet"))
    columns = json.loads(schema.metadata[b"columns"])
    assert list(columns) == schema.names
    assert all(entry["unit"] and entry["meaning"] for entry in columns.values())
    assert [column for column, entry in columns.items() if entry.get("faulty")] == ["hscore"]
    assert b"Apache-2.0" in schema.metadata[b"licence"]
    assert schema.metadata[b"commit"] == b"4963f325"
    assert b"ECCV 2022" in schema.metadata[b"origin"]


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_can_be_evaluated(name):
    pairs, performance = published_pairs(name)
    assert {"source", "target", "miou", "n_target_classes"} < set(pairs)
    assert performance == ("mIoU" if name == "segmentation" else "accuracy")
    assert pairs.notna().all(axis=None)
    measured = [column for column in pairs if column.startswith("accuracy")]
    assert measured == []  # it would be read as a metric


def test_either_accuracy_of_an_architecture_is_its_performance():
    raw = load_published("architecture")
    for name, column in (("architectures", "accuracy_fine_tuned"), ("architectures_frozen", "accuracy_frozen")):
        pairs = published_pairs(name)[0]
        assert pairs["miou"].tolist() == raw[column].tolist()
        assert pairs["source"].tolist() == raw["source_architecture"].tolist()
        assert pairs["gbc"].tolist() == raw["gbc"].tolist()
    classes = pairs.groupby("target")["n_target_classes"].unique().map(list).to_dict()
    assert len(classes) == 9
    assert (classes["cifar100"], classes["sun397"], classes["dtd"]) == ([100], [397], [47])


def test_studies_are_found():
    assert published_studies()["real7"] == shipped("data_manifests/published/real7")
    assert published_names() == (*PAIRS, *published_studies())
    pairs, performance = published_pairs("real7")
    assert performance == "mIoU"
    assert len(pairs[pairs["source"] != "scratch"]) == 42


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_have_the_facts_about_their_sources(name):
    pairs = published_pairs(name)[0]
    facts = published_source_facts(PAIRS[name][0])
    known = [column for column in pairs if column in SOURCE_FACTS]
    assert known == list(facts)
    for _, pair in pairs.iterrows():
        assert pair[known].tolist() == facts.loc[pair["source"]].tolist()


def test_a_fact_that_one_source_lacks_is_left_out(monkeypatch):
    facts = published_source_facts("architecture")
    facts.loc["vgg16", "gflops"] = float("nan")
    monkeypatch.setattr("seg_transfer.store.published.published_source_facts", lambda _: facts)
    pairs, _ = published_pairs("architectures")
    assert {"parameters", "own_miou"} <= set(pairs)
    assert "gflops" not in pairs


def test_unknown_pairs():
    with pytest.raises(ResultsError, match="'architecture' are unknown; choose among segmentation, architectures"):
        published_pairs("architecture")


def test_unknown_table():
    with pytest.raises(ResultsError, match="'moon' is unknown; choose one of segmentation, architecture"):
        load_published("moon")


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A package folder as a wheel leaves it, with a stranger's data_manifests beside it."""
    published = tmp_path / "seg_transfer" / "_shipped" / "data_manifests" / "published"
    published.mkdir(parents=True)
    (tmp_path / "data_manifests" / "stranger").mkdir(parents=True)
    original = shipped("data_manifests/published/segmentation_pairs.parquet")
    (published / original.name).write_bytes(original.read_bytes())
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "seg_transfer")
    return published


def test_found_in_a_wheel_and_only_there(wheel):
    assert shipped("data_manifests/published") == wheel
    assert len(load_published()) == 272
    with pytest.raises(ResultsError, match="stranger: this shipped file is missing"):
        shipped("data_manifests/stranger")


def test_a_flipped_bit_or_a_torn_file_is_refused(wheel):
    file = wheel / "segmentation_pairs.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[:600] + bytes([whole[600] ^ 1]) + whole[601:])
    with pytest.raises(ResultsError, match=r"segmentation_pairs.parquet: not a readable Parquet file") as caught:
        load_published()
    assert "\n" not in str(caught.value)
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ResultsError, match="not a readable Parquet file"):
        load_published()
