import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.record import Record
from seg_transfer.data.records import absence_reason, find_records, list_records
from seg_transfer.errors import DataError

Manifest = Callable[..., DatasetManifest]
GLOBS = {"images": "train/images/*.png", "labels": "train/labels/*.png"}


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def ids(records: list[Record]) -> list[str]:
    return [record.image_id for record in records]


def test_same_stem_pairs_sorted_by_id(mini: Path, manifest: Manifest) -> None:
    records = list_records(manifest(), mini, "train")
    assert ids(records) == [f"train/images/{stem}" for stem in "abcde"]
    assert records[1].image == mini / "mini/train/images/b.png"
    assert records[1].label == mini / "mini/train/labels/b.png"
    assert ids(list_records(manifest(), mini, "eval")) == ["test/images/x", "test/images/y"]
    assert list_records(manifest(), mini, "source_train") == records


def test_source_train_may_hold_more(tmp_path: Path, manifest: Manifest) -> None:
    touch(tmp_path / "mini", "train/images/a.png", "train/labels/a.png", "more/images/b.jpg", "more/labels/b.png")
    wider = manifest(source_train={"images": ["*/images/*.png", "*/images/*.jpg"], "labels": "*/labels/*.png"})
    assert ids(list_records(wider, tmp_path, "source_train")) == ["more/images/b", "train/images/a"]
    assert ids(list_records(wider, tmp_path, "train")) == ["train/images/a"]


LAYOUTS = [
    # one folder for both, distinguished by a suffix
    ("(frame_[0-9]+)[.]png$", "(frame_[0-9]+)_L[.]png$", ["all/frame_07.png"], ["all/frame_07_L.png"]),
    # equal stems in several folders: the folder belongs to the key
    (
        "([^/]+)/color/(.+)[.]jpg",
        "([^/]+)/label/(.+)[.]png",
        ["s1/color/0.jpg", "s2/color/0.jpg"],
        ["s1/label/0.png", "s2/label/0.png"],
    ),
    # another prefix and number of digits
    (r"img-(\d{6})[.]jpg", r"00(\d{6})[.]png", ["i/img-000012.jpg"], ["l/00000012.png"]),
    # two suffixes, below folders of cities
    ("/([^/]+)_rgb[.]", "/([^/]+)_gt_ids[.]", ["i/bonn/bonn_1_rgb.png"], ["g/bonn/bonn_1_gt_ids.png"]),
]


@pytest.mark.parametrize(("image_rule", "label_rule", "images", "labels"), LAYOUTS)
def test_pairing_by_groups(
    tmp_path: Path, manifest: Manifest, image_rule: str, label_rule: str, images: list[str], labels: list[str]
) -> None:
    touch(tmp_path / "mini", *images, *labels)
    paired = manifest(
        train={"images": images, "labels": labels}, pairing={"image": image_rule, "label": label_rule}, root="mini"
    )
    records = list_records(paired, tmp_path, "train")
    found = [(r.image.relative_to(tmp_path / "mini").as_posix(), r.label.name) for r in records]
    assert found == [(image, Path(label).name) for image, label in zip(images, labels, strict=True)]


def test_exclude_removes_images_and_labels(mini: Path, manifest: Manifest) -> None:
    train = {"images": "train/images/*.png", "labels": "train/labels/*.png", "exclude": ["train/*/b.png", "**/d.png"]}
    assert ids(list_records(manifest(train=train), mini, "train")) == [f"train/images/{stem}" for stem in "ace"]


def test_lists(mini: Path, manifest: Manifest) -> None:
    lines = [
        "train/images/c.png train/labels/a.png",
        "",
        "train/images/a.png\ttrain/labels/c.png",
        "./train/images/b.png train/labels/b.png",
    ]
    (mini / "mini/one.txt").write_text("\r\n".join(lines), encoding="utf-8")
    (mini / "mini/two.txt").write_text(f"{lines[0]}\ntest/images/x.png test/labels/x.png", encoding="utf-8")
    records = list_records(manifest(train={"lists": ["one.txt", "two.txt"]}), mini, "train")
    assert ids(records) == ["test/images/x", "train/images/a", "train/images/b", "train/images/c"]
    assert [record.label.name for record in records] == ["x.png", "c.png", "b.png", "a.png"]
    excluding = manifest(train={"lists": "one.txt", "exclude": "train/images/[bc].png"})
    assert ids(list_records(excluding, mini, "train")) == ["train/images/a"]


