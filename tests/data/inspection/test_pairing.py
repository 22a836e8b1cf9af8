import random
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_transfer.data.inspection import pairing, rivals
from seg_transfer.data.inspection.answers import Answers
from seg_transfer.data.inspection.layout import Layout, find_layout
from seg_transfer.data.inspection.pairing import Pairs, find_pairing
from seg_transfer.data.manifest import DatasetManifest, Pairing
from seg_transfer.data.records import find_records
from seg_transfer.errors import DataError

Manifest = Callable[..., DatasetManifest]
CITIES = ("ulm/0001", "ulm/0002", "bonn/0001", "trier/0001")
FLAT = ("a", "b7", "c")


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def layout_of(root: Path, folders: tuple[str, str] = ("images", "labels")) -> Layout:
    return find_layout(root / folders[0], root / folders[1], Answers())


def recorded(layout: Layout, manifest: Manifest) -> list[tuple[str, ...]]:
    """The pairs that a manifest of this layout has, through the same code that reads any manifest."""
    made = manifest(train=layout.split, pairing=layout.pairing, root=".", eval=None).following_links()
    records, problems = find_records(made, layout.root, "train")
    assert problems == []
    root = layout.root
    return [
        (record.image.relative_to(root).as_posix(), record.label.relative_to(root).as_posix()) for record in records
    ]


# (key -> path of the image, of the label map), folders, the rule
RULES = {
    "path": (CITIES, "images/{}.jpg", "labels/{}.png", "same path"),
    "name": (("ulm/u1", "ulm/u2", "bonn/b1"), "images/{}.jpg", "labels/{name}.png", "same name"),
    "end": (CITIES, "images/{}.jpg", "labels/{}_mask.png", "same path; label maps end with _mask"),
    "start": (FLAT, "images/{}.jpg", "labels/mask_{}.png", "same path; label maps begin with mask_"),
    "both ends": (
        FLAT,
        "images/{}.jpg",
        "labels/gt-{}-v2.png",
        "same path; label maps begin with gt-, label maps end with -v2",
    ),
    "end of images": (FLAT, "images/{}_rgb.png", "labels/{}.png", "same path; images end with _rgb"),
    "ends of both": (
        CITIES,
        "images/{}_leftImg8bit.png",
        "labels/{}_gtFine_labelIds.png",
        "same path; images end with _leftImg8bit, label maps end with _gtFine_labelIds",
    ),
    "double suffix": (FLAT, "images/{}.jpg", "labels/{}.jpg.png", "same path; label maps end with .jpg"),
    "numbers": (("1", "11", "111"), "images/{}.jpg", "labels/{}_1.png", None),
    "dots": (("v1.0.a", "v1.0.b", "v1.1"), "images/{}.jpg", "labels/{}.png", "same path"),
    "uppercase": (FLAT, "images/{}.JPG", "labels/{}.PnG", "same path"),
    "long": ([letter * 240 for letter in "abc"], "images/{}.jpg", "labels/{}.png", "same path"),
    "signs": (
        ("a [1] (x)", "b {2} *+?", "c^$ d|e", "f#~&g"),
        "images/My [new] */{}.jpg",
        "labels/My [new] */(ok) {}[m].png",
        "same path; label maps begin with (ok) , label maps end with [m]",
    ),
}


@pytest.mark.parametrize(("keys", "image", "label", "rule"), RULES.values(), ids=RULES)
def test_a_manifest_has_the_pairs_of_every_rule(
    tmp_path: Path, manifest: Manifest, keys: tuple[str, ...], image: str, label: str, rule: str | None
) -> None:
    pairs = [tuple(text.format(key, name=Path(key).name) for text in (image, label)) for key in keys]
    touch(tmp_path, *(path for pair in pairs for path in pair))
    layout = layout_of(tmp_path)
    assert recorded(layout, manifest) == sorted(pairs)
    assert rule in (None, layout.rule)
    assert (layout.unlabeled, layout.unpaired, layout.doubts) == ((), (), ())


