"""One change for every part of every content key: in a study, a manifest, a file, or the software itself."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from seg_transfer.metrics import METRICS
from seg_transfer.models.libraries import MMSEGMENTATION, library_versions
from seg_transfer.stages import score_keys
from seg_transfer.store import content_key
from seg_transfer.store.source_card import FILE_NAME
from seg_transfer.training.schedule import Schedule

Change = Callable[[Any, pytest.MonkeyPatch], None]
WEB = "web -> dusk_street"
FINE_TUNING = "web -> dusk_street, seed 0"


def study(**fields: Any) -> Change:
    def change(workspace: Any, _: Any) -> None:
        workspace.change(**{name: workspace.study_fields().get(name, {}) | value for name, value in fields.items()})

    return change


def setting(**fields: Any) -> Change:
    return lambda workspace, _: workspace.change(**fields)


def schedule(stage: str, name: str, value: Any) -> Change:
    def change(workspace: Any, _: Any) -> None:
        block = workspace.study_fields()[stage]
        workspace.change(**{stage: block | {"changes": block["changes"] | {name: value}}})

    return change


def manifest(dataset: str, **fields: Any) -> Change:
    def change(workspace: Any, _: Any) -> None:
        file = workspace.world / "manifests" / f"{dataset}.yaml"
        content = yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump(content | fields))

    return change


def renamed_classes(dataset: str) -> Change:
    def change(workspace: Any, patch: Any) -> None:
        content = yaml.safe_load((workspace.world / "manifests" / f"{dataset}.yaml").read_text())
        manifest(dataset, classes=[*content["classes"][:-1], "another"])(workspace, patch)

    return change


def split_as(dataset: str, field: str, split: str, **more: Any) -> Change:
    def change(workspace: Any, patch: Any) -> None:
        content = yaml.safe_load((workspace.world / "manifests" / f"{dataset}.yaml").read_text())
        manifest(dataset, **{field: content[split] | more})(workspace, patch)

    return change


def pixel(dataset: str, split: str) -> Change:
    """Change a pixel in one image of a split."""

    def change(workspace: Any, _: Any) -> None:
        file = sorted((workspace.world / dataset / split).rglob("*.*"))[0]
        pixels = np.array(Image.open(file))
        pixels[0, 0] = 255 - pixels[0, 0] if pixels.ndim == 3 else pixels[0, 0] ^ 1
        Image.fromarray(pixels).save(file)

    return change


def image_weights(workspace: Any, _: Any) -> None:
    """Name a file in place of ImageNet weights; nothing is trained here."""
    file = workspace.study.parent / "imagenet.pth"
    file.write_bytes(b"weights")
    study(source_training={"init_checkpoint": file.name})(workspace, _)


def version(_: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(content_key, "SCHEMA_VERSION", content_key.SCHEMA_VERSION + 1)


def metric_setting(metric: str, name: str) -> Change:
    def change(_: Any, patch: pytest.MonkeyPatch) -> None:
        changed = replace(METRICS[metric], settings={**METRICS[metric].settings, name: "another"})
        patch.setattr(score_keys, "METRICS", {**METRICS, metric: changed})

    return change


def metric_version(metric: str) -> Change:
    def change(_: Any, patch: pytest.MonkeyPatch) -> None:
        changed = replace(METRICS[metric], version=METRICS[metric].version + 1)
        patch.setattr(score_keys, "METRICS", {**METRICS, metric: changed})

    return change


def library(name: str) -> Change:
    def change(_: Any, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(score_keys, "library_versions", lambda libraries: {**library_versions(libraries), name: "0.1"})

    return change


def float32_only(_: Any, patch: pytest.MonkeyPatch) -> None:
    """Allow only float32; the networks were trained in bfloat16."""
    patch.setattr(Schedule, "arithmetics", ("float32",))


def own_config(part: str) -> Change:
    def change(workspace: Any, _: Any) -> None:
        file = workspace.study.parent / "web.json"
        content = json.loads(file.read_text())
        value = content["model"].get(part)
        content["model"][part] = {**value, "planted": 1} if isinstance(value, dict) else "planted"
        file.write_text(json.dumps(content))

    return change


def study_config(part: str) -> Change:
    """Change a value in one part of the study's own network."""

    def change(workspace: Any, _: Any) -> None:
        card = json.loads((workspace.run / "sources/day_street" / FILE_NAME).read_text())
        value = card["model"].get(part)
        card["model"][part] = {**value, "planted": 1} if isinstance(value, dict) else "planted"
        file = workspace.study.parent / "network.json"
        file.write_text(json.dumps({"model": card["model"]}))
        workspace.change(model=file.name)

    return change


