"""Equal keys mean equal numbers: what influences a number changes the key, and nothing else does."""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.record import Record
from seg_transfer.store import content_key as module
from seg_transfer.store.content_key import content_key, manifest_key, records_key, settings_key, sha256_of_file

MANIFEST = {
    "name": "mini",
    "title": "A miniature",
    "domain": "driving",
    "classes": ["sky", "road", "car"],
    "root": "mini",
    "labels": {"encoding": "id", "ignore": [255], "map": {0: 0, 1: 1, 2: 2}},
    "train": {"images": "train/images/*.png", "labels": "train/labels/*.png"},
    "eval": {"images": "test/images/*.png", "labels": "test/labels/*.png"},
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.3, 0.1],
    "crop_size": [16, 24],
}
COLORS = {"encoding": "rgb", "colours": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "ignore": [[3, 2, 1]]}
DECISIVE = {
    "name": "maxi",
    "classes": ["sky", "car", "road"],
    "labels": {"encoding": "id", "ignore": [255], "map": {0: 0, 1: 2, 2: 1}},
    "images": {"exif": "apply"},
    "tiles": {"size": 512},
    "columns": {"image": "picture", "label": "mask"},
    "train": {"images": "train/images/*.jpg", "labels": "train/labels/*.png"},
    "eval": {"images": "test/images/*.png", "labels": "test/labels/*.png", "exclude": "test/images/b.png"},
    "source_train": {"images": "more/images/*.png", "labels": "more/labels/*.png"},
    "pairing": {"image": "([a-z]+).png", "label": "([a-z]+)_label.png"},
    "low_shot": {"limit": 149},
    "mean": [0.4, 0.5, 0.6000001],
    "std": [0.2, 0.1, 0.3],
    "crop_size": [24, 16],
}
OF_NO_ACCOUNT = {
    "title": "Another title",
    "domain": "aerial",
    "root": "elsewhere/mini",
    "licence": "CC0",
    "citation": "Somebody, 2020",
    "obtain": "Somewhere.",
    "notes": "Seen twice.",
    "trust_mtime": True,
}


def key_with(**changes: object) -> str:
    return manifest_key(DatasetManifest.model_validate(MANIFEST | changes))


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """Three records with files of equal sizes and one fixed time."""
    found = []
    for name in "abc":
        image, label = tmp_path / f"{name}.jpg", tmp_path / f"{name}.png"
        for file in (image, label):
            put(file, f"bytes of {file.name}".encode())
        found.append(Record(name, image, label))
    return found


def put(file: Path, content: bytes, time: int = 1_700_000_000) -> None:
    file.write_bytes(content)
    os.utime(file, (time, time))


def in_a_new_process(records: list[Record], **options: bool) -> str:
    module._SHA256_CACHE.clear()
    return records_key(records, **options)


def test_key_is_the_hash_of_sorted_json():
    text = '{"a": [1, 2.5], "b": {"x": null, "y": true}, "schema_version": 1}'
    assert content_key(b={"y": True, "x": None}, a=[1, 2.5]) == hashlib.sha256(text.encode()).hexdigest()


def test_names_values_and_nesting_all_count():
    keys = [content_key(a=1), content_key(b=1), content_key(a=2), content_key(a="1"), content_key(a=[1]), content_key()]
    assert len(set(keys)) == len(keys)


def test_another_schema_version_is_another_key(monkeypatch):
    before = content_key(a=1)
    monkeypatch.setattr(module, "SCHEMA_VERSION", module.SCHEMA_VERSION + 1)
    assert content_key(a=1) != before


def test_every_field_of_a_manifest_is_classified():
    assert DECISIVE.keys() | OF_NO_ACCOUNT.keys() == DatasetManifest.model_fields.keys()


def test_each_decisive_field_has_a_key_of_its_own():
    keys = {field: key_with(**{field: value}) for field, value in DECISIVE.items()}
    assert len({*keys.values(), key_with()}) == len(DECISIVE) + 1


@pytest.mark.parametrize("field", OF_NO_ACCOUNT)
def test_fields_without_influence_do_not_change_the_key(field):
    assert key_with(**{field: OF_NO_ACCOUNT[field]}) == key_with()


@pytest.mark.parametrize(
    ("labels", "key"),
    [
        (MANIFEST["labels"], "7211f765904fbb9d4ff3ca02e77fad3cabded6c9aed56a7fea5c9c0d1ef0f5f9"),
        (COLORS, "6ac78e6856476e4ac357f9fae89e8410be53fbebfe7cbd3110132fb226b34e6c"),
    ],
)
def test_empty_optional_fields_do_not_change_keys(labels, key):
    """Numbers of the time before labels.crop, stems and obtain."""
    assert key_with(labels=labels) == key


def test_optional_fields_count_where_they_are_given():
    stems = {**MANIFEST["train"], "stems": "train.txt"}
    crops = [{**COLORS, "crop": {"a": size}} for size in ([3, 4], [4, 3])]
    keys = [key_with(), key_with(train=stems), key_with(labels=COLORS), *(key_with(labels=crop) for crop in crops)]
    assert len(set(keys)) == len(keys)