# One tree, in which image and label map are told apart by their paths alone.
TREES = {
    "folders, names in several": (CITIES, lambda c, n: (f"{c}/img/{n}.png", f"{c}/ann/{n}.png")),
    "folders, unique names": (FLAT, lambda _, n: (f"s/img/{n}.png", f"s/ann/{n}.png")),
    "folders above": (
        CITIES,
        lambda c, n: (f"img8bit/{c}/{n}_img8bit.png", f"gtFine/{c}/{n}_gtFine_labelIds.png"),
    ),
    "affix": (CITIES, lambda c, n: (f"{c}/{n}.png", f"{c}/{n}_mask.png")),
    "affix before": (FLAT, lambda _, n: (f"{n}.png", f"mask_{n}.png")),
    "both affixes": (FLAT, lambda _, n: (f"{n}_rgb.png", f"{n}_label.png")),
    "suffix": (CITIES, lambda c, n: (f"{c}/{n}.jpg", f"{c}/{n}.png")),
    "double suffix": (FLAT, lambda _, n: (f"{n}.jpg", f"{n}.jpg.png")),
    "arrays": (FLAT, lambda _, n: (f"{n}.png", f"{n}.npy")),
}


@pytest.mark.parametrize(("keys", "paths"), TREES.values(), ids=TREES)
@pytest.mark.parametrize("extra", [False, True])
def test_image_and_label_map_in_one_tree(
    tmp_path: Path, manifest: Manifest, keys: tuple[str, ...], paths: Callable[[str, str], tuple[str, str]], extra: bool
) -> None:
    pairs = [tuple(f"all/{path}" for path in paths(str(Path(key).parent), Path(key).name)) for key in keys]
    touch(tmp_path, *(path for pair in pairs for path in pair))
    alone = "all/" + paths("dresden", "zz9")[0]
    if extra:
        touch(tmp_path, alone)
    layout = layout_of(tmp_path, ("all", "all"))
    prefix = layout.root.relative_to(tmp_path).as_posix()
    found = [tuple(f"{prefix}/{path}" for path in pair) for pair in recorded(layout, manifest)]
    assert found == sorted(pairs)
    assert [f"{prefix}/{path}" for path in layout.unlabeled] == [alone] * extra


@pytest.mark.parametrize(
    ("image", "label"), [("img/{}.png", "ann/{}.tif"), ("{}_image.png", "{}_label.jpg"), ("img/{}.jpg", "ann/{}.png")]
)
def test_a_label_map_without_an_image_never_exchanges_the_roles(tmp_path: Path, image: str, label: str) -> None:
    """Formats would pair all files, but the wrong way around: names come first."""
    touch(tmp_path, *(image.format(name) for name in FLAT[1:]), *(label.format(name) for name in FLAT))
    layout = layout_of(tmp_path, (".", "."))
    assert [doubt.kind for doubt in layout.doubts] == ["unpaired"]
    assert layout.unpaired == (label.format(FLAT[0]),)
    assert layout.unlabeled == ()


def test_formats_that_hold_images_or_label_maps_tell_nothing(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}.{suffix}" for name in FLAT for suffix in ("png", "tif")))
    with pytest.raises(DataError, match="cannot be told apart by their names; move one of both"):
        layout_of(tmp_path, (".", "."))


@pytest.mark.parametrize("inner", ["label", "image"])
@pytest.mark.parametrize("stems", [("x", "y", "z"), ("x", "u/x", "v/x"), ("masks", "pictures", "z")])
def test_one_folder_in_the_other(tmp_path: Path, manifest: Manifest, inner: str, stems: tuple[str, ...]) -> None:
    folders = ("all", "all/masks") if inner == "label" else ("all/pictures", "all")
    pairs = [tuple(f"{folder}/{stem}.png" for folder in folders) for stem in stems]
    touch(tmp_path, *(path for pair in pairs for path in pair))
    layout = layout_of(tmp_path, folders)
    assert [tuple(f"all/{path}" for path in pair) for pair in recorded(layout, manifest)] == sorted(pairs)
    assert (layout.unlabeled, layout.unpaired) == ((), ())


