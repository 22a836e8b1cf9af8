"""What a changed setting or file of a finished study makes stale, and what its recomputation changes."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.numpy import load_file, save_file
from small_study import DOMAINS, by_pair, missing

from seg_transfer.store.content_key import sha256_of_file


def test_another_number_of_pixels_gives_other_scores_and_the_same_performance(finished, copy_of):
    workspace = copy_of(finished)
    workspace.change(sampling={"pixels_per_image": 100})
    before = workspace.state("performance")
    workspace.done("score-pairs")
    assert workspace.done("finetune-pairs") == ""
    assert workspace.state("performance") == before
    new, old = by_pair(workspace.rows("scores")), by_pair(finished.rows("scores"))
    assert new.keys() == old.keys()
    for name, row in new.items():
        assert row["n_observations"] == 400
        assert row["content_key"] != old[name]["content_key"]
        assert row["score"] != old[name]["score"]


def test_another_number_of_target_images_trains_no_source_again(finished, copy_of):
    workspace = copy_of(finished)
    workspace.change(low_shot=3)
    before = workspace.state("sources")
    assert missing(workspace, "train-sources") == []
    assert workspace.done("train-sources") == ""
    assert workspace.state("sources") == before
    assert len(missing(workspace, "finetune-pairs")) == 9
    # With anything else changed too, sources are trained again.
    manifest = workspace.world / "manifests/cells_dark.yaml"
    manifest.write_text(manifest.read_text().replace("crop_size: [48, 64]", "crop_size: [32, 64]"))
    assert missing(workspace, "train-sources") == ["source cells_dark"]


@pytest.mark.parametrize(
    "change", [{"sampling": {"pixels_per_image": 200, "grid": "feature"}}, {"normalisation": "target"}]
)
def test_another_protocol_gives_other_keys_and_scores(finished, copy_of, change):
    workspace = copy_of(finished)
    workspace.change(**change)
    only = ("--source", "day_street", "--target", "cells_dark")
    workspace.done("score-pairs", *only)
    new, old = by_pair(workspace.rows("scores")), by_pair(finished.rows("scores"))
    changed = {name for name in new if new[name] != old[name]}
    assert changed == {("day_street", "cells_dark", metric) for metric in ("gbc", "leep")}
    for name in changed:
        assert new[name]["content_key"] != old[name]["content_key"]
        assert new[name]["score"] != old[name]["score"]
    n_trials_changed = len(missing(workspace, "finetune-pairs"))
    assert n_trials_changed == (9 if "normalisation" in change else 0)


def test_one_changed_label_pixel_recomputes_its_target_and_nothing_else(finished, copy_of):
    workspace = copy_of(finished)
    label = workspace.world / "cells_dark/train/labels/train_0002.png"
    pixels = np.array(Image.open(label))
    pixels[20, 30] = (pixels[20, 30] + 1) % 6
    Image.fromarray(pixels).save(label)

    assert missing(workspace, "train-sources") == []
    assert missing(workspace, "finetune-pairs") == [
        f"{source} -> cells_dark, seed 0" for source in ("scratch", "day_street", "dusk_street")
    ]
    workspace.done("score-pairs")
    new, old = by_pair(workspace.rows("scores")), by_pair(finished.rows("scores"))
    assert {name[1] for name in new if new[name] != old[name]} == {"cells_dark"}
    assert all((new[name]["content_key"] != old[name]["content_key"]) == (name[1] == "cells_dark") for name in new)


def test_other_weights_of_a_source_recompute_its_pairs_and_nothing_else(finished, copy_of):
    workspace = copy_of(finished)
    weights = workspace.run / "sources/day_street/weights.safetensors"
    tensors = load_file(weights)
    tensors["backbone.conv1.weight"] = tensors["backbone.conv1.weight"] * np.float32(1.5)
    save_file(tensors, weights)
    assert "its contents differ from what" in workspace.call("score-pairs", "--source", "day_street").reason(5)
    card = weights.parent / "source.json"
    fields = json.loads(card.read_text())
    card.write_text(json.dumps({**fields, "sha256": sha256_of_file(weights)}))

    assert missing(workspace, "finetune-pairs") == [f"day_street -> {t}, seed 0" for t in ("dusk_street", "cells_dark")]
    workspace.done("score-pairs")
    workspace.done("finetune-pairs")
    for kind in ("scores", "performance"):
        new, old = by_pair(workspace.rows(kind)), by_pair(finished.rows(kind))
        assert {name[0] for name in new if new[name] != old[name]} == {"day_street"}
        assert all((new[name]["content_key"] != old[name]["content_key"]) == (name[0] == "day_street") for name in new)


def test_a_changed_training_makes_scores_of_the_old_sources_an_error_until_they_are_trained(finished, copy_of):
    workspace = copy_of(finished)
    training = yaml.safe_load(workspace.study.read_text())["source_training"]
    workspace.change(source_training={**training, "seed": 1})
    ended = workspace.call("score-pairs", "--source", "day_street")
    assert ended.code == 5
    assert "trained with other settings" in ended.err
    assert "run train-sources again" in ended.err
    assert missing(workspace, "train-sources") == [f"source {name}" for name in DOMAINS]

    workspace.done("train-sources", "--source", "day_street")
    workspace.done("score-pairs", "--source", "day_street")
    new, old = by_pair(workspace.rows("scores")), by_pair(finished.rows("scores"))
    assert {name[0] for name in new if new[name]["score"] != old[name]["score"]} == {"day_street"}


def test_weights_that_were_deleted_are_trained_again_and_are_the_same(trained, copy_of):
    workspace = copy_of(trained)
    weights = workspace.run / "sources/cells_dark/weights.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    assert missing(workspace, "train-sources") == ["source cells_dark"]
    workspace.done("train-sources")
    assert weights.read_bytes() == content
