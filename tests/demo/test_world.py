import dataclasses
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_transfer.data.images import read_image, read_label
from seg_transfer.data.manifest import load_manifest, load_manifests
from seg_transfer.data.records import list_records, low_shot_records
from seg_transfer.demo import world
from seg_transfer.demo.world import DOMAINS, IGNORE, build_world, render
from seg_transfer.errors import ConfigError

SIZE = (64, 96)
SPLITS = ("train", "source_train", "eval")
FEW = {"n_train": 3, "n_source_train": 2, "n_eval": 2}
PARTNERS = [("day_street", "dusk_street"), ("cells_light", "cells_dark")]

each_domain = pytest.mark.parametrize("domain", list(DOMAINS))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    build_world(folder, **FEW)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def scenes(domain: str, count: int, split: str = "train") -> list[tuple[np.ndarray, np.ndarray]]:
    return [render(domain, split, index, size=SIZE) for index in range(count)]


def drawn(domain: world.Domain, key: str) -> world._Scene:
    scene = world._Scene(world._stream(key), domain, SIZE)
    domain.draw(scene)
    return scene


def by_structure(domain: world.Domain) -> world.Domain:
    """The same domain with every structure as a class of its own."""
    parts = {structure: (structure, domain.parts[structure][1]) for structure in sorted(domain.parts)}
    return dataclasses.replace(domain, parts=parts)


# Files


def test_a_finished_world_holds_its_domains_manifests_and_stamp(built: Path) -> None:
    assert {path.name for path in built.iterdir()} == {*DOMAINS, "manifests", "world.json"}
    for domain in DOMAINS:
        for split in SPLITS:
            names = {f"{split}_{index:04d}.png" for index in range(FEW[f"n_{split}"])}
            for kind in ("images", "labels"):
                assert {path.name for path in (built / domain / split / kind).iterdir()} == names


def test_rebuilding_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    build_world(tmp_path, **FEW)
    assert contents(tmp_path) == contents(built)


def test_a_scene_depends_neither_on_the_number_of_scenes_nor_on_those_drawn_before_it(
    built: Path, tmp_path: Path
) -> None:
    build_world(tmp_path, n_train=4, n_source_train=3, n_eval=3)
    more, fewer = contents(tmp_path), contents(built)
    shared = {name for name in fewer if name.endswith(".png")}
    assert shared < {name for name in more if name.endswith(".png")}
    assert {name: more[name] for name in shared} == {name: fewer[name] for name in shared}


@each_domain
def test_files_hold_what_render_returns(built: Path, domain: str) -> None:
    image, label = render(domain, "eval", 1, size=SIZE)
    with Image.open(built / domain / "eval/images/eval_0001.png") as file:
        assert file.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(file), image)
    with Image.open(built / domain / "eval/labels/eval_0001.png") as file:
        assert file.mode == "L"
        np.testing.assert_array_equal(np.asarray(file), label)


def test_pixels_are_those_of_this_version_on_every_platform() -> None:
    """A change here is a change of every number of the demo: raise VERSION and write the new digest."""
    digest = hashlib.sha256()
    for domain in DOMAINS:
        for size in (SIZE, (53, 71)):
            for array in render(domain, "train", 1, size=size, seed=7):
                digest.update(array.tobytes())
    assert (world.VERSION, digest.hexdigest()) == (
        1,
        "43926c32e8bba3224316e12bbbca1ccf10ee395a083217882c756665adc16b92",
    )