def own_weights(workspace: Any, _: Any) -> None:
    file = workspace.study.parent / "web.safetensors"
    state = load_file(file)
    first = next(iter(state))
    save_file({**state, first: state[first] + 1}, file)


def planted_number(workspace: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(score_keys, "SOURCE_OBSERVATIONS", 7)


SCHEDULE = {
    "steps": 5,
    "batch_size": 3,
    "learning_rate": 0.06,
    "momentum": 0.8,
    "weight_decay": 0.1,
    "power": 1.0,
    "warmup_steps": 1,
    "scale_range": [0.5, 1.5],
    "flip_probability": 0.25,
    "crop_size": [32, 32],
    "checkpoint_every": 2,
    "mixed_precision": False,
}
SAMPLING = {"pixels_per_image": 100, "balance": "image", "grid": "feature", "seed": 5}
MODEL = ("type", "backbone", "decode_head", "train_cfg", "test_cfg", "data_preprocessor")


def manifest_changes(dataset: str) -> dict[str, Change]:
    """Change every field of a manifest that decides a number, except its name, which would mean another dataset."""
    return {
        "classes": renamed_classes(dataset),
        "labels": manifest_labels(dataset),
        "train": split_as(dataset, "train", "train", exclude="nothing/*.png"),
        "eval": split_as(dataset, "eval", "eval", exclude="nothing/*.png"),
        "source_train": split_as(dataset, "source_train", "train"),
        "pairing": manifest(dataset, pairing={"image": r"([^/]+)\.[a-z]+$", "label": r"([^/]+)\.[a-z]+$"}),
        "low_shot": manifest(dataset, low_shot={"limit": 150, "seed": 3}),
        "mean": manifest(dataset, mean=[0.1, 0.2, 0.3]),
        "std": manifest(dataset, std=[0.1, 0.2, 0.3]),
        "crop_size": manifest(dataset, crop_size=[40, 40]),
    }


def manifest_labels(dataset: str) -> Change:
    def change(workspace: Any, patch: Any) -> None:
        content = yaml.safe_load((workspace.world / "manifests" / f"{dataset}.yaml").read_text())
        manifest(dataset, labels={**content["labels"], "unlisted": "ignore"})(workspace, patch)

    return change


def under(prefix: str, changes: dict[str, Change]) -> dict[str, Change]:
    return {f"{prefix}.{name}": change for name, change in changes.items()}


VERSION = {"schema_version": version}
SAMPLING_CHANGES = {name: setting(sampling={"pixels_per_image": 200, name: value}) for name, value in SAMPLING.items()}
TRAIN = {
    **under("model", {part: study_config(part) for part in MODEL if part != "data_preprocessor"}),
    # A manifest's mean and std are in the network that is built.
    "model.data_preprocessor": manifest("day_street", mean=[0.1, 0.2, 0.3]),
    **under("schedule", {name: schedule("source_training", name, value) for name, value in SCHEDULE.items()}),
    "arithmetic": float32_only,
    "seed": study(source_training={"seed": 9}),
    "initialisation": image_weights,
    **under("manifest", manifest_changes("day_street")),
    "train": pixel("day_street", "source_train"),
    "eval": pixel("day_street", "eval"),
    **VERSION,
}
SAMPLE = {
    **under("manifest", manifest_changes("dusk_street")),
    **under("sampling", SAMPLING_CHANGES),
    "records": pixel("dusk_street", "train"),
}
SCORE = {
    **under("observations.source.model", {part: own_config(part) for part in MODEL}),
    "observations.source.weights": own_weights,
    **under("observations.sample", SAMPLE),
    "observations.normalisation": setting(normalisation="target"),
    "observations.float16": setting(keep_features=True),
    "observations.arithmetic": setting(precision="bfloat16"),
    **under("observations.libraries", {name: library(name) for name in ("torch", "Pillow", "mmsegmentation")}),
    **under("source_images.0", {
        **under("manifest", manifest_changes("day_street")),
        **under("sampling", SAMPLING_CHANGES),
        "records": pixel("day_street", "train"),
    }),
    "source_images.1": planted_number,
    **{f"settings.{name}": metric_setting("gbc", name) for name in METRICS["gbc"].settings},
    **{f"settings.{name}": metric_setting("ids", name) for name in METRICS["ids"].settings},
    "settings": metric_setting("leep", "planted"),
    "version": metric_version("gbc"),
    **VERSION,
}  # fmt: skip
FINE_TUNE = {
    **under("start.model", {part: own_config(part) for part in MODEL}),
    "start.weights": own_weights,
    "normalisation": setting(normalisation="target"),
    "arithmetic": float32_only,
    **under("schedule", {name: schedule("fine_tuning", name, value) for name, value in SCHEDULE.items()}),
    **under("manifest", manifest_changes("dusk_street")),
    "train": pixel("dusk_street", "train"),
    "eval": pixel("dusk_street", "eval"),
    **VERSION,
}
# These parts identify items and rows: another value means another item, and does not make this one stale.
IDENTITY = {"metric", "manifest.name", "observations.sample.manifest.name", "source_images.0.manifest.name"}
CHANGES = {"train": TRAIN, "sample": {**SAMPLE, **VERSION}, "score": SCORE, "finetune": FINE_TUNE}
NAMES = {"train": "source day_street", "sample": "sample of dusk_street", "score": WEB, "finetune": FINE_TUNING}
UNSEEN = ("train", "manifest.low_shot")
"""A part of a key that its item does not depend on: sources are trained on other images."""
CASES = [(kind, part) for kind, changes in CHANGES.items() for part in changes if (kind, part) != UNSEEN]
REPORTED = {
    ("train", "arithmetic"): "arithmetic: bfloat16 -> float32",
    ("finetune", "arithmetic"): "arithmetic: bfloat16 -> float32",
    ("train", "train"): "records of day_street source_train",
    ("train", "eval"): "records of day_street eval",
    ("sample", "records"): "records of dusk_street train",
    ("score", "observations.sample.records"): "records of dusk_street train",
    ("score", "observations.float16"): "keep_features: false -> true",
    ("score", "observations.arithmetic"): "precision: float32 -> bfloat16",
    ("score", "version"): "version of metric gbc: 1 -> 2",
    ("score", "source_images.0.records"): "records of day_street train",
    ("score", "source_images.1"): "pixels of a source's own images: 5000 -> 7",
    ("score", "settings"): "metric settings of leep: {} -> absent",
    ("finetune", "train"): "records of dusk_street train",
    ("finetune", "eval"): "records of dusk_street eval",
}


def reported(kind: str, part: str) -> str:
    """Return the beginning of the reason that names a part."""
    for prefix in ("observations.source.", "start."):
        if part.startswith(prefix):
            return f"{part.removeprefix(prefix)} of source web"
    if part.startswith("settings."):
        metric = "gbc" if part.removeprefix("settings.") in METRICS["gbc"].settings else "ids"
        return f"metric {part.replace('settings', f'settings of {metric}')}: "
    if part.startswith("observations.libraries."):
        name = part.removeprefix("observations.libraries.")
        return f"{name}: {library_versions([MMSEGMENTATION])[name]} -> 0.1"
    plain = part.removeprefix("observations.").removeprefix("sample.")
    if part.startswith("source_images.0."):
        plain = f"{part.removeprefix('source_images.0.')} of day_street"
    return REPORTED.get((kind, part), plain)