def test_names_may_contain_blanks_where_tabs_separate_fields(tmp_path: Path, manifest: Manifest) -> None:
    touch(tmp_path / "mini", "an image.png", "its label.png")
    (tmp_path / "mini/list.txt").write_text("an image.png\tits label.png\n", encoding="utf-8")
    assert ids(list_records(manifest(train={"lists": "list.txt"}), tmp_path, "train")) == ["an image"]


def one_problem(manifest: DatasetManifest, root: Path) -> str:
    """The only problem of the train split, which is also the error's text."""
    _, problems = find_records(manifest, root, "train")
    with pytest.raises(DataError) as caught:
        list_records(manifest, root, "train")
    assert problems == [str(caught.value)]
    assert "\n" not in problems[0]
    return problems[0]


def test_image_without_label(mini: Path, manifest: Manifest) -> None:
    (mini / "mini/train/labels/b.png").unlink()
    problem = one_problem(manifest(), mini)
    assert problem == "mini train: image train/images/b.png has no label; add the label or exclude the image"
    records, _ = find_records(manifest(), mini, "train")
    assert ids(records) == [f"train/images/{stem}" for stem in "acde"]


def test_label_without_image(mini: Path, manifest: Manifest) -> None:
    (mini / "mini/train/images/e.png").unlink()
    assert "label train/labels/e.png has no image; add the image" in one_problem(manifest(), mini)


def test_ambiguous_key(mini: Path, manifest: Manifest) -> None:
    touch(mini / "mini", "train/more/b.png")
    both = manifest(train={"images": ["train/images/*.png", "train/more/*.png"], "labels": "train/labels/*.png"})
    problem = one_problem(both, mini)
    assert "images train/images/b.png and train/more/b.png have the same key 'b'; change 'pairing'" in problem


def test_path_without_key(mini: Path, manifest: Manifest) -> None:
    touch(mini / "mini", "train/images/thumbs.png")
    keyed = manifest(pairing={"image": "images/(.)[.]png", "label": "labels/(.)[.]png"})
    assert "image train/images/thumbs.png does not match pairing.image" in one_problem(keyed, mini)


def test_two_images_of_one_name(mini: Path, manifest: Manifest) -> None:
    shutil.copy(mini / "mini/train/images/a.png", mini / "mini/train/images/a.bmp")
    lines = "train/images/a.bmp train/labels/a.png\ntrain/images/a.png train/labels/a.png\n"
    (mini / "mini/list.txt").write_text(lines, encoding="utf-8")
    problem = one_problem(manifest(train={"lists": "list.txt"}), mini)
    assert "train/images/a.png and a.bmp would both have the id train/images/a; exclude one" in problem


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"root": "nowhere"}, "nowhere is not a folder; correct the data root"),
        ({"train": {**GLOBS, "stems": "none.txt"}}, "none.txt does not exist in"),
        (
            {"train": {**GLOBS, "stems": "four.txt"}},
            "four.txt line 4: there is no image named zz; add it or remove the line",
        ),
        ({"train": {"images": "train/*.jpg", "labels": "train/*/*.png"}}, "matches train/*.jpg; correct the pattern"),
        ({"train": {"lists": "none.txt"}}, "none.txt does not exist in"),
        ({"train": {"lists": "blank.txt"}}, "the lists blank.txt name no pair; add lines 'image label'"),
        ({"train": {"lists": "three.txt"}}, "three.txt line 2: 'a b c' is not 'image label'"),
        ({"train": {"lists": "twice.txt"}}, "twice.txt line 2: train/images/a.png has two labels"),
        ({"train": {"lists": "gone.txt"}}, "train/labels/zz.png does not exist in"),
        ({"train": {"lists": "up.txt"}}, "../secret.png leads out of"),
        ({"train": {"lists": "absolute.txt"}}, "/etc/hosts leads out of"),
        ({"train": {"lists": "round.txt"}}, "test/../train/images/a.png leads out of"),
    ],
)
def test_every_problem_is_one_line(mini: Path, manifest: Manifest, change: dict[str, object], message: str) -> None:
    (mini / "secret.png").touch()
    lists = {
        "blank.txt": "\n  \n",
        "four.txt": "a\n\nsome/where/c.jpg more\nzz\n",
        "three.txt": "train/images/a.png train/labels/a.png\na b c\n",
        "twice.txt": "train/images/a.png train/labels/a.png\ntrain/images/a.png train/labels/b.png\n",
        "gone.txt": "train/images/a.png train/labels/zz.png\n",
        "up.txt": "train/images/a.png ../secret.png\n",
        "absolute.txt": "/etc/hosts train/labels/a.png\n",
        "round.txt": "test/../train/images/a.png train/labels/a.png\n",
    }
    for name, text in lists.items():
        (mini / "mini" / name).write_text(text, encoding="utf-8")
    problem = one_problem(manifest(**change), mini)
    assert problem.startswith("mini train: ")
    assert message in problem


