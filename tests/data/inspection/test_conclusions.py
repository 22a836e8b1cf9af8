"""From masks to classes: encoding, ignored values, binary masks, names."""

from typing import Any

import numpy as np
import pytest
from data.inspection.masks import Names, blocks, seen
from data.label_images import with_palette
from PIL import Image

from seg_transfer.data.encodings import ColorLabels, ValueLabels
from seg_transfer.data.inspection.answers import Answers
from seg_transfer.data.inspection.conclusions import Conclusion, conclude
from seg_transfer.errors import DataError


def of(*values: int, dtype: type = np.uint8, names: Names | None = None, **answers: Any) -> Conclusion:
    name = "m.png" if dtype == np.uint8 else "m.tif"
    return conclude([seen(blocks(*values, dtype=dtype), name)], [], names, Answers(**answers))


def kinds(conclusion: Conclusion) -> list[str]:
    return [doubt.kind for doubt in conclusion.doubts]


def colored(*colors: tuple[int, int, int]) -> Image.Image:
    return Image.fromarray(np.array(colors, np.uint8)[blocks(*range(len(colors)))])


def test_ids() -> None:
    conclusion = conclude([seen(blocks(0, 1, 2)), seen(blocks(2, 4, 255))], [])
    assert conclusion.labels == {"encoding": "id", "map": {0: 0, 1: 1, 2: 2, 4: 3}, "ignore": [255]}
    assert conclusion.classes == ("class_0", "class_1", "class_2", "class_4")
    assert [(row.values, row.pixels, row.images) for row in conclusion.table] == [
        ((0,), 64, 1), ((1,), 64, 1), ((2,), 128, 2), ((4,), 64, 1)
    ]  # fmt: skip
    assert (conclusion.ignored, conclusion.n_pixels) == ({255: 64}, 384)
    assert conclusion.ignored_share == pytest.approx(1 / 6)
    assert conclusion.notes == ("255 is ignored: all other values are ids from 0 to 4",)
    assert conclusion.doubts == ()
    ValueLabels(**conclusion.labels).check(4)


# Binary masks


@pytest.mark.parametrize(("top", "dtype"), [(1, np.uint8), (255, np.uint8), (65535, np.uint16), (1, np.uint16)])
def test_binary(top: int, dtype: type) -> None:
    conclusion = of(0, top, dtype=dtype)
    assert conclusion.classes == ("background", "foreground")
    assert conclusion.labels == {"encoding": "id", "map": {0: 0, top: 1}, "ignore": []}
    assert conclusion.notes == (() if top == 1 else (f"two values, 0 and {top}: a binary mask",))
    assert conclusion.doubts == ()


def test_binary_with_names() -> None:
    conclusion = of(0, 255, names=Names(by_line=("road", "car")))
    assert (conclusion.classes, conclusion.labels["map"]) == (("road", "car"), {0: 0, 255: 1})


def test_two_values_that_are_no_binary_mask() -> None:
    assert of(0, 7).classes == ("class_0", "class_7")
    assert kinds(of(3, 255)) == ["ignored"]


# Ignored values


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ((0, 85, 170, 255), "levels"),
        ((0, 128, 255), "levels"),
        ((0, 1, 2, 254, 255), "levels"),
        ((0, 9, 30, 255), "ignored"),
    ],
)
def test_255_may_be_a_class(values: tuple[int, ...], kind: str) -> None:
    conclusion = of(*values)
    assert kinds(conclusion) == [kind]
    line = conclusion.doubts[0].line
    assert line.startswith("label maps: 255 may be a class, or ignored (")
    assert line.endswith("); state --ignore 255 (it is ignored) or --ignore none (it is a class)")
    assert len(of(*values, ignore=()).classes) == len(values)
    stated = of(*values, ignore=(255,))
    assert len(stated.classes) == len(values) - 1
    assert stated.labels["ignore"] == [255]
    assert stated.doubts == ()


