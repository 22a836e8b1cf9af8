"""One study of sources of three libraries: scored together, planned without torch, and stale when they change."""

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mixed_sources import NETS, TARGETS, other_field, scores
from other_nets import MEAN, STD, write_net
from PIL import Image
from safetensors.torch import load_file, save_file

from seg_transfer.data.images import resize_to_short_side, short_side_size
from seg_transfer.metrics import gbc, leep
from seg_transfer.stages.sampling import pixel_sample
from seg_transfer.study.run import open_run


def planned(workspace: Any, invoke: Any) -> dict[str, dict[str, Any]]:
    ended = invoke("plan", *workspace.place(), "--trust-config", "--json")
    assert (ended.code, ended.err) == (0, "")
    return {item["name"]: item for item in json.loads(ended.out)["items"] if item["kind"] == "score"}


def test_models_of_all_kinds_are_in_one_table(mixed):
    found = scores(mixed)
    # A source that gives scores only has those of probabilities; one whose own images are not available has no ids.
    wanted = {("day_street", target, metric) for target in TARGETS for metric in ("gbc", "leep", "ids")}
    wanted |= {(name, target, metric) for name in NETS for target in TARGETS for metric in ("gbc", "leep")}
    wanted -= {("prototypes", target, "gbc") for target in TARGETS}
    wanted |= {("segformer", "dusk_street", metric) for metric in ("gbc", "leep", "ids")}
    assert found.keys() == wanted
    widths = {row["source"]: row["n_source_classes"] for row in found.values()}
    assert {name: widths[name] for name in ("tokens", "dictionary", "prototypes", "segformer")} == {
        "tokens": 4,
        "dictionary": 3,
        "prototypes": 3,
        "segformer": 5,
    }
    assert len({row["score"] for row in found.values()}) == len(found)


def test_what_is_skipped_is_reported_once(mixed):
    said = (mixed.study.parent / "said.txt").read_text().splitlines()
    about = [line for line in said if "skipped" in line]
    assert about == [
        "source tokens: its own images are not in this study (dataset elsewhere has no manifest); skipped ids",
        "source dictionary: its own images are not in this study (dataset elsewhere has no manifest); skipped ids",
        "source prototypes: scores_only, its features are unknown; skipped gbc, ids",
    ]


def test_a_warning_says_that_factories_are_code(mixed):
    folder = mixed.study.parent
    assert (folder / "warned.txt").read_text().splitlines() == [
        f"seg-transfer: warning: factory nets:{name} (looked for in {folder}) is Python code and will be run; "
        "pass --trust-config if you trust it"
        for name in NETS.values()
    ]


