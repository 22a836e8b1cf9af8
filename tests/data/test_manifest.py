from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from seg_transfer.data.fields import stays_inside
from seg_transfer.data.manifest import DatasetManifest, load_manifest, load_manifests
from seg_transfer.data.validation import load_yaml
from seg_transfer.errors import ConfigError

Fields = Callable[..., dict[str, Any]]
WITHOUT = object()


@pytest.fixture
def load(tmp_path: Path) -> Callable[[dict[str, Any]], DatasetManifest]:
    def write_and_load(data: dict[str, Any]) -> DatasetManifest:
        path = tmp_path / "mini.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in data.items() if v is not WITHOUT}), encoding="utf-8")
        return load_manifest(path)

    return write_and_load


def test_the_longest_name(manifest: Callable[..., DatasetManifest]) -> None:
    assert manifest(name="x" * 64).name == "x" * 64


def test_defaults_and_values(load: Callable[..., DatasetManifest], fields: Fields) -> None:
    manifest = load(fields())
    assert manifest.classes == ("sky", "road", "car")
    assert manifest.crop_size == (16, 24)
    assert (manifest.low_shot.limit, manifest.low_shot.seed, manifest.trust_mtime) == (150, 0, False)
    assert manifest.train.images == ("train/images/*.png",)
    assert manifest.labels.unlisted == "error"
    assert manifest.raw_classes() == {0: 0, 1: 1, 2: 2, 255: 255}


def test_source_train_is_train_unless_given(manifest: Callable[..., DatasetManifest]) -> None:
    more = {"images": ["train/*.png", "extra/*.png"], "labels": "all/*.png"}
    assert manifest().split("source_train") == manifest().train != manifest().eval
    assert manifest(source_train=more).split("source_train").images == ("train/*.png", "extra/*.png")
    assert manifest(source_train=more).split("train").images == ("train/images/*.png",)


def test_map_is_many_to_one(manifest: Callable[..., DatasetManifest]) -> None:
    labels = {"encoding": "id16", "ignore": [0, 400], "map": {7: 0, 9: 2, 301: 2}}
    assert manifest(labels=labels).raw_classes() == {7: 0, 9: 2, 301: 2, 0: 255, 400: 255}


def test_colors_are_packed_red_first(manifest: Callable[..., DatasetManifest]) -> None:
    labels = {"encoding": "rgb", "colours": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "ignore": [[3, 2, 1]]}
    assert manifest(labels=labels).raw_classes() == {1: 0, 256: 1, 65536: 2, 3 + 2 * 256 + 65536: 255}


def test_a_manifest_cannot_be_changed(manifest: Callable[..., DatasetManifest]) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        manifest().name = "other"  # type: ignore[misc]


def rgb(*colors: list[int], ignore: list[list[int]] | None = None) -> dict[str, Any]:
    return {"encoding": "rgb", "colours": list(colors), "ignore": ignore or []}


def values(**changes: Any) -> dict[str, Any]:
    return {"encoding": "id"} | changes