def test_255_that_is_named_is_a_class() -> None:
    conclusion = of(0, 85, 255, names=Names(by_id={0: "a", 85: "b", 255: "c"}))
    assert conclusion.labels == {"encoding": "id", "map": {0: 0, 85: 1, 255: 2}, "ignore": []}


def test_255_is_an_id_among_deeper_ones() -> None:
    conclusion = of(0, 255, 300, dtype=np.uint16)
    assert conclusion.labels["map"] == {0: 0, 255: 1, 300: 2}
    assert conclusion.doubts == ()


def test_65535_beside_small_ids_is_ignored() -> None:
    conclusion = of(*range(8), 65535, dtype=np.uint16)
    assert (len(conclusion.classes), conclusion.labels["ignore"], conclusion.doubts) == (8, [65535], ())


def test_much_that_is_ignored() -> None:
    conclusion = of(0, 1, 255, 255)
    assert conclusion.doubts[0].line == (
        "label maps: 50% of all pixels are 255 and would be ignored; state --ignore 255 (it is ignored) or "
        "--ignore none (it is a class)"
    )
    assert kinds(of(0, 1, 255, 255, ignore=(255,))) == []


def test_negative_values() -> None:
    conclusion = of(0, 1, 2, -1, dtype=np.int32)
    assert kinds(conclusion) == ["negative"]
    assert "state --ignore -1 (it is ignored)" in conclusion.doubts[0].line
    stated = of(0, 1, 2, -1, dtype=np.int32, ignore=(-1,))
    assert (stated.labels["ignore"], stated.doubts, len(stated.classes)) == ([-1], (), 3)
    with pytest.raises(DataError, match="value -1 is negative, so it can only be ignored; add it to --ignore 7,-1"):
        of(0, 1, 2, -1, dtype=np.int32, ignore=(7,))


def test_ignored_values_have_the_form_of_the_pixels() -> None:
    with pytest.raises(
        DataError, match=r"--ignore 0:0:0: label maps are read as numbers, such as --ignore 255; correct"
    ):
        of(0, 1, ignore=((0, 0, 0),))
    with pytest.raises(DataError, match=r"--ignore 0: label maps are read as colors, such as --ignore 0:0:0; correct"):
        conclude([seen(colored((0, 0, 0), (9, 0, 0)))], [], None, Answers(ignore=(0,)))


# Encodings


def test_colors() -> None:
    masks = [seen(colored((0, 0, 0), (200, 0, 0), (90, 90, 90))), seen(blocks(0, 90))]
    conclusion = conclude(masks, [])
    assert conclusion.labels == {"encoding": "rgb", "colours": [[0, 0, 0], [90, 90, 90], [200, 0, 0]], "ignore": []}
    assert conclusion.classes == ("color_0_0_0", "color_90_90_90", "color_200_0_0")
    ColorLabels(**conclusion.labels).check(3)
    stated = conclude(masks, [], None, Answers(ignore=((0, 0, 0),)))
    assert stated.labels["ignore"] == [[0, 0, 0]]
    assert len(stated.classes) == 2


def test_palettes_and_gray_masks_hold_the_same_numbers() -> None:
    conclusion = conclude([seen(with_palette(blocks(0, 1, 2))), seen(blocks(2, 3), "gray.png")], [])
    assert conclusion.labels == {"encoding": "palette", "map": {0: 0, 1: 1, 2: 2, 3: 3}, "ignore": []}
    (note,) = conclusion.notes
    assert note.startswith("1 label map with a palette and 1 label map in gray, such as gray.png: palette indices and")


