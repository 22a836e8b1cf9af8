"""300 classes through every stage: class 255 is a class, and 65535 is ignored."""

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from end_to_end.conftest import copied
from wide_world import IGNORED, N_CLASSES, label_map, write_wide_dataset

from seg_transfer.data.images import resize_to_short_side
from seg_transfer.data.manifest import load_manifest
from seg_transfer.data.rgb import read_rgb
from seg_transfer.metrics import METRICS, gbc
from seg_transfer.models.loading import load_source_model
from seg_transfer.training.evaluate import predict

ONE = ("--source", "day_street", "--target", "wide")


@pytest.fixture(scope="module")
def wide(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """day_street on the 300 classes, and a source of the 300 classes on dusk_street; scored, one pair fine-tuned."""
    workspace = copied(trained, tmp_path_factory.mktemp("wide"))
    write_wide_dataset(workspace.world)
    fields = workspace.study_fields()
    workspace.change(
        sources=["day_street", "wide"],
        targets=["wide", "dusk_street"],
        metrics=[name for name, metric in METRICS.items() if "scores" not in metric.needs and metric.installed],
        sampling={"pixels_per_image": 400},
        keep_features=True,
        fine_tuning={**fields["fine_tuning"], "keep_weights": True},
    )
    workspace.done("train-sources", "--source", "wide")
    workspace.done("score-pairs")
    workspace.done("finetune-pairs", *ONE)
    return workspace


def columns(file: Any) -> dict[str, np.ndarray]:
    table = pq.read_table(file, partitioning=None)
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


def test_the_sample_holds_the_classes_of_the_label_maps(wide):
    file = wide.run / "samples" / "wide.parquet"
    sample = columns(file)
    assert pq.read_schema(file).field("label").type == pa.uint16()
    assert pq.read_schema(wide.run / "samples" / "dusk_street.parquet").field("label").type == pa.uint8()
    images = [int(name.rpartition("/")[2]) for name in sample["image_id"]]
    maps = np.stack([label_map(number) for number in range(4)])
    np.testing.assert_array_equal(sample["label"], maps[images, sample["row"], sample["column"]])
    assert len(images) == 1600
    assert {255, 256, 299} <= set(sample["label"].tolist())


def test_audit_counts_every_class(wide, invoke):
    ended = invoke("audit", wide.world / "manifests/wide.yaml", "--data-root", wide.world, "--json")
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    train, maps = report["splits"]["train"], np.stack([label_map(number) for number in range(4)])
    assert [entry["pixels"] for entry in train["classes"].values()] == [
        int((maps == index).sum()) for index in range(N_CLASSES)
    ]
    assert train["ignored_share"] == (maps < 0).mean()
    assert train["missing_classes"] == []


def test_every_metric_scores_both_ways(wide):
    found = {(row["source"], row["target"], row["metric"]): row for row in wide.rows("scores")}
    assert {row["n_classes"] for row in wide.rows("scores") if row["target"] == "wide"} == {N_CLASSES}
    assert {row["n_source_classes"] for row in wide.rows("scores") if row["source"] == "wide"} == {N_CLASSES}
    metrics = {metric for *_, metric in found}
    assert len(metrics) >= 14
    for pair in (("day_street", "wide"), ("wide", "dusk_street"), ("day_street", "dusk_street")):
        assert all(math.isfinite(found[(*pair, metric)]["score"]) for metric in metrics)


@pytest.mark.parametrize(("source", "target"), [("day_street", "wide"), ("wide", "dusk_street")])
def test_scores_are_those_of_a_hand_count(wide, source, target):
    file = wide.run / "features" / source / f"{target}.parquet"
    stored = pq.read_table(file, partitioning=None)
    features, probs = (
        np.stack([np.frombuffer(row, np.float16) for row in stored[name].to_pylist()]).astype(float)
        for name in ("features", "source_probs")
    )
    labels = stored["label"].to_numpy()
    assert labels.dtype == (np.uint16 if target == "wide" else np.uint8)
    np.testing.assert_array_equal(labels, columns(wide.run / "samples" / f"{target}.parquet")["label"])
    scores = {
        row["metric"]: row["score"] for row in wide.rows("scores") if (row["source"], row["target"]) == (source, target)
    }
    joint = np.stack([probs[labels == label].sum(axis=0) for label in range(N_CLASSES)])
    given = joint / joint.sum(axis=0)
    leep = np.mean([math.log(given[label] @ row) for label, row in zip(labels.tolist(), probs, strict=True)])
    assert scores["leep"] == pytest.approx(leep, rel=1e-9)
    best, entropy = probs.argmax(axis=1), 0.0
    for index in range(probs.shape[1]):
        shares = np.unique(labels[best == index], return_counts=True)[1]
        entropy -= sum(n * math.log(n / shares.sum()) for n in shares.tolist()) / len(labels)
    assert scores["nce"] == pytest.approx(-entropy, rel=1e-9)
    assert scores["gbc"] == pytest.approx(gbc(features, labels), rel=1e-6)


def test_miou_is_that_of_a_hand_count(wide):
    (row,) = wide.rows("performance")
    manifest = load_manifest(wide.world / "manifests/wide.yaml")
    network = load_source_model(wide.run / "fine_tuned/day_street/wide/0/source.json")
    maps = np.stack([label_map(number) for number in (4, 5)])
    images = [read_rgb(wide.world / f"wide/eval/images/{number}.png") for number in (4, 5)]
    shown = [resize_to_short_side(image, manifest.crop_size[0]) for image in images]
    predictions = np.stack([predict(network, image, maps.shape[1:]) for image in shown])
    predictions[maps < 0] = -1
    both = [((maps == index) & (predictions == index)).sum() for index in range(N_CLASSES)]
    either = [((maps == index) | (predictions == index)).sum() for index in range(N_CLASSES)]
    ious = np.divide(both, either)
    assert max(ious) > 0
    assert row["class_iou"] == pytest.approx(ious, abs=1e-12)
    assert row["miou"] == pytest.approx(np.mean(ious), abs=1e-12)


def test_a_value_that_no_class_has_is_named(wide, copy_of, invoke):
    workspace = copy_of(wide)
    file = workspace.world / "manifests/wide.yaml"
    file.write_text(file.read_text().replace(f"- {IGNORED}\n", "- 9\n"))
    ended = invoke("audit", file, "--data-root", workspace.world)
    assert "value 7 at row 0, column 0 is not in the label map of wide" in ended.out


def test_explanations_and_the_report_show_many_classes(wide, copy_of, run_explain, invoke):
    workspace = copy_of(wide)
    workspace.change(sources=["day_street"], targets=["wide"], metrics=["gbc", "leep"])
    run_explain(workspace, "--target", "wide")
    explained = workspace.run / "explanations/day_street/wide"
    overlaps, classes = columns(explained / "overlaps.parquet"), columns(explained / "classes.parquet")
    labels = columns(workspace.run / "samples/wide.parquet")["label"]
    assert len(overlaps["overlap"]) == N_CLASSES * (N_CLASSES - 1) / 2
    scored = {(row["source"], row["target"], row["metric"]): row["score"] for row in workspace.rows("scores")}
    score = scored["day_street", "wide", "gbc"]
    assert -2 * overlaps["overlap"].sum() == pytest.approx(score, rel=1e-6)
    np.testing.assert_array_equal(classes["n_pixels"], np.bincount(labels, minlength=N_CLASSES))
    ended = invoke("report", workspace.run)
    assert ended.code == 0, ended.err
    assert "day_street" in (workspace.run / "report/report.html").read_text()
