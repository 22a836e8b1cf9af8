"""Links in datasets: those of a user's own folders are followed, those of a manifest must not leave its root."""

import pickle
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from seg_transfer.data.inspection.answers import Answers
from seg_transfer.data.inspection.layout import find_layout
from seg_transfer.data.manifest import DatasetManifest, load_manifest
from seg_transfer.data.paths import FOLLOW_LINKS
from seg_transfer.data.records import absence_reason, find_records
from seg_transfer.errors import ConfigError

Manifest = Callable[..., DatasetManifest]
GLOBS = {"images": "train/images/*.png", "labels": "train/labels/*.png"}
IDS = [f"train/images/{stem}" for stem in "abcde"]


@pytest.fixture
def linked(mini: Path) -> Path:
    """The root of a dataset in which one image, and the folder of label maps, are links to another place."""
    train, away = mini / "mini/train", mini / "away"
    away.mkdir()
    for name in ("images/a.png", "labels"):
        target = away / Path(name).name
        (train / name).rename(target)
        (train / name).symlink_to(target)
    return mini


def found(manifest: DatasetManifest, root: Path) -> tuple[list[str], list[str]]:
    records, problems = find_records(manifest, root, "train")
    return [record.image_id for record in records], problems


def test_a_manifest_cannot_leave_its_root(linked: Path, manifest: Manifest) -> None:
    ids, problems = found(manifest(), linked)
    assert ids == []
    rule = f"leads out of {linked}/mini; move the file inside, or set {FOLLOW_LINKS}=1 to follow links"
    paths = ["train/images/a.png", *(f"train/labels/{stem}.png" for stem in "abcde")]
    assert sorted(problems) == [f"mini train: {path} {rule}" for path in paths]


@pytest.mark.parametrize("value", ["1", "0", "yes", ""])
def test_the_user_can_allow_links(
    linked: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(FOLLOW_LINKS, value)
    assert found(manifest(), linked)[0] == (IDS if value == "1" else [])


def test_links_of_own_folders_are_followed_also_by_copies(linked: Path, manifest: Manifest) -> None:
    plain = manifest()
    own = plain.following_links()
    for copy in (own, own.with_limit(2), own.model_copy(update={"title": "x"}), pickle.loads(pickle.dumps(own))):
        assert found(copy, linked) == (IDS, [])
    assert not plain.follows_links
    assert own.model_dump() == plain.model_dump()
    assert absence_reason(own, linked) == ""


@pytest.mark.parametrize("field", ["_follows_links", "follows_links"])
def test_a_file_cannot_allow_links(tmp_path: Path, fields: Callable[..., dict[str, Any]], field: str) -> None:
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(fields(**{field: True})), encoding="utf-8")
    with pytest.raises(ConfigError, match=field):
        load_manifest(tmp_path / "m.yaml")


@pytest.mark.parametrize("path", ["../away/a.png", "/etc/hosts", "train/../../away/a.png"])
def test_paths_cannot_leave_the_root_even_where_links_may(linked: Path, manifest: Manifest, path: str) -> None:
    (linked / "mini/list.txt").write_text(f"train/images/b.png\t{path}\n", encoding="utf-8")
    _, problems = found(manifest(train={"lists": "list.txt"}).following_links(), linked)
    assert problems == [f"mini train: {path} leads out of {linked}/mini; move the file inside"]


def test_a_linked_folder_is_found_in_own_folders_and_refused_by_a_manifest(mini: Path, manifest: Manifest) -> None:
    """A written manifest names linked folders, so that they are not passed by without a word."""
    train = mini / "mini/train"
    for kind in ("images", "labels"):
        (train / kind).rename(mini / kind)
        (train / kind).mkdir()
        (train / kind / "part").symlink_to(mini / kind)
    layout = find_layout(train / "images", train / "labels", Answers())
    made = manifest(train=layout.split, pairing=layout.pairing, root=".")
    assert found(made.following_links(), layout.root) == ([f"images/part/{stem}" for stem in "abcde"], [])
    ids, problems = found(made, layout.root)
    assert ids == []
    assert len(problems) == 10
    assert all(FOLLOW_LINKS in problem for problem in problems)