def test_lists_of_names_select_images(mini: Path, manifest: Manifest) -> None:
    """As names alone or at the end of paths, over several lists; labels of other images are no error."""
    (mini / "mini/1.txt").write_text("d\n\n  b  \nd\n", encoding="utf-8")
    (mini / "mini/2.txt").write_text("elsewhere/a.jpg labels/a.png\n", encoding="utf-8")
    (mini / "mini/train/images/e.png").unlink()
    chosen = manifest(train={**GLOBS, "stems": ["1.txt", "2.txt"]})
    assert ids(list_records(chosen, mini, "train")) == [f"train/images/{stem}" for stem in "abd"]
    (mini / "mini/train/labels/b.png").unlink()
    assert "image train/images/b.png has no label" in one_problem(chosen, mini)


def test_a_name_may_have_dots(tmp_path: Path, manifest: Manifest) -> None:
    for stem in ("a.1", "a.2"):
        touch(tmp_path / "mini", f"train/images/{stem}.png", f"train/labels/{stem}.png")
    (tmp_path / "mini/list.txt").write_text("a.2\n", encoding="utf-8")
    chosen = manifest(train={**GLOBS, "stems": "list.txt"})
    assert [record.image.name for record in list_records(chosen, tmp_path, "train")] == ["a.2.png"]


def test_a_quick_check_finds_absent_datasets(mini: Path, manifest: Manifest) -> None:
    assert absence_reason(manifest(), mini) == ""
    assert absence_reason(manifest(root="none"), mini) == (
        f"{mini}/none is not a folder; correct the data root, or root in the manifest"
    )
    for change, lacking in (
        ({"train": {"lists": "list.txt"}}, "list.txt"),
        ({"train": {**GLOBS, "stems": "list.txt"}}, "list.txt"),
        (
            {"source_train": {"images": ["more/*.jpg", "more/*.png"], "labels": "*/labels/*"}},
            "more/*.jpg or more/*.png",
        ),
    ):
        found = absence_reason(manifest(**change, obtain="buy it."), mini)
        assert found == f"{mini}/mini has no {lacking}; to get the dataset: buy it."


def test_incomplete_download(mini: Path, manifest: Manifest) -> None:
    train = {"images": "train/images/*.png", "labels": "train/labels/*.png"}
    assert len(list_records(manifest(train=train | {"count": 5}), mini, "train")) == 5
    problem = one_problem(manifest(train=train | {"count": 6}), mini)
    assert "found 5 pairs, but train.count is 6; add files or correct the count" in problem


def test_links_must_not_lead_out(mini: Path, manifest: Manifest) -> None:
    outside = mini / "outside.png"
    shutil.copy(mini / "mini/train/images/a.png", outside)
    (mini / "mini/train/images/a.png").unlink()
    (mini / "mini/train/images/a.png").symlink_to(outside)
    assert "train/images/a.png leads out of" in one_problem(manifest(), mini)


def test_the_root_and_links_inside_it_may_be_links(mini: Path, manifest: Manifest) -> None:
    (mini / "link").symlink_to(mini / "mini")
    (mini / "mini/train/images/b.png").unlink()
    (mini / "mini/train/images/b.png").symlink_to(mini / "mini/train/images/a.png")
    assert len(list_records(manifest(root="link"), mini, "train")) == 5


def test_more_problems_are_counted(mini: Path, manifest: Manifest) -> None:
    for stem in "bcd":
        (mini / f"mini/train/labels/{stem}.png").unlink()
    with pytest.raises(DataError, match=r"image train/images/b\.png has no label; .* \(and 2 more: the audit lists"):
        list_records(manifest(), mini, "train")