@pytest.mark.parametrize("folder", ["im\\\\ages", "c:images"])
def test_a_folder_that_no_manifest_can_name(tmp_path: Path, folder: str) -> None:
    touch(tmp_path, f"{folder}/a.png", "labels/a.png")
    with pytest.raises(DataError, match=r"no manifest can name it, because of a backslash, or .*; rename it") as caught:
        layout_of(tmp_path, (folder, "labels"))
    assert str(caught.value).startswith(f"{tmp_path / folder}: ")


def test_unlabeled_images_are_left_out_and_listed(tmp_path: Path, manifest: Manifest) -> None:
    touch(tmp_path, *(f"images/{city}.jpg" for city in CITIES), *(f"labels/{city}.png" for city in CITIES[:2]))
    layout = layout_of(tmp_path)
    assert recorded(layout, manifest) == [(f"images/{city}.jpg", f"labels/{city}.png") for city in CITIES[:2]]
    assert layout.unlabeled == ("images/bonn/0001.jpg", "images/trier/0001.jpg")
    assert layout.split.unpaired == "ignore"


def test_the_same_name_in_several_folders_is_never_paired_by_the_first(tmp_path: Path) -> None:
    """A flat label map of a name that occurs in two folders has no image of its own."""
    touch(tmp_path, *(f"images/{city}.jpg" for city in CITIES), "labels/0001.png", "labels/0002.png")
    with pytest.raises(
        DataError, match=r"0001\.jpg and .*0001\.jpg: both have the name of .*labels/0001\.png; keep one"
    ):
        layout_of(tmp_path)


def test_names_pair_in_any_unicode_form(tmp_path: Path, manifest: Manifest) -> None:
    names = ["caf\u00e9", "\u00fcber", "\u1e69\u0323"]
    forms = [[unicodedata.normalize(form, name) for name in names] for form in ("NFD", "NFC")]
    assert forms[0] != forms[1]
    pairs = [(f"images/{a}.jpg", f"labels/{b}_m.png") for a, b in zip(*forms, strict=True)]
    touch(tmp_path, *(path for pair in pairs for path in pair))
    assert recorded(layout_of(tmp_path), manifest) == sorted(pairs)


def test_hidden_files_are_excluded_in_these_folders_alone(tmp_path: Path, manifest: Manifest) -> None:
    """Elsewhere, '**' could search a whole home folder."""
    pairs = [(f"a/images/{key}.jpg", f"b/labels/{key}.png") for key in FLAT]
    hidden = [f"a/images/{name}" for name in ("._a.jpg", ".trash/x.jpg", "__MACOSX/y.jpg", "deep/.z/w.jpg")]
    touch(tmp_path, *hidden, "b/labels/.ipynb_checkpoints/a.png", *(path for pair in pairs for path in pair))
    layout = find_layout(tmp_path / "a/images", tmp_path / "b/labels", Answers())
    assert recorded(layout, manifest) == pairs
    assert layout.split.unpaired == "error"
    assert all(pattern.startswith(("a/images/", "b/labels/")) for pattern in layout.split.exclude)


def test_hidden_files_behind_a_link_are_excluded(tmp_path: Path, manifest: Manifest) -> None:
    touch(tmp_path, *(f"{kind}/{name}.png" for kind in ("x", "y") for name in (*FLAT, ".trash")))
    for folder, target in (("images", "x"), ("labels", "y")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "linked").symlink_to(tmp_path / target)
    layout = layout_of(tmp_path)
    assert recorded(layout, manifest) == [(f"images/linked/{key}.png", f"labels/linked/{key}.png") for key in FLAT]


def test_what_no_rule_pairs_is_left_over() -> None:
    found = find_pairing(["i/a.jpg", "i/b.jpg"], ["l/a.png", "l/c.png", "l/d.png"], "i", "l")
    assert found.pairs == (("i/a.jpg", "l/a.png"),)
    assert (found.unlabeled, found.unpaired) == (("i/b.jpg",), ("l/c.png", "l/d.png"))


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=("C", "Z")), max_size=8)
AFFIXES = st.text("ab_-.([+ ", max_size=4)


