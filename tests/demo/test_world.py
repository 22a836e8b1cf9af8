"""The files of the demo world: complete, reproducible, never mixed with those of another world."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_transfer.data.images import read_image, read_label
from seg_transfer.data.manifest import load_manifest, load_manifests
from seg_transfer.data.records import list_records, low_shot_records
from seg_transfer.demo import world
from seg_transfer.demo.domains import DOMAINS, render
from seg_transfer.demo.world import build_world
from seg_transfer.errors import ConfigError

SIZE = (64, 96)
SPLITS = ("train", "source_train", "eval")
FEW = {"n_train": 3, "n_source_train": 2, "n_eval": 2}

each_domain = pytest.mark.parametrize("domain", list(DOMAINS))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    build_world(folder, **FEW)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


def test_a_finished_world_is_not_rewritten(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_two_worlds_are_never_mixed(built: Path, change: dict) -> None:
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
        ({"n_train": 0}, r"^n_train: 0: .*increase it$"),
        ({"n_source_train": 0}, r"^n_source_train: 0: .*increase it$"),
        ({"n_eval": -1}, r"^n_eval: -1: .*increase it$"),
        ({"size": (47, 96)}, r"^size: \(47, 96\): .*increase it$"),
        ({"size": (64, 63)}, r"^size: \(64, 63\): .*increase it$"),
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
            np.testing.assert_array_equal(read_image(record), image)
            np.testing.assert_array_equal(read_label(record, manifest), label)
    assert len(low_shot_records(manifest, built)) == min(world.LOW_SHOT, FEW["n_train"])


def train_images(domain: str) -> list[np.ndarray]:
    return [render(domain, "train", index, size=SIZE)[0] for index in range(FEW["n_train"])]


@each_domain
def test_mean_and_deviation_are_those_of_the_training_images(built: Path, domain: str) -> None:
    manifest = load_manifest(built / "manifests" / f"{domain}.yaml")
    pixels = np.concatenate([image.reshape(-1, 3) / 255 for image in train_images(domain)])
    np.testing.assert_allclose(manifest.mean, pixels.mean(axis=0), atol=5.1e-5)
    np.testing.assert_allclose(manifest.std, pixels.std(axis=0), atol=5.1e-5)