RED, GREEN, BLUE = [255, 0, 0], [0, 255, 0], [0, 0, 255]
GLOBS = {"images": "i/*.png", "labels": "l/*.png"}
MISTAKES = [
    ({"name": "scratch"}, "name: 'scratch': the name is reserved"),
    ({"name": "x" * 65}, "': must have 1 to 64"),
    ({"name": "-x"}, "name: '-x': must have 1 to 64"),
    ({"name": "My Data"}, "name: 'My Data': must have 1 to 64 characters of a-z, 0-9, '_' and '-'"),
    ({"name": WITHOUT}, "name is missing; add it"),
    ({"labels": {"ignore": [255]}}, "labels: {'ignore': [255]}: Unable to extract tag using discriminator 'encoding'"),
    ({"labels": values(encoding="id32")}, "labels: {'encoding': 'id32'}: Input tag 'id32' found"),
    ({"colour": "red"}, "colour: 'red': unknown field; remove it"),
    ({"train": {**GLOBS, "imags": 1}}, "train.imags: 1: unknown field"),
    ({"title": ""}, "title: '': String should have at least 1 character; correct it"),
    ({"classes": ["yes", True, "no"]}, "classes.1: True: must be text; put it in quotes"),
    ({"classes": ["sky", "road", "sky"]}, "classes holds 'sky' more than once"),
    ({"classes": ["sky"]}, "classes: ['sky']: Tuple should have at least 2 items"),
    ({"classes": [f"class {i}" for i in range(4097)]}, "Tuple should have at most 4096 items"),
    ({"mean": [0.4, 0.5]}, "mean.2 is missing"),
    ({"mean": [0.4, 0.5, 0.6, 0.7]}, "mean: [0.4, 0.5, 0.6, 0.7]: Tuple should have at most 3 items"),
    ({"mean": [102, 0.5, 0.6]}, "mean.0: 102: Input should be less than or equal to 1"),
    ({"mean": [".nan", 0.5, 0.6]}, "mean.0: '.nan': Input should be a valid number"),
    ({"mean": [float("nan"), 0.5, 0.6]}, "mean.0: nan: Input should be a finite number"),
    ({"std": [0.2, 0, 0.2]}, "std.1: 0: Input should be greater than 0"),
    ({"std": [0.2, 0.2, -0.2]}, "std.2: -0.2: Input should be greater than 0"),
    ({"crop_size": [16, 0]}, "crop_size.1: 0: Input should be greater than or equal to 1"),
    ({"crop_size": [16, 24.5]}, "crop_size.1: 24.5: Input should be a valid integer"),
    ({"crop_size": [16, "24"]}, "crop_size.1: '24': Input should be a valid integer"),
    ({"low_shot": {"limit": 0}}, "low_shot.limit: 0: Input should be greater than or equal to 1"),
    ({"trust_mtime": "on, always"}, "trust_mtime: 'on, always': Input should be a valid boolean"),
    ({"root": "../elsewhere"}, "root: '../elsewhere': a path must be relative"),
    ({"root": "/data/mini"}, "root: '/data/mini': a path must be relative"),
    ({"train": {**GLOBS, "images": "/etc/*.png"}}, "train.images: '/etc/*.png': a path must be relative"),
    ({"eval": {**GLOBS, "labels": ["a/*.png", "a/../../b/*.png"]}}, "eval.labels.1: 'a/../../b/*.png': a path must be"),
    ({"eval": {"lists": "../eval.txt"}}, "eval.lists: '../eval.txt': a path must be relative"),
    ({"train": {**GLOBS, "exclude": "**.png"}}, "train.exclude: '**.png': a pattern needs a file name"),
    ({"train": {"images": "i/*.png"}}, "train: a split needs either 'images' and 'labels', or 'lists' alone"),
    ({"train": {**GLOBS, "lists": "l.txt"}}, "train: a split needs either 'images' and 'labels', or 'lists' alone"),
    ({"source_train": {}}, "source_train: a split needs either"),
    ({"pairing": {"image": "(a", "label": "(a)"}}, "pairing.image: '(a': not a regular expression"),
    ({"pairing": {"image": "(" * 999 + "a", "label": "(a)"}}, "not a regular expression"),
    (
        {"pairing": {"image": f"(a{'b' * 999})", "label": "(a)"}},
        "has 1002 characters, but at most 1000 may be used; shorten it",
    ),
    ({"pairing": {"image": "(a)", "label": "a"}}, "pairing.label: 'a': the expression needs a group"),
    ({"pairing": {"image": "(a)(b)", "label": "(a)"}}, "pairing.image has 2 groups and pairing.label 1; give both"),
    (
        {"labels": values(map={7: 0, 8: 3})},
        "labels.map maps the raw value 8 to class index 3, but the 3 classes have indices 0 to 2",
    ),
    ({"labels": values(map={7: -1})}, "labels.map maps the raw value 7 to class index -1"),
    (
        {"labels": values(encoding="palette", map={256: 0})},
        "labels.map holds the raw value 256; palette allows 0 to 255",
    ),
    (
        {"labels": values(encoding="id16", map={65536: 0})},
        "labels.map holds the raw value 65536; id16 allows 0 to 65535",
    ),
    ({"labels": values(map={"7": 0})}, "labels.map.7: '7': Input should be a valid integer"),
    ({"labels": values(map={})}, "labels.map: {}: Dictionary should have at least 1 item"),
    ({"labels": values(map={-1: 0})}, "labels.map holds the raw value -1; id allows 0 to 65535"),
    (
        {"labels": values(encoding="palette", ignore=[-1])},
        "labels.ignore holds the raw value -1; palette allows 0 to 255",
    ),
    ({"labels": values(ignore=[9, 9])}, "labels.ignore holds 9 more than once"),
    ({"labels": values(ignore=[0])}, "labels.ignore holds 0, which is also a class; remove it"),
    (
        {"labels": values(colours=[RED, GREEN, BLUE])},
        "labels.colours: [[255, 0, 0], [0, 255, 0], [0, 0, 255]]: unknown",
    ),
    ({"labels": values(encoding="mat")}, "labels.variable is missing; add it"),
    ({"labels": values(encoding="panoptic", segments="a.json")}, "labels.segments: 'a.json': unknown field"),
    ({"labels": {**rgb(RED, GREEN, BLUE), "crop": {"a": [0, 3]}}}, "labels.crop.a.0: 0: Input should be greater than"),
    ({"train": {"lists": "l.txt", "stems": "s.txt"}}, "train: 'stems' select from 'images', but 'lists' name the"),
    ({"eval": {**GLOBS, "stems": "../s.txt"}}, "eval.stems: '../s.txt': a path must be relative"),
    ({"obtain": "one\ntwo"}, "obtain: 'one\\ntwo': must be one line; join the lines"),
    ({"obtain": ""}, "obtain: '': must be one line"),
    ({"labels": rgb(RED, GREEN)}, "labels.colours holds 2 colors; list one for each of the 3 classes"),
    ({"labels": rgb(RED, GREEN, RED)}, "labels.colours with labels.ignore holds (255, 0, 0) more than once"),
    ({"labels": rgb(RED, GREEN, BLUE, ignore=[BLUE])}, "labels.colours with labels.ignore holds (0, 0, 255) more than"),
    ({"labels": rgb(RED, GREEN, [0, 0, 256])}, "labels.colours.2.2: 256: Input should be less than or equal to 255"),
    ({"labels": rgb(RED, GREEN, [0, 0])}, "labels.colours.2.2 is missing; add it"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_every_mistake_is_one_line(
    load: Callable[..., DatasetManifest], fields: Fields, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(fields(**changes))
    line = str(caught.value)
    assert "mini.yaml: " in line
    assert message in line
    assert "\n" not in line
    assert len(line) < 400


def test_several_mistakes_are_counted(load: Callable[..., DatasetManifest], fields: Fields) -> None:
    with pytest.raises(ConfigError, match=r"title is missing; add it \(and 2 more\)$"):
        load(fields(title=WITHOUT, domain=WITHOUT, root=WITHOUT))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\ntitle: b\nname: c\n", "line 3: not a plain YAML file: the key 'name' occurs twice; remove one"),
        ("labels:\n  map:\n    1: 0\n    0x1: 1\n", "line 4: not a plain YAML file: the key 1 occurs twice"),
        ("[a, b]: 1\n", "line 1: not a plain YAML file: found unhashable key"),
        ("name: !!python/object/apply:os.system [ls]\n", "line 1: not a plain YAML file: could not determine"),
        ("name: [a\n", "not a plain YAML file: "),
        ("name: \x01\n", "not a plain YAML file: unacceptable character"),
        ("title: 2024-02-31\n", "not a plain YAML file: day is out of range"),
        ("- a\n- b\n", "must be a mapping 'field: value', not list"),
        ("", "must be a mapping 'field: value', not NoneType"),
    ],
)
def test_other_yaml_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_manifest(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_merged_mapping_may_be_overridden(tmp_path: Path, fields: Fields) -> None:
    text = yaml.safe_dump(fields() | {"eval": None}, sort_keys=False).replace("train:", "train: &train")
    text = text.replace("eval: null", "eval: {<<: *train, images: test/*.png}")
    (tmp_path / "merged.yaml").write_text(text, encoding="utf-8")
    manifest = load_manifest(tmp_path / "merged.yaml")
    assert (manifest.eval.images, manifest.eval.labels) == (("test/*.png",), manifest.train.labels)


@pytest.mark.parametrize(
    ("level", "message"),
    [(5, "title: [[[...], [...]"), (59, "bomb.yaml: not a plain YAML file: its aliases expand to more than 1000000 ")],
)
def test_endless_aliases_are_one_line(tmp_path: Path, fields: Fields, level: int, message: str) -> None:
    levels = ["level0: &l0 [x, x, x, x, x, x]"]
    levels += [f"level{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 6)}]" for i in range(1, level + 1)]
    text = yaml.safe_dump(fields(title="bomb")).replace("title: bomb", f"title: *l{level}")
    (tmp_path / "bomb.yaml").write_text("\n".join([*levels, text]), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_manifest(tmp_path / "bomb.yaml")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("title: Straße".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: cannot be read \(it is not UTF-8 text\)"):
        load_manifest(tmp_path / "latin.yaml")
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file, and no shipped manifest of that name"):
        load_manifest(tmp_path / "none.yaml")


def test_changes_replace_fields_under_the_same_rules(tmp_path: Path, fields: Fields) -> None:
    path = tmp_path / "mini.yaml"
    path.write_text(yaml.safe_dump(fields()), encoding="utf-8")
    changed = load_yaml(path, DatasetManifest, changes={"title": "another", "crop_size": [5, 6]})
    assert (changed.title, changed.crop_size, changed.domain) == ("another", (5, 6), "driving")
    with pytest.raises(ConfigError, match=r"mini\.yaml: crop_size\.0: 0: Input should be greater than"):
        load_yaml(path, DatasetManifest, changes={"crop_size": [0, 6]})


def test_a_folder_of_manifests(tmp_path: Path, fields: Fields) -> None:
    with pytest.raises(ConfigError, match=r"no manifest here; name a folder that holds \*\.yaml files"):
        load_manifests(tmp_path)
    for file, name in (("1.yaml", "zebra"), ("2.yaml", "ant")):
        (tmp_path / file).write_text(yaml.safe_dump(fields(name=name)), encoding="utf-8")
    (tmp_path / "notes.txt").write_text("not a manifest", encoding="utf-8")
    assert list(load_manifests(tmp_path)) == ["ant", "zebra"]
    (tmp_path / "3.yaml").write_text(yaml.safe_dump(fields(name="zebra")), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"3\.yaml: name: 'zebra' is used by .*1\.yaml; choose another"):
        load_manifests(tmp_path)


@given(st.lists(st.sampled_from(["a", "..", ".", "*.png", "b c", "..."]), min_size=1, max_size=5))
def test_no_path_with_two_dots_stays_inside(parts: list[str]) -> None:
    assert stays_inside("/".join(parts)) == (".." not in parts)


@pytest.mark.parametrize("path", ["/a", "//a/b", "C:/a", "c:a", "..\\a", "a\\..\\b", "a/../b", "a\0b"])
def test_paths_that_leave_the_root_are_refused(path: str) -> None:
    assert not stays_inside(path)