def test_a_finished_world_is_left_alone(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("rendered again")

    monkeypatch.setattr(world, "render", refuse)
    before = {path: path.stat() for path in built.rglob("*")}
    manifests = build_world(built, **FEW)
    after = {path: path.stat() for path in built.rglob("*")}
    assert {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in after.items()} == {
        path: (stat.st_ino, stat.st_mtime_ns) for path, stat in before.items()
    }
    assert manifests == [built / "manifests" / f"{name}.yaml" for name in DOMAINS]


def test_an_interrupted_world_is_completed(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(domain: str, split: str, index: int, **settings: object) -> tuple[np.ndarray, np.ndarray]:
        if (domain, split, index) == ("cells_light", "eval", 0):
            raise KeyboardInterrupt
        return render(domain, split, index, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(world, "render", stop)
        with pytest.raises(KeyboardInterrupt):
            build_world(tmp_path, **FEW)
    assert not (tmp_path / "world.json").exists()
    with pytest.raises(ConfigError, match=r"another world.*choose another folder$"):
        build_world(tmp_path, **FEW, seed=1)

    build_world(tmp_path, **FEW)
    assert contents(tmp_path) == contents(built)


def test_two_processes_may_build_the_same_world(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(*key: object, **settings: object) -> tuple[np.ndarray, np.ndarray]:
        if key == ("dusk_street", "train", 1):
            monkeypatch.setattr(world, "render", render)
            build_world(tmp_path, **FEW)
            assert (tmp_path / "world.json").exists()
        return render(*key, **settings)

    monkeypatch.setattr(world, "render", overtaken)
    build_world(tmp_path, **FEW)
    assert contents(tmp_path) == contents(built)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"n_train": 4}, {"n_source_train": 3}, {"n_eval": 3}, {"size": (96, 64)}]
)
def test_another_world_is_never_mixed_in(built: Path, change: dict) -> None:
    before = contents(built)
    with pytest.raises(ConfigError, match=r"world\.json: .*another world.*choose another folder$"):
        build_world(built, **{**FEW, **change})
    assert contents(built) == before


def test_the_world_of_another_version_is_refused(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "VERSION", world.VERSION + 1)
    with pytest.raises(ConfigError, match=r"another world"):
        build_world(built, **FEW)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_train": 0}, r"^n_train: 0: .*raise it$"),
        ({"n_source_train": 0}, r"^n_source_train: 0: .*raise it$"),
        ({"n_eval": -1}, r"^n_eval: -1: .*raise it$"),
        ({"size": (47, 96)}, r"^size: \(47, 96\): .*raise it$"),
        ({"size": (64, 63)}, r"^size: \(64, 63\): .*raise it$"),
    ],
)
def test_settings_that_are_too_small_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_world(tmp_path / "world", **change)
    assert not (tmp_path / "world").exists()


# Manifests


def test_manifests_load_and_name_their_domain(built: Path) -> None:
    manifests = load_manifests(built / "manifests")
    assert set(manifests) == set(DOMAINS)
    for name, manifest in manifests.items():
        assert manifest.classes == DOMAINS[name].classes
        assert manifest.domain == DOMAINS[name].family
        assert manifest.root == name
        assert manifest.crop_size == SIZE
        assert manifest.low_shot.limit == world.LOW_SHOT


@each_domain
def test_records_of_a_manifest_are_the_files_of_its_splits(built: Path, domain: str) -> None:
    manifest = load_manifest(built / "manifests" / f"{domain}.yaml")
    for split in SPLITS:
        records = list_records(manifest, built, split)
        assert len(records) == FEW[f"n_{split}"]
        for index, record in enumerate(records):
            image, label = render(domain, split, index, size=SIZE)
            np.testing.assert_array_equal(read_image(record.image), image)
            np.testing.assert_array_equal(read_label(record.label, manifest), label)
    assert len(low_shot_records(manifest, built)) == min(world.LOW_SHOT, FEW["n_train"])


@each_domain
def test_mean_and_deviation_are_those_of_the_training_images(built: Path, domain: str) -> None:
    manifest = load_manifest(built / "manifests" / f"{domain}.yaml")
    pixels = np.concatenate([image.reshape(-1, 3) / 255 for image, _ in scenes(domain, FEW["n_train"])])
    np.testing.assert_allclose(manifest.mean, pixels.mean(axis=0), atol=5.1e-5)
    np.testing.assert_allclose(manifest.std, pixels.std(axis=0), atol=5.1e-5)


# Scenes


@each_domain
@pytest.mark.parametrize("size", [(48, 64), (64, 96), (75, 131), (128, 96)])
def test_image_and_label_have_the_size_asked_for(domain: str, size: tuple[int, int]) -> None:
    image, label = render(domain, "train", 0, size=size)
    assert (image.shape, image.dtype) == ((*size, 3), np.uint8)
    assert (label.shape, label.dtype) == (size, np.uint8)


@each_domain
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("size", [(48, 64), (64, 96), (128, 96)])
def test_every_split_shows_every_class_and_nothing_else_but_ignored_pixels(
    domain: str, split: str, size: tuple[int, int]
) -> None:
    counts: Counter[int] = Counter()
    for index in range(4):
        counts.update(render(domain, split, index, size=size)[1].ravel().tolist())
    assert set(counts) == {*range(len(DOMAINS[domain].classes)), IGNORE}
    assert min(counts.values()) > 40