@given(
    names=st.sets(NAMES.map(lambda name: unicodedata.normalize("NFC", f"x{name}")), min_size=2, max_size=6),
    affixes=st.tuples(AFFIXES, AFFIXES, AFFIXES, AFFIXES),
    cities=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_pairs_are_right_or_left_over(names: set[str], affixes: tuple[str, str, str, str], *, cities: bool) -> None:
    """Whatever the constant beginnings and ends are: no image gets another one's label map if all are paired."""
    start, end, label_start, label_end = affixes
    pairs = sorted(
        (f"i/{city}{start}{name}{end}.jpg", f"l/{city}{label_start}{name}{label_end}.png")
        for name in names
        for city in (("u/", "v/") if cities else ("",))
    )
    shuffled = random.Random(0).sample(pairs, len(pairs))
    images, labels = sorted(image for image, _ in shuffled), sorted(label for _, label in shuffled)
    found = find_pairing(images, labels, "i", "l")
    if not found.unpaired:
        assert list(found.pairs) == pairs


def test_a_number_is_not_the_beginning_of_another_one() -> None:
    found = find_pairing(["1.jpg", "2.jpg", "3.jpg"], ["10.png", "20.png", "30.png"])
    assert found.pairs == ()
    found = find_pairing(["1.jpg", "10.jpg"], ["1_0.png", "10_0.png"])
    assert found.pairs == (("1.jpg", "1_0.png"), ("10.jpg", "10_0.png"))


def test_a_folder_for_each_image_is_no_folder_of_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders that could stand for each other are pairs of all folders."""
    images, labels = ([f"{number:02}/{name}.png" for number in range(40)] for name in ("a", "a_mask"))
    assert pairing._swapped_folders(images, labels) == []
    few = [f"{number}/a.png" for number in range(3)]
    assert pairing._swapped_folders(few, ["l/a.png"]) == [("0", "l"), ("1", "l"), ("2", "l")]
    monkeypatch.setattr(pairing, "_swapped_folders", lambda *_: pytest.fail("is needed last"))
    assert len(find_pairing(images, labels).pairs) == 40


@pytest.mark.parametrize(
    ("file", "is_in_place"),
    [
        ("ulm/ann/z.png", True),  # a folder of label maps
        ("ulm/parts/z.png", True),  # beside it
        ("ulm/img/z.png", False),  # of their images
        ("graz/img/z.png", False),  # of no city with label maps
        ("ulm/parts/z.jpg", False),  # another suffix
        ("ulm/z.png", False),
    ],
)
def test_the_place_of_label_maps(file: str, *, is_in_place: bool) -> None:
    pairs = tuple((f"{city}/img/a.png", f"{city}/ann/a.png") for city in ("ulm", "bonn"))
    found = Pairs("same name", Pairing(image="(.+)", label="(.+)"), pairs, (file,), ())
    assert list(rivals._in_place_of_labels(found)) == [file] * is_in_place


@pytest.mark.parametrize(
    ("images", "labels", "other"),
    [
        (("cat", "dog"), ("cat", "dog"), "catfish"),  # one more of two
        (("dog_a",), ("dog_a",), "dog_b"),
    ],
)
def test_a_label_map_without_an_image_is_none_of_another_kind(
    tmp_path: Path, images: tuple[str, ...], labels: tuple[str, ...], other: str
) -> None:
    touch(tmp_path, *(f"images/{name}.jpg" for name in images), *(f"labels/{name}.png" for name in (*labels, other)))
    assert layout_of(tmp_path).unpaired == (f"labels/{other}.png",)


@pytest.mark.parametrize("names", [("dog",), ("dog", "fox")])
def test_label_maps_of_two_kinds_of_few_images(tmp_path: Path, names: tuple[str, ...]) -> None:
    touch(tmp_path, *(f"images/{name}.jpg" for name in names))
    touch(tmp_path, *(f"labels/{name}{end}.png" for name in names for end in ("", "_parts")))
    with pytest.raises(DataError, match=r"images/dog\.jpg: has several label maps, .*dog\.png and .*dog_parts\.png"):
        layout_of(tmp_path)
