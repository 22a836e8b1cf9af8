"""`seg-transfer predict` on a trained source: what it writes gives the mIoU that the training reports."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg_transfer.data.images import read_label
from seg_transfer.data.manifest import DatasetManifest, load_manifest
from seg_transfer.data.record import Record
from seg_transfer.data.records import list_records
from seg_transfer.prediction.take_home import loader_text
from seg_transfer.store.source_card import read_source_card
from seg_transfer.training.iou import confusion_counts, segmentation_quality


def eval_split(workspace: Any, dataset: str = "day_street") -> tuple[DatasetManifest, list[Record], Path]:
    manifest = load_manifest(workspace.world / "manifests" / f"{dataset}.yaml")
    records = list_records(manifest, workspace.world, "eval")
    return manifest, records, records[0].image.parent


def miou_of(written: Path, manifest: DatasetManifest, records: list[Record]) -> float:
    """The mIoU of the label maps in a folder."""
    n_classes = len(manifest.classes)
    counts = np.zeros((n_classes, n_classes), np.int64)
    for record in records:
        label_map = Record(record.image_id, record.image, written / f"{record.image.stem}.png")
        predicted = read_label(label_map, manifest)
        assert (predicted < n_classes).all()
        counts += confusion_counts(read_label(record, manifest), predicted, n_classes, manifest.ignore_index)
    return segmentation_quality(counts, len(records)).miou


def size_of(file: Path) -> tuple[int, int]:
    with Image.open(file) as image:
        return image.size


def test_the_written_label_maps_have_the_quality_of_the_card(trained, invoke, tmp_path):
    folder = trained.run / "sources" / "day_street"
    manifest, records, images = eval_split(trained)
    ended = invoke("predict", folder, "--images", images, "--out", tmp_path / "out", "--threads", "1")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == (f"{len(records)} images: label map and overlay of each in {tmp_path / 'out'}")
    for record in records:
        overlay = tmp_path / "out" / f"{record.image.stem}_overlay.png"
        assert size_of(overlay) == size_of(record.image)
    assert miou_of(tmp_path / "out", manifest, records) == read_source_card(folder / "source.json").miou


@pytest.mark.parametrize("name", ["segformer", "tokens"])
def test_kept_weights_of_other_libraries_have_the_quality_of_the_fine_tuning(own_copy, invoke, tmp_path, name):
    own_copy.change(fine_tuning={**own_copy.study_fields()["fine_tuning"], "keep_weights": True})
    only = ["--source", name, "--target", "dusk_street", "--trust-config"]
    assert own_copy.call("finetune-pairs", *only).code == 0
    manifest, records, images = eval_split(own_copy, "dusk_street")
    folder = own_copy.run / "fine_tuned" / name / "dusk_street" / "0"
    ended = invoke("predict", folder, "--images", images, "--out", tmp_path / "out", "--threads", "1")
    assert ended.code == 0
    warned = [f"factory nets:Tokens (looked for in {own_copy.study.parent}) is Python code"] if name == "tokens" else []
    assert [line.partition("warning: ")[2].partition(" and will")[0] for line in ended.err.splitlines()] == warned
    (row,) = [row for row in own_copy.rows("performance") if row["source"] == name]
    assert miou_of(tmp_path / "out", manifest, records) == row["miou"]


def test_numbers_of_pixels_are_given_as_json(trained, invoke, tmp_path):
    folder = trained.run / "sources" / "day_street"
    _, records, images = eval_split(trained)
    words = ["--images", images, "--out", tmp_path / "out", "--no-overlay", "--threads", "1", "--json"]
    ended = invoke("predict", folder, *words)
    assert (ended.code, ended.err) == (0, "")
    content = json.loads(ended.out)
    assert [each["image"] for each in content["images"]] == [str(record.image) for record in records]
    for each in content["images"]:
        values = np.asarray(Image.open(each["labels"]))
        assert each["overlay"] is None
        assert values.shape == (each["height"], each["width"])
        counted = {item["name"]: int((values == item["id"]).sum()) for item in content["classes"]}
        assert counted == each["pixels"]
    assert content["failed"] == {}
    assert len(list((tmp_path / "out").iterdir())) == len(records)


def test_bad_images_are_reported_and_the_others_written(trained, invoke, tmp_path):
    _, records, _ = eval_split(trained)
    good, bad = tmp_path / "in" / "good.png", tmp_path / "in" / "bad.png"
    good.parent.mkdir()
    good.write_bytes(records[0].image.read_bytes())
    bad.write_bytes(good.read_bytes()[:200])
    words = ["--images", good.parent, "--out", tmp_path / "out", "--threads", "1"]
    ended = invoke("predict", trained.run / "sources" / "day_street", *words)
    assert ended.reason(4).startswith(f"{bad}: cannot be decoded (")
    assert ended.err.splitlines()[1] == (
        f"seg-transfer: failed: {bad}; all others are written; fix or remove these images"
    )
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["good.png", "good_overlay.png"]


def test_turned_images_are_said_unless_an_option_decides(trained, invoke, tmp_path):
    _, records, _ = eval_split(trained)
    tags = Image.Exif()
    tags[0x0112] = 6
    with Image.open(records[0].image) as image:
        image.save(tmp_path / "turned.png", exif=tags)
        width, height = image.size
    words = [trained.run / "sources" / "day_street", "--images", tmp_path / "turned.png", "--out", tmp_path / "out"]
    said = {option: invoke("predict", *words, *(["--exif", option] if option else [])) for option in ("", "ignore")}
    assert said[""].code == said["ignore"].code == 0
    assert said["ignore"].err == ""
    assert said[""].err.startswith(f"seg-transfer: {tmp_path / 'turned.png'}: stored turned, and predicted as stored")
    assert size_of(tmp_path / "out" / "turned.png") == (width, height)
    assert invoke("predict", *words, "--exif", "apply").err == ""
    assert size_of(tmp_path / "out" / "turned.png") == (height, width)


def without(*fields: str) -> Any:
    def change(folder: Path) -> None:
        file = folder / "source.json"
        content = json.loads(file.read_text())
        file.write_text(json.dumps({name: value for name, value in content.items() if name not in fields}))

    return change


def fewer_ids(folder: Path) -> None:
    file = folder / "source.json"
    content = json.loads(file.read_text())
    content["labels"]["ids"].pop()
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (lambda folder: (folder / "source.json").unlink(), 3, "{}: has no source.json; name the folder of a trained"),
        (without("input"), 3, "{}/source.json: does not say how images are resized, because an older version wrote it"),
        (without("miou"), 5, "{}/source.json: not a readable source card"),
        (fewer_ids, 5, "{}/source.json: has 8 classes, ids of 7 and a network of 8; train the source again"),
        (
            lambda folder: (folder / "weights.safetensors").unlink(),
            5,
            "{}/weights.safetensors: no such checkpoint file",
        ),
        (
            lambda folder: (folder / "weights.safetensors").write_bytes(b"other"),
            5,
            "{}/weights.safetensors: its contents differ from what {}/source.json describes",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line(trained, copy_of, invoke, tmp_path, change, code, said):
    folder = copy_of(trained).run / "sources" / "day_street"
    change(folder)
    _, records, _ = eval_split(trained)
    ended = invoke("predict", folder, "--images", records[0].image, "--out", tmp_path / "out", "--threads", "1")
    assert ended.reason(code).startswith(said.format(*[folder] * 2))
    assert not (tmp_path / "out").exists()


def test_cards_of_older_versions_need_the_size_alone(trained, copy_of, invoke, tmp_path):
    manifest, records, _ = eval_split(trained)
    workspace = copy_of(trained)
    folder = workspace.run / "sources" / "day_street"
    words = ["--images", records[0].image, "--threads", "1", "--json"]
    ids = {"new": None, "old": None}
    for name in ids:
        options = ["--out", tmp_path / name, "--short-side", min(manifest.crop_size)]
        content = json.loads(invoke("predict", folder, *words, *options).out)
        ids[name] = content["images"][0]["pixels"]
        without("input", "labels")(folder)
    assert ids["new"] == ids["old"]
    assert workspace.done("train-sources") == ""  # the training is still valid


def test_the_folder_has_the_code_that_loads_it(trained, tuned):
    fine_tuned = next((tuned.run / "fine_tuned" / "day_street").glob("*/*"))
    for folder in (trained.run / "sources" / "day_street", fine_tuned):
        assert (folder / "load.py").read_text() == loader_text()
        assert "seg_transfer" not in loader_text()
        card = read_source_card(folder / "source.json")
        assert card.labels.ids == tuple(range(len(card.classes)))
        assert card.input.short_side == min(
            load_manifest(trained.world / "manifests" / f"{card.dataset}.yaml").crop_size
        )