@each_domain
def test_the_border_and_a_few_specks_are_unlabelled(domain: str) -> None:
    for _, label in scenes(domain, 5):
        border = np.ones(SIZE, dtype=bool)
        border[1:-1, 1:-1] = False
        assert (label[border] == IGNORE).all()
        assert 0 < (label[~border] == IGNORE).mean() < 0.02


def test_no_two_scenes_are_alike() -> None:
    images = [
        render(domain, split, index, size=SIZE, seed=seed)[0].tobytes()
        for domain in DOMAINS
        for split in SPLITS
        for index in range(3)
        for seed in (0, 1)
    ]
    assert len(set(images)) == len(images) == 4 * 3 * 3 * 2


@pytest.mark.parametrize(("first", "second", "name"), [(*PARTNERS[0], "sky"), (*PARTNERS[1], "nucleus")])
def test_the_domains_of_a_family_draw_different_scenes(first: str, second: str, name: str) -> None:
    for (_, one), (_, other) in zip(scenes(first, 5), scenes(second, 5), strict=True):
        here, there = one == DOMAINS[first].classes.index(name), other == DOMAINS[second].classes.index(name)
        assert (here & there).sum() < 0.95 * (here | there).sum()


def colour_accuracy(domain: str) -> float:
    """Balanced accuracy of the nearest class mean colour, learnt on 12 scenes, on 6 others."""
    images, labels = (np.stack(arrays) for arrays in zip(*scenes(domain, 18), strict=True))
    classes = range(len(DOMAINS[domain].classes))
    means = np.stack([images[:12][labels[:12] == index].mean(axis=0) for index in classes])
    distance = ((images[12:, ..., None, :].astype(float) - means) ** 2).sum(axis=-1)
    return float(np.mean([(distance[labels[12:] == index].argmin(axis=-1) == index).mean() for index in classes]))


@each_domain
def test_colour_does_not_tell_the_classes(domain: str) -> None:
    assert colour_accuracy(domain) < 2 / len(DOMAINS[domain].classes)


def test_colour_would_tell_the_classes_if_it_were_not_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "VARIETY", 0.0)
    assert min(colour_accuracy(domain) * len(DOMAINS[domain].classes) for domain in DOMAINS) > 2


# Families


def test_there_are_two_families_of_two_domains() -> None:
    assert Counter(domain.family for domain in DOMAINS.values()) == {"street": 2, "cells": 2}


@pytest.mark.parametrize(("first", "second"), PARTNERS)
def test_a_family_shares_its_drawing_under_different_class_lists(first: str, second: str) -> None:
    one, other = DOMAINS[first], DOMAINS[second]
    seen: set[tuple[str, str]] = set()
    for index in range(10):
        a, b = drawn(one, f"{index}").classes, drawn(other, f"{index}").classes
        seen |= {(one.classes[i], other.classes[j]) for i, j in np.unique(np.stack([a.ravel(), b.ravel()]), axis=1).T}
    assert seen == {(one.parts[structure][0], other.parts[structure][0]) for structure in one.parts}
    assert set(one.classes) != set(other.classes)


def test_families_share_no_structure() -> None:
    assert not set(DOMAINS["day_street"].parts) & set(DOMAINS["cells_light"].parts)


def roughness(domain: world.Domain) -> dict[str, float]:
    """Median step in brightness to the right-hand neighbour, by structure, in units of the image's deviation."""
    domain = by_structure(domain)
    steps: dict[str, list[np.ndarray]] = {name: [] for name in domain.classes}
    for index in range(12):
        scene = drawn(domain, f"roughness {index}")
        bright = scene.image.mean(axis=-1)
        step = np.abs(np.diff(bright, axis=1)) / bright.std()
        same = scene.classes[:, 1:] == scene.classes[:, :-1]
        for position, name in enumerate(domain.classes):
            steps[name].append(step[same & (scene.classes[:, 1:] == position)])
    return {name: float(np.median(np.concatenate(parts))) for name, parts in steps.items()}


@pytest.mark.parametrize(("first", "second"), PARTNERS)
def test_a_family_shares_its_textures(first: str, second: str) -> None:
    one, other = roughness(DOMAINS[first]), roughness(DOMAINS[second])
    assert np.corrcoef(list(one.values()), list(other.values()))[0, 1] > 0.95
    assert max(one.values()) > 5 * min(one.values())


def test_the_light_differs_within_a_family() -> None:
    for bright, dark in PARTNERS:
        means = [np.mean([image.mean() for image, _ in scenes(domain, 10)]) for domain in (bright, dark)]
        assert means[0] > 1.4 * means[1]