def test_palettes_that_differ() -> None:
    first, second = with_palette(blocks(0, 1)), with_palette(blocks(0, 1))
    palette = first.getpalette()
    second.putpalette([*palette[3:6], *palette[:3], *palette[6:]])
    masks = [seen(first, "a.png"), seen(second, "b.png")]
    conclusion = conclude(masks, [])
    assert conclusion.doubts[0].kind == "palettes"
    assert conclusion.doubts[0].line == (
        "palette index 0 is color (11, 48, 85) in a.png, but (122, 159, 196) in b.png; "
        "state --labels-are palette (indices are classes) or --labels-are colors (colors are classes)"
    )
    by_index = conclude(masks, [], None, Answers(labels_are="palette"))
    by_color = conclude(masks, [], None, Answers(labels_are="colors"))
    assert (by_index.labels["map"], by_index.doubts) == ({0: 0, 1: 1}, ())
    assert by_color.labels["colours"] == [[11, 48, 85], [122, 159, 196]]
    assert [row.pixels for row in by_color.table] == [row.pixels for row in by_index.table] == [128, 128]


@pytest.mark.parametrize(("third", "expected"), [((11, 48, 85), []), ((9, 9, 8), ["mixed"])])
def test_palettes_beside_true_colors(third: tuple[int, int, int], expected: list[str]) -> None:
    true_color = colored((122, 159, 196), third, (233, 14, 51))
    conclusion = conclude([seen(with_palette(blocks(0, 1, 2))), seen(true_color, "rgb.png")], [])
    assert kinds(conclusion) == expected
    if expected:
        assert "m.png has a palette whose color (11, 48, 85) no true-color label map has" in conclusion.doubts[0].line
        assert conclusion.labels is None
    else:
        assert conclusion.labels["encoding"] == "rgb"
        assert len(conclusion.classes) == 3


@pytest.mark.parametrize(
    ("picture", "stated", "text"),
    [
        (colored((1, 2, 3), (0, 0, 0)), "gray", "has colored pixels, so it cannot be read as gray"),
        (colored((1, 2, 3), (0, 0, 0)), "palette", "has colored pixels, so it cannot be read as palette"),
        (with_palette(blocks(0, 1)), "gray", "has palette colors, so it cannot be read as gray"),
        (Image.fromarray(blocks(0, 300, dtype=np.uint16)), "colors", "has numbers of 16 bits, so it cannot be read as"),
    ],
)
def test_a_stated_reading_that_does_not_fit(picture: Image.Image, stated: Any, text: str) -> None:
    with pytest.raises(DataError, match=rf"m\.png: {text}.*; state another --labels-are"):
        conclude([seen(picture)], [], None, Answers(labels_are=stated))


def test_what_every_person_would_do_is_said() -> None:
    masks = [
        seen(Image.fromarray(blocks(0, 1)).convert("RGB"), "rgb.png"),
        seen(Image.fromarray(blocks(0, 2)).convert("LA"), "la.png"),
        seen(blocks(0, 3, dtype=np.uint16), "deep.png"),
    ]
    conclusion = conclude(masks, [])
    assert conclusion.notes == (
        "1 label map with R = G = B, such as rgb.png: read as gray",
        "1 label map with an opaque alpha channel, such as la.png: alpha is dropped",
        "label maps have 8, 16 bits: the stored numbers are the same ids",
    )
    assert (conclusion.labels["map"], conclusion.doubts) == ({0: 0, 1: 1, 2: 2, 3: 3}, ())


# Names


def test_names_by_line() -> None:
    conclusion = of(0, 1, 2, 3, names=Names(by_line=("road", "", "car", "sky")))
    assert conclusion.classes == ("road", "car", "sky")
    assert conclusion.labels == {"encoding": "id", "map": {0: 0, 2: 1, 3: 2}, "ignore": [1]}
    assert conclusion.doubts == ()