def test_the_scores_are_those_of_an_image_by_image_computation(mixed):
    """Each whole answer of the network is enlarged to the image and indexed; its features likewise."""
    run = open_run(mixed.study, mixed.world)
    records = run.low_shot("dusk_street")
    sample = pixel_sample(replace(run, folder=mixed.run), "dusk_street", records)
    net = write_net(mixed.study.parent, "Tokens")
    features, probabilities = [], []
    side = min(run.manifests["dusk_street"].crop_size)
    for index, record in enumerate(records):
        image = resize_to_short_side(np.asarray(Image.open(record.image).convert("RGB")), side)
        assert image.shape[:2] == short_side_size(*sample.image_sizes[index], side)
        tensor = torch.tensor(image).float().permute(2, 0, 1) / 255
        tensor = (tensor - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        with torch.inference_mode():
            seen = torch.tanh(net.stem(tensor.flip(0)[None]))  # channel_order: bgr
        of_image = sample.image_index == index
        size = tuple(sample.image_sizes[index])
        whole = F.interpolate(seen, size=size, mode="bilinear")[0]
        at_pixels = whole[:, sample.rows[of_image], sample.columns[of_image]].T
        features.append(at_pixels.numpy())
        with torch.inference_mode():
            probabilities.append(net.head(at_pixels).softmax(dim=1).numpy())
    found = scores(mixed)
    by_hand = gbc(np.concatenate(features), sample.labels)
    assert found["tokens", "dusk_street", "gbc"]["score"] == pytest.approx(by_hand, rel=1e-4)
    by_hand = leep(np.concatenate(probabilities), sample.labels)
    assert found["tokens", "dusk_street", "leep"]["score"] == pytest.approx(by_hand, rel=1e-5)


def test_the_plan_agrees_that_nothing_is_missing(mixed, invoke):
    assert {item["state"] for item in planned(mixed, invoke).values()} == {"done"}
    assert json.loads(mixed.call("score-pairs", "--dry-run", "--json").out)["missing"] == []
    before = mixed.state()
    assert mixed.call("score-pairs").code == 0
    assert mixed.state() == before


def test_every_file_of_such_a_study_is_valid(own_copy, invoke):
    own_copy.change(fine_tuning=None)
    ended = invoke("plan", *own_copy.place(), "--trust-config", "--check")
    assert (ended.code, ended.err) == (0, "")


# A command that says at its end which modules it imported and which files it opened.
WATCHED = """
import json, sys
opened = []
sys.addaudithook(lambda event, about: opened.append(str(about[0])) if event == "open" else None)
from seg_transfer.cli import main
from seg_transfer.store import memo
memo._CLOCK_RESOLUTION_NS = 0  # the files are a moment old
try:
    main(sys.argv[1:])
finally:
    print(json.dumps([list(sys.modules), opened]), file=sys.stderr)
"""


def watched(*words: str) -> tuple[set[str], set[str]]:
    ended = subprocess.run([sys.executable, "-c", WATCHED, *words], capture_output=True, text=True, check=True)
    modules, opened = json.loads(ended.stderr.splitlines()[-1])
    return set(modules), set(opened)


def test_a_plan_imports_no_torch_and_reads_images_and_weights_once(own_copy):
    data = {str(file) for file in own_copy.study.parent.rglob("*") if file.suffix in {".png", ".jpg", ".safetensors"}}
    words = ["plan", *own_copy.place(), "--trust-config"]
    (modules, first), (_, second) = watched(*words), watched(*words)
    assert "seg_transfer.models.adapters" in modules
    assert not modules & {"torch", "transformers", "timm", "nets"}
    assert len(first & data) > 10
    assert not second & data


def other_weights(workspace: Any) -> None:
    file = workspace.study.parent / "Tokens.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)


def other_code(workspace: Any) -> None:
    with (workspace.study.parent / "nets.py").open("a") as file:
        file.write("# changed\n")


def other_preprocessor(workspace: Any) -> None:
    file = workspace.study.parent / "hub/preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"image_mean": [0.1, 0.2, 0.3]}))


def other_segformer(workspace: Any) -> None:
    file = workspace.study.parent / "hub/model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "sources", "reported"),
    [
        (other_weights, {"tokens"}, "weights of source tokens"),
        (other_code, {"tokens", "dictionary", "prototypes"}, "code of source "),
        (other_field(0, channel_order="rgb"), {"tokens"}, "channel_order of source tokens: bgr -> rgb"),
        (other_field(0, mean=[0.1, 0.2, 0.3]), {"tokens"}, "mean of source tokens: [0.4, 0.5, 0.6] -> [0.1, 0.2, 0.3]"),
        (other_field(1, classifier="other"), {"dictionary"}, "classifier of source dictionary: head -> other"),
        (other_preprocessor, {"segformer"}, "mean of source segformer: "),
        (other_segformer, {"segformer"}, "weights of source segformer"),
    ],
)
def test_what_decides_a_source_makes_its_scores_stale(own_copy, invoke, change, sources, reported):
    change(own_copy)
    stale = {name: item for name, item in planned(own_copy, invoke).items() if item["state"] != "done"}
    assert {name.split(" -> ")[0] for name in stale} == sources
    assert {item["state"] for item in stale.values()} == {"stale"}
    assert all(item["reasons"][0].startswith(reported) for item in stale.values()), stale


def test_a_changed_factory_gives_other_scores_in_the_same_process(own_copy):
    before = scores(own_copy)
    file = own_copy.study.parent / "nets.py"
    file.write_text(file.read_text().replace("torch.tanh(self.stem(images))", "torch.sin(self.stem(images))"))
    assert own_copy.call("score-pairs", "--trust-config").code == 0
    changed = {key for key, row in scores(own_copy).items() if row["score"] != before[key]["score"]}
    assert changed == {key for key in before if key[0] == "tokens"}
