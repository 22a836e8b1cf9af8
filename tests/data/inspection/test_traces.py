"""Compression and smoothing leave traces, which are doubted; thin classes are none."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import numpy.typing as npt
import pytest
from data.inspection.masks import Names, disks, seen
from PIL import Image

from seg_transfer.data.inspection.answers import Answers
from seg_transfer.data.inspection.conclusions import Conclusion, conclude

Fault = Callable[[Image.Image], Image.Image]


def jpeg(quality: int) -> Fault:
    def fault(image: Image.Image) -> Image.Image:
        content = BytesIO()
        image.save(content, "JPEG", quality=quality)
        return Image.open(content)

    return fault


def resized(factor: float, kind: Image.Resampling) -> Fault:
    return lambda image: image.resize((round(image.width * factor), round(image.height * factor)), kind)


FAULTS = {
    **{f"jpeg {quality}": jpeg(quality) for quality in (50, 75, 95)},
    **{
        f"{kind.name} {factor}": resized(factor, kind)
        for kind in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
        for factor in (0.5, 1.5)
    },
}
COLORS = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]], np.uint8)


def binary(number: int) -> Image.Image:
    return Image.fromarray(disks(255, 0, side=40 + number))


def ids(number: int) -> Image.Image:
    return Image.fromarray(disks(4, 9, 2, side=40 + number))


def colors(number: int) -> Image.Image:
    return Image.fromarray(COLORS[disks(3, 4, 1, side=40 + number)])


def conclusion_with(
    kind: Callable[[int], Image.Image], fault: Fault, faulty: set[int], **answers: object
) -> Conclusion:
    pictures = [fault(kind(number)) if number in faulty else kind(number) for number in range(12)]
    masks = [seen(picture, f"m{number}.png") for number, picture in enumerate(pictures)]
    return conclude(masks, [], None, Answers(**answers))


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("kind", [binary, ids, colors])
def test_one_faulty_file_among_others_is_named(kind: Callable[[int], Image.Image], fault: Fault) -> None:
    rare = [doubt for doubt in conclusion_with(kind, fault, {7}).doubts if doubt.kind == "rare"]
    assert len(rare) == 1
    assert rare[0].seen.startswith("m7.png: ")
    assert [option for option, _ in rare[0].readings] == ["--unlisted nearest", "--unlisted ignore", "--unlisted class"]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("kind", [binary, ids, colors])
def test_with_the_answer_the_classes_are_those_of_clean_masks(kind: Callable[[int], Image.Image], fault: Fault) -> None:
    clean = conclusion_with(kind, fault, set())
    assert clean.doubts == ()
    answered = conclusion_with(kind, fault, {7}, unlisted="nearest")
    assert answered.labels == clean.labels | {"unlisted": "nearest"}
    assert (answered.classes, answered.doubts) == (clean.classes, ())


@pytest.mark.parametrize("kind", [binary, ids, colors])
def test_all_files_faulty(kind: Callable[[int], Image.Image]) -> None:
    for fault in FAULTS.values():
        assert "rare" in [doubt.kind for doubt in conclusion_with(kind, fault, set(range(12))).doubts]


def test_a_jpeg_file_is_doubted_whatever_it_holds() -> None:
    masks = [seen(disks(1, 2)), seen(np.full((16, 16), 1, np.uint8), "flat.jpg")]
    doubts = conclude(masks, []).doubts
    assert [doubt.kind for doubt in doubts] == ["lossy"]
    assert doubts[0].line.startswith("flat.jpg uses lossy compression (JPEG); state --unlisted nearest (")


@pytest.mark.parametrize("factor", [0.5, 1.5])
@pytest.mark.parametrize("kind", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
def test_smoothing_that_leaves_no_new_value(kind: Image.Resampling, factor: float) -> None:
    sharp = [Image.fromarray(disks(2, 1, 2, side=60 + number)) for number in range(4)]
    assert conclude([seen(image) for image in sharp], []).doubts == ()
    smooth = [seen(resized(factor, kind)(image)) for image in sharp]
    assert {value for mask in smooth for value in mask.values} == {0, 1, 2}
    doubts = conclude(smooth, []).doubts
    assert [doubt.kind for doubt in doubts] == ["lossy"]
    assert "m.png and 3 more label maps run smoothly from class to class along edges" in doubts[0].seen
    assert conclude(smooth, [], None, Answers(unlisted="class")).doubts == ()


def thin_lines(width: int) -> npt.NDArray[np.uint8]:
    """A crack: a line that winds and branches, with a width of 1 or 2 pixels."""
    mask = np.zeros((64, 64), np.uint8)
    for column in range(60):
        row = 30 + round(12 * np.sin(column / 7))
        mask[row : row + width, column] = 1
        mask[column, 20 + column // 5 : 20 + column // 5 + width] = 1
    return mask


@pytest.mark.parametrize("background", [[0], [0, 5]])
def test_a_thin_class_is_no_trace(background: list[int]) -> None:
    lines = thin_lines(2)
    lines[:4] = background[-1]
    conclusion = conclude([seen(lines)], [])
    assert (conclusion.doubts, len(conclusion.classes)) == ((), len(background) + 1)


def test_of_two_values_none_is_a_blend() -> None:
    conclusion = conclude([seen(255 * thin_lines(1))], [])
    assert (conclusion.doubts, conclusion.classes) == ((), ("background", "foreground"))


def test_a_class_one_pixel_wide_is_doubted_unless_named() -> None:
    line = disks(3)
    line[5, :] = line[:, 90] = 1
    assert [doubt.kind for doubt in conclude([seen(line)], []).doubts] == ["rare"]
    named = conclude([seen(line)], [], Names(by_id={0: "a", 1: "b", 3: "c"}))
    assert (named.doubts, named.labels["map"]) == ((), {0: 0, 1: 1, 3: 2})


def test_a_thin_border_that_is_ignored_is_no_trace() -> None:
    border = disks(1, 2)
    edge = border[:, 1:] != border[:, :-1]
    border[:, 1:][edge] = 255
    conclusion = conclude([seen(border)], [])
    assert (conclusion.doubts, conclusion.labels["ignore"]) == ((), [255])


def test_a_trace_that_is_as_large_as_the_number_of_names_is_no_missing_name() -> None:
    """Where 0 occurs, names do not begin at 1, so the value after the last name is a trace like all others."""
    clean = np.repeat(np.arange(4, dtype=np.uint8), 8)[None].repeat(8, axis=0)
    spotted = clean.copy()
    spotted[::2, ::4] = 4
    names = Names(by_line=("sky", "road", "tree", "car"))
    conclusion = conclude([seen(clean, "a.png"), seen(spotted, "b.png")], [], names)
    assert [doubt.kind for doubt in conclusion.doubts] == ["rare"]
    assert conclusion.doubts[0].seen.startswith("b.png: value 4 lies only on edges or in spots")
    assert conclusion.classes == names.by_line


@pytest.mark.parametrize("unlisted", [None, "nearest", "ignore"])
@pytest.mark.parametrize("n_jpeg", [0, 1])
def test_ids_side_by_side_stay_classes_whatever_is_stated(unlisted: str | None, n_jpeg: int) -> None:
    """Levels 0, 1 and 2 are as close as the variants that JPEG makes; label maps without traces tell them apart."""
    picture = disks(1, 2, 255, side=64)
    masks = [seen(picture, f"m{number}.png") for number in range(5)]
    masks += [seen(picture, f"n{number}.jpg", quality=90) for number in range(n_jpeg)]
    conclusion = conclude(
        masks,
        [],
        None,
        Answers(
            unlisted=unlisted,
        ),
    )
    assert conclusion.labels["map"] == {0: 0, 1: 1, 2: 2}
    clean = conclude(masks[:5], [], None, Answers(unlisted=unlisted))
    assert (clean.labels["ignore"], len(clean.classes)) == ([255], 3)


def test_a_thin_class_of_clean_label_maps_survives_one_lossy_file() -> None:
    """In all masks, 240 has fewer solid pixels than others: a third, which would be too few in a lossy file."""
    drawn = disks(80, 160)
    drawn[3, :180] = drawn[2:4, 40:80] = 240
    masks = [*(seen(drawn, f"m{number}.png") for number in range(4)), seen(drawn, "n.jpg", quality=90)]
    share = masks[0].values[240].solid / masks[0].values[240].pixels
    assert 1 / 4 < share < 1 / 2
    for unlisted in ("nearest", "ignore"):
        assert list(conclude(masks, [], None, Answers(unlisted=unlisted, ignore=())).labels["map"]) == [0, 80, 160, 240]


@pytest.mark.parametrize("kind", [ids, colors])
def test_unlisted_values_count_as_they_are_read(kind: Callable[[int], Image.Image]) -> None:
    """By hand: every pixel of another value, as it is read."""
    ignored, nearest = (conclusion_with(kind, jpeg(75), {7}, unlisted=how) for how in ("ignore", "nearest"))
    kept = sum(row.pixels for row in ignored.table)
    assert ignored.n_pixels == sum((picture := kind(number)).width * picture.height for number in range(12))
    assert 0 < ignored.ignored_share == (ignored.n_pixels - kept) / ignored.n_pixels
    assert (nearest.ignored_share, sum(row.pixels for row in nearest.table)) == (0, nearest.n_pixels)


def test_unlisted_values_count_as_the_nearest_and_then_the_smallest_class() -> None:
    masks = [seen(disks(10, 14, side=64)) for _ in range(3)]
    spotted = disks(10, 14, side=64)
    spotted[0, 1:9:2] = (12, 13, 4, 6)  # 12 is as far from 10 as from 14
    conclusion = conclude([*masks, seen(spotted)], [], None, Answers(unlisted="nearest"))
    n_rare = {row.values[0]: row.pixels - 4 * masks[0].values[row.values[0]].pixels for row in conclusion.table}
    assert n_rare == {0: -3, 10: 2, 14: 1}