def test_the_key_of_records_without_segments_is_stable(records):
    key = "dde76147f7b340ba31d6a3b0bf04a82f5e9486cab670c18cd69eb5f826165c0b"
    assert records_key(records, trust_mtime=False) == key


@pytest.mark.parametrize("trust_mtime", [False, True])
@pytest.mark.parametrize("part", ["image", "label"])
def test_a_changed_byte_changes_the_key(records, part, trust_mtime):
    before = records_key(records, trust_mtime=trust_mtime)
    file = getattr(records[1], part)
    put(file, file.read_bytes()[:-1] + b"!", time=1_700_000_001)
    assert records_key(records, trust_mtime=trust_mtime) != before


def test_ids_images_and_labels_are_not_interchangeable(records):
    before = records_key(records, trust_mtime=False)
    first, *others = records
    for changed in (
        [Record("z", first.image, first.label), *others],
        [Record("a", first.label, first.image), *others],
        [Record("a", others[0].image, first.label), Record("b", first.image, others[0].label), others[1]],
        others,
    ):
        assert records_key(changed, trust_mtime=False) != before


def test_times_replace_content_only_with_trust_mtime(records):
    trusting, reading = (in_a_new_process(records, trust_mtime=trust) for trust in (True, False))
    put(records[0].label, b"bytes of A.png")
    assert in_a_new_process(records, trust_mtime=True) == trusting
    assert in_a_new_process(records, trust_mtime=False) != reading
    put(records[0].label, b"bytes of a.png", time=1_800_000_000)
    assert in_a_new_process(records, trust_mtime=True) != trusting
    assert in_a_new_process(records, trust_mtime=False) == reading


def test_bytes_count_at_every_path(records, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    there = [
        Record(record.image_id, *(Path(shutil.copy(file, moved)) for file in (record.image, record.label)))
        for record in records
    ]
    assert records_key(there, trust_mtime=False) == records_key(records, trust_mtime=False)


@pytest.mark.usefixtures("later")
def test_each_version_of_a_file_is_read_once(records, monkeypatch):
    opened = []
    original = Path.open

    def noted(self: Path, *args: object, **options: object) -> object:
        opened.append(self.name)
        return original(self, *args, **options)

    module._SHA256_CACHE.clear()
    monkeypatch.setattr(Path, "open", noted)
    for _ in range(3):
        records_key(records, trust_mtime=False)
    assert sorted(opened) == ["a.jpg", "a.png", "b.jpg", "b.png", "c.jpg", "c.png"]
    records_key(records, trust_mtime=True)
    assert len(opened) == 6


def test_sha256(tmp_path):
    content = np.random.default_rng(0).bytes(3_000_000)
    (tmp_path / "file").write_bytes(content)
    assert sha256_of_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_another_precision_changes_the_settings_of_scores_alone():
    def key(kind: str, **fields: str) -> str:
        resolved = {"study": {"normalisation": "model", **fields}, "manifests": {"town": {"name": "town"}}}
        return settings_key(kind, resolved, "town")

    for kind in ("scores", "performance"):
        assert key(kind) == key(kind, precision="float32")  # studies of earlier versions lack the field
        assert (key(kind) == key(kind, precision="bfloat16")) == (kind == "performance")


def test_a_source_with_settings_of_its_own_has_its_own_settings_key():
    """Others share the keys that they had before sources had settings."""
    resolved = {
        "study": {"normalisation": "model", "sources": [{"name": "plain"}, {"name": "own", "learning_rate": 0.1}]},
        "manifests": {"town": {"name": "town"}},
        "fine_tuning_schedule": {"steps": 3},
    }
    for kind in ("scores", "performance"):
        shared = settings_key(kind, resolved, "town")
        assert {settings_key(kind, resolved, "town", name) for name in ("plain", "scratch")} == {shared}
        assert (settings_key(kind, resolved, "town", "own") == shared) == (kind == "scores")
        resolved["study"]["sources"][0]["features"] = "stages"
        assert settings_key(kind, resolved, "town", "plain") != shared
        del resolved["study"]["sources"][0]["features"]


def test_the_control_from_scratch_has_the_settings_of_the_studys_own_model():
    resolved = {
        "study": {"normalisation": "model", "sources": [{"name": "plain"}], "model": "net.py"},
        "manifests": {"town": {"name": "town"}},
    }
    shared = settings_key("performance", resolved, "town", "scratch")
    assert shared == settings_key("performance", resolved, "town", "plain")
    keys = {shared}
    for model in (
        {"timm": "resnet18"},
        {"timm": "resnet18", "learning_rate": 0.1},
        {"timm": "resnet18", "learning_rate": 0.2},
    ):
        resolved["study"]["model"] = model
        keys.add(settings_key("performance", resolved, "town", "scratch"))
        assert settings_key("performance", resolved, "town", "plain") == shared
    assert len(keys) == 3