def test_ids_that_begin_at_one() -> None:
    names = Names(by_line=("road", "car", "sky"))
    conclusion = of(1, 2, 3, names=names)
    assert conclusion.doubts[0].line == (
        "values are 1 to 3, 0 never occurs, and names.txt has 3 lines; state --first-id 1 (line 1 names value 1) "
        "or --first-id 0 (line 1 names value 0)"
    )
    assert of(1, 2, 3, names=names, first_id=1).labels["map"] == {1: 0, 2: 1, 3: 2}
    with pytest.raises(DataError, match=r"m\.png: value 3 has no name: the 3 lines of names\.txt name 0 to 2"):
        of(1, 2, 3, names=names, first_id=0)
    with pytest.raises(DataError, match=r"m\.png: value 0 has no name: the 3 lines of names\.txt name 1 to 3"):
        of(0, 2, 3, names=names, first_id=1)


def test_a_name_that_never_occurs() -> None:
    names = Names(by_line=("road", "car", "sky"))
    conclusion = of(0, 1, names=names)
    assert kinds(conclusion) == ["unseen"]
    assert "names.txt: name sky never occurs in 1 label map; state --first-id 0" in conclusion.doubts[0].line
    stated = of(0, 1, names=names, first_id=0)
    assert (stated.classes, stated.doubts) == (("road", "car", "sky"), ())
    assert [row.images for row in stated.table] == [1, 1, 0]
    # Without 0, the lines may as well begin at 1.
    assert [option for option, _ in of(1, 2, names=names).doubts[0].readings] == ["--first-id 1", "--first-id 0"]


def test_names_by_id_need_no_shift() -> None:
    conclusion = of(1, 2, 5, names=Names(by_id={1: "road", 2: "car", 5: "sky", 9: "sea"}))
    assert conclusion.labels["map"] == {1: 0, 2: 1, 5: 2, 9: 3}
    assert conclusion.doubts == ()
    with pytest.raises(DataError, match=r"m\.png: value 5 has no name: names\.txt names 2 others; add it, or state"):
        of(1, 2, 5, names=Names(by_id={1: "road", 2: "car"}))


def test_names_by_color() -> None:
    names = Names(by_color={(200, 0, 0): "car", (0, 0, 0): "road"})
    conclusion = conclude([seen(colored((0, 0, 0), (200, 0, 0)))], [], names)
    assert conclusion.classes == ("car", "road")
    assert conclusion.labels["colours"] == [[200, 0, 0], [0, 0, 0]]
    palette = conclude(
        [seen(with_palette(blocks(0, 1)))], [], Names(by_color={(11, 48, 85): "a", (122, 159, 196): "b"})
    )
    assert (palette.labels["encoding"], palette.classes) == ("rgb", ("a", "b"))
    with pytest.raises(DataError, match=r"m\.png: color \(9, 0, 0\) has no name: .*, or state --ignore 9:0:0"):
        conclude([seen(colored((0, 0, 0), (9, 0, 0)))], [], names)
    with pytest.raises(DataError, match=r"names\.txt names numbers, but label maps hold colors; write 'R G B name'"):
        conclude([seen(colored((0, 0, 0), (9, 0, 0)))], [], Names(by_line=("a", "b")))


def test_a_named_value_that_is_ignored_is_no_class() -> None:
    conclusion = of(0, 1, 2, names=Names(by_line=("void", "road", "car")), ignore=(0,))
    assert (conclusion.classes, conclusion.labels["ignore"]) == (("road", "car"), [0])
    assert conclusion.notes == ("void is ignored, so it is no class",)


# Numbers of classes


def test_too_few_classes() -> None:
    with pytest.raises(DataError, match=r"m\.png: only one class \(7\) in 1 label map, but 2 to 4096 are needed"):
        of(7)
    with pytest.raises(DataError, match="there is no label map to look at"):
        conclude([], [])


def test_too_many_classes() -> None:
    values = np.arange(4097, dtype=np.uint16)
    masks = [
        seen(np.kron(values[start : start + 64][None], np.ones((4, 4))).astype(np.uint16))
        for start in range(0, 4097, 64)
    ]
    with pytest.raises(DataError, match=r"m\.png: 4097 classes in 65 label maps, but 2 to 4096 are needed"):
        conclude(masks, [])
    assert len(conclude(masks[:-1], []).classes) == 4096