def test_folders_not_files_are_resolved(mini: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With thousands of files, resolving each takes longer than all else."""
    resolved: list[Path] = []
    unwatched = Path.resolve
    monkeypatch.setattr(Path, "resolve", lambda path, **how: resolved.append(path) or unwatched(path, **how))
    assert found(manifest(), mini) == (IDS, [])
    root = mini / "mini"
    assert sorted(resolved) == [root, root / "train/images", root / "train/labels"]


# Files without a counterpart, and names


def test_unpaired_files_are_left_out_if_the_manifest_says_so(mini: Path, manifest: Manifest) -> None:
    (mini / "mini/train/labels/b.png").unlink()
    (mini / "mini/train/images/d.png").unlink()
    kept = [IDS[0], IDS[2], IDS[4]]
    assert found(manifest(train={**GLOBS, "unpaired": "ignore"}), mini) == (kept, [])
    ids, problems = found(manifest(), mini)
    assert ids == kept
    assert problems == [
        "mini train: image train/images/b.png has no label; add the label or exclude the image",
        "mini train: label train/labels/d.png has no image; add the image or exclude the label",
    ]


def test_files_without_a_key_are_unpaired(mini: Path, manifest: Manifest) -> None:
    pairing = {"image": "images/([a-c])[.]", "label": "labels/([a-d])[.]"}
    ignoring = manifest(train={**GLOBS, "unpaired": "ignore"}, pairing=pairing)
    assert found(ignoring, mini) == (IDS[:3], [])


def test_ambiguous_pairs_are_an_error_nevertheless(mini: Path, manifest: Manifest) -> None:
    pairing = {"image": "images/(?:[ab]|(.))[.]", "label": "labels/(?:[a]|(.))[.]"}
    _, problems = found(manifest(train={**GLOBS, "unpaired": "ignore"}, pairing=pairing), mini)
    assert problems == [
        "mini train: images train/images/a.png and train/images/b.png have the same key 'None'; change 'pairing'"
    ]


def test_nothing_paired_is_an_error(mini: Path, manifest: Manifest) -> None:
    pairing = {"image": "images/(.)", "label": "(labels/.)"}
    ids, problems = found(manifest(train={**GLOBS, "unpaired": "ignore"}, pairing=pairing), mini)
    assert ids == []
    assert problems[0] == "mini train: image train/images/a.png has no label; add the label or exclude the image"
    assert len(problems) == 10


def test_unpaired_stays_out_of_dumps_while_it_is_an_error(manifest: Manifest) -> None:
    assert "unpaired" not in manifest().model_dump()["train"]
    assert "unpaired" not in manifest(train={**GLOBS, "unpaired": "error"}).model_dump()["train"]
    assert manifest(train={**GLOBS, "unpaired": "ignore"}).model_dump()["train"]["unpaired"] == "ignore"


@pytest.mark.parametrize("pairing", [None, {"image": "images/(.+)[.]", "label": "labels/(.+)[.]"}])
def test_names_pair_in_any_unicode_form(tmp_path: Path, manifest: Manifest, pairing: dict[str, str] | None) -> None:
    names = {form: unicodedata.normalize(form, "\u00fcber-caf\u00e9") for form in ("NFC", "NFD")}
    for kind, form in (("images", "NFD"), ("labels", "NFC")):
        (tmp_path / "mini/train" / kind).mkdir(parents=True)
        (tmp_path / "mini/train" / kind / f"{names[form]}.png").touch()
    assert found(manifest(pairing=pairing), tmp_path) == ([f"train/images/{names['NFD']}"], [])
    (tmp_path / "mini/names.txt").write_text(f"{names['NFC']}\n", encoding="utf-8")
    chosen = manifest(train={**GLOBS, "stems": "names.txt"}, pairing=pairing)
    assert found(chosen, tmp_path) == ([f"train/images/{names['NFD']}"], [])
