"""One study of sources of three libraries: scored together, planned without torch, and told what cannot be done."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from other_nets import MEAN, STD, write_net
from PIL import Image
from safetensors.torch import load_file, save_file

from seg_transfer import rank_sources
from seg_transfer.data.images import resize_to_short_side, short_side_size
from seg_transfer.metrics import gbc, leep
from seg_transfer.models.compat import quiet
from seg_transfer.stages.sampling import pixel_sample
from seg_transfer.study.run import open_run

TARGETS = ["dusk_street", "cells_dark"]
NETS = {"tokens": "Tokens", "dictionary": "Dictionary", "prototypes": "Prototypes"}


def factory(name: str, **fields: Any) -> dict[str, Any]:
    network = NETS[name]
    return {
        "name": name,
        "dataset": "elsewhere",
        "factory": f"nets:{network}",
        "classifier": "head",
        "weights": f"{network}.safetensors",
        "mean": list(MEAN),
        "std": list(STD),
        **fields,
    }


ENTRIES = [
    factory("tokens", channel_order="bgr"),
    factory("dictionary"),
    {key: value for key, value in factory("prototypes", scores_only=True).items() if key != "classifier"},
    {"name": "segformer", "dataset": "cells_dark", "transformers": "hub"},
]


def write_segformer(folder: Path) -> None:
    with quiet():
        library = pytest.importorskip("transformers")
        config = library.SegformerConfig(
            num_labels=5,
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 2, 2, 4],
            decoder_hidden_size=24,
        )
        torch.manual_seed(1)
        library.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    preprocessor = {"do_normalize": True, "image_mean": list(MEAN), "image_std": list(STD)}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))


@pytest.fixture(scope="module")
def mixed(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """day_street, trained by the study, beside three factories and a SegFormer; all pairs are scored."""
    folder = tmp_path_factory.mktemp("mixed")
    for path in (trained.world, trained.run):
        shutil.copytree(path, folder / path.name)
    shutil.copy2(trained.study, folder)
    for network in NETS.values():
        write_net(folder, network)
    write_segformer(folder / "hub")
    bench = replace(trained, world=folder / "world", study=folder / "study.yaml", run=folder / "run")
    bench.change(sources=["day_street", *ENTRIES], targets=TARGETS, metrics=["gbc", "leep", "ids"])
    ended = bench.call("score-pairs")
    assert ended.code == 0, ended.err
    (folder / "said.txt").write_text(ended.out)
    (folder / "warned.txt").write_text(ended.err)
    return bench


@pytest.fixture
def copy(mixed: Any, tmp_path: Path) -> Any:
    folder = tmp_path / "copy"
    shutil.copytree(mixed.study.parent, folder)
    return replace(mixed, world=folder / "world", study=folder / "study.yaml", run=folder / "run")


def planned(bench: Any, invoke: Any) -> dict[str, dict[str, Any]]:
    ended = invoke("plan", *bench.place(), "--trust-config", "--json")
    assert (ended.code, ended.err) == (0, "")
    return {item["name"]: item for item in json.loads(ended.out)["items"] if item["kind"] == "score"}


def scores(bench: Any) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(row["source"], row["target"], row["metric"]): row for row in bench.rows("scores")}


def test_models_of_all_kinds_stand_in_one_table(mixed):
    found = scores(mixed)
    # Of a source that gives scores only: those of probabilities. Of one whose own images are not at hand: none of them.
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


def test_what_is_skipped_is_said_once(mixed):
    said = (mixed.study.parent / "said.txt").read_text().splitlines()
    about = [line for line in said if "skipped" in line]
    assert about == [
        "source tokens: its own images are not in this study (dataset elsewhere has no manifest); skipped ids",
        "source dictionary: its own images are not in this study (dataset elsewhere has no manifest); skipped ids",
        "source prototypes: scores_only, its features are unknown; skipped gbc, ids",
    ]


def test_factories_are_warned_of_as_code(mixed):
    folder = mixed.study.parent
    assert (folder / "warned.txt").read_text().splitlines() == [
        f"seg-transfer: warning: factory nets:{name} (looked for in {folder}) is Python code and will be run; "
        "--trust-config says that you trust it"
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


def test_every_file_of_such_a_study_is_whole(copy, invoke):
    copy.change(fine_tuning=None)
    ended = invoke("plan", *copy.place(), "--trust-config", "--check")
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


def test_a_plan_imports_no_torch_and_reads_images_and_weights_once(copy):
    data = {str(file) for file in copy.study.parent.rglob("*") if file.suffix in {".png", ".jpg", ".safetensors"}}
    words = ["plan", *copy.place(), "--trust-config"]
    (modules, first), (_, second) = watched(*words), watched(*words)
    assert "seg_transfer.models.adapters" in modules
    assert not modules & {"torch", "transformers", "timm", "nets"}
    assert len(first & data) > 10
    assert not second & data


def other_weights(bench: Any) -> None:
    file = bench.study.parent / "Tokens.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)


def other_code(bench: Any) -> None:
    with (bench.study.parent / "nets.py").open("a") as file:
        file.write("# changed\n")


def other_field(place: int, **fields: Any) -> Callable[[Any], None]:
    def change(bench: Any) -> None:
        entries = [{**entry, **(fields if number == place else {})} for number, entry in enumerate(ENTRIES)]
        bench.change(sources=["day_street", *entries])

    return change


def other_preprocessor(bench: Any) -> None:
    file = bench.study.parent / "hub/preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"image_mean": [0.1, 0.2, 0.3]}))


def other_segformer(bench: Any) -> None:
    file = bench.study.parent / "hub/model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "sources", "told"),
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
def test_what_decides_a_source_makes_its_scores_stale(copy, invoke, change, sources, told):
    change(copy)
    stale = {name: item for name, item in planned(copy, invoke).items() if item["state"] != "done"}
    assert {name.split(" -> ")[0] for name in stale} == sources
    assert {item["state"] for item in stale.values()} == {"stale"}
    assert all(item["reasons"][0].startswith(told) for item in stale.values()), stale


def test_a_changed_factory_gives_other_scores_in_the_same_process(copy):
    before = scores(copy)
    file = copy.study.parent / "nets.py"
    file.write_text(file.read_text().replace("torch.tanh(self.stem(images))", "torch.sin(self.stem(images))"))
    assert copy.call("score-pairs", "--trust-config").code == 0
    changed = {key for key, row in scores(copy).items() if row["score"] != before[key]["score"]}
    assert changed == {key for key in before if key[0] == "tokens"}


def test_without_scores_only_such_a_source_is_told_and_the_others_are_scored(copy):
    shutil.rmtree(copy.run / "scores")
    copy.change(sources=[{**ENTRIES[2], "scores_only": False, "classifier": "unused"}, *ENTRIES[:2]])
    line = copy.call("score-pairs", "--trust-config").reason(3)
    assert line.startswith("prototypes -> dusk_street: factory nets:Prototypes: network Prototypes: does not use its")
    assert {row["source"] for row in copy.rows("scores")} == {"tokens", "dictionary"}


def test_features_of_scores_are_not_kept(copy):
    copy.change(keep_features=True)
    assert copy.call("score-pairs", "--trust-config").code == 0
    files = {str(file.relative_to(copy.run / "features")) for file in (copy.run / "features").glob("*/*.parquet")}
    sources = ("day_street", "tokens", "dictionary")
    assert files >= {f"{source}/{target}.parquet" for source in sources for target in TARGETS}
    assert not any(name.startswith("prototypes") for name in files)
    assert json.loads(copy.call("score-pairs", "--dry-run", "--json", "--trust-config").out)["missing"] == []


def test_only_sources_of_mmsegmentation_are_fine_tuned(copy):
    names = [word for name in ("segformer", "tokens", "prototypes") for word in ("--source", name)]
    ended = copy.call("finetune-pairs", *names, "--target", "dusk_street", "--trust-config")
    assert ended.code == 3
    told = "cannot be fine-tuned here, only scored; bring it as an mmsegmentation config and checkpoint"
    failed = [line for line in ended.err.splitlines() if told in line]
    assert [line.split(": ")[2] for line in failed] == ["source tokens", "source prototypes", "source segformer"]
    assert copy.rows("performance") == []
    missing = json.loads(copy.call("finetune-pairs", *names, "--dry-run", "--json", "--trust-config").out)["missing"]
    assert {(one["seconds"], one["basis"]) for one in missing} == {(0.0, "nothing: such a source cannot be fine-tuned")}


def test_a_dry_run_times_the_networks_themselves(copy):
    shutil.rmtree(copy.run / "scores")
    missing = json.loads(copy.call("score-pairs", "--dry-run", "--json", "--trust-config").out)["missing"]
    items = {one["item"]: one for one in missing}
    assert items["prototypes -> dusk_street: leep"]["seconds"] > 0
    assert items["segformer -> dusk_street: gbc, leep, ids"]["basis"] == "a timed forward pass"


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({"factory": "../nets:Tokens"}, 3, "source 'tokens': field factory: '../nets:Tokens': must be package.module"),
        ({"factory": "nets:absent"}, 3, "factory nets:absent: cannot be run (AttributeError: "),
        ({"factory": "absent:build"}, 3, "factory absent:build: no module absent in "),
        ({"factory": "os:system"}, 3, "factory os:system: cannot be run (TypeError: "),
        ({"classifier": "absent"}, 3, "has no layer 'absent'; its last ones are stem, head"),
        ({"weights": "absent.pth"}, 5, "absent.pth: no such checkpoint file"),
        ({"weights": "Dictionary.safetensors"}, 5, "Dictionary.safetensors: lacks parameter head.weight"),
        ({"transformers": "hub"}, 3, "source 'tokens' has transformers and factory, which are two kinds of model"),
    ],
)
def test_a_wrong_entry_ends_in_one_line(copy, fields, code, told):
    other_field(0, **fields)(copy)
    line = copy.call("score-pairs", "--source", "tokens", "--trust-config").reason(code)
    if told.startswith("Dictionary"):
        told = "Dictionary.safetensors: "
    assert told in line


def rank(bench: Any, metric: str) -> Any:
    bank = bench.study.parent / "bank.yaml"
    bank.write_text(yaml.safe_dump({"sources": ENTRIES}))
    manifest = bench.world / "manifests/dusk_street.yaml"
    sources = [str(bank), str(bench.run / "sources/day_street")]
    return rank_sources(target=str(manifest), sources=sources, metric=metric, data_root=bench.world)


def test_models_of_all_kinds_stand_in_one_ranking(copy):
    """With the scores of a study that draws as many pixels, and in their order."""
    copy.change(sampling={"pixels_per_image": 1000})
    assert copy.call("score-pairs", "--trust-config").code == 0
    found = scores(copy)
    expected = {name: found[name, "dusk_street", "leep"]["score"] for name in ("day_street", "segformer", *NETS)}
    table = rank(copy, "leep").table
    assert dict(zip(table["source"], table["score"], strict=True)) == pytest.approx(expected)
    assert list(table["source"]) == sorted(expected, key=lambda name: -expected[name])


def test_a_ranking_by_features_goes_on_without_a_source_of_scores(copy):
    ranking = rank(copy, "gbc")
    assert set(ranking.table["source"]) == {"day_street", "tokens", "dictionary", "segformer"}
    assert ranking.skipped == {"prototypes": "can have no score by gbc; choose another metric"}


def test_features_are_explained_where_there_are_some(copy, invoke):
    line = invoke("explain", *copy.place(), "--target", "dusk_street", "--trust-config").reason(3)
    assert line == (
        "prototypes -> dusk_street: only scores can be had of this source (scores_only), and no features to explain; "
        "leave it out"
    )
    explained = {path.parent.name for path in (copy.run / "explanations").glob("*/dusk_street")}
    assert explained >= {"day_street", "tokens", "dictionary", "segformer"}
