"""Maps of instances and pictures are doubted; classes that only look a little like them are not."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from data.inspection.masks import Names, blocks, seen

from seg_transfer.data.inspection.answers import Answers
from seg_transfer.data.inspection.conclusions import conclude
from seg_transfer.data.inspection.doubts import Doubt
from seg_transfer.data.inspection.evidence import MaskEvidence
from seg_transfer.data.inspection.image_evidence import ImageEvidence, look_at_image


def doubts(masks: list[MaskEvidence], names: Names | None = None, **answers: object) -> list[Doubt]:
    return list(conclude(masks, [], names, Answers(**answers)).doubts)


def numbered(*values: list[int], dtype: type = np.uint8) -> list[MaskEvidence]:
    return [seen(blocks(*each, dtype=dtype), f"m{number}.png") for number, each in enumerate(values)]


def painted(*values: list[int]) -> list[MaskEvidence]:
    """Number n as the color (n, 255 - n, 7 n + n // 256), all modulo 256."""

    def color(n: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        return (np.stack([n, 255 - n, 7 * n + n // 256], axis=-1) % 256).astype(np.uint8)

    return [seen(color(blocks(*each, dtype=np.int64)), f"m{number}.png") for number, each in enumerate(values)]


def test_numbers_up_to_another_one_in_every_mask_count_objects() -> None:
    masks = numbered([*range(8)], [*range(12)], [*range(10)])
    (doubt,) = doubts(masks)
    assert doubt.kind == "instances"
    assert doubt.line == (
        "m0.png and others: label maps count from 1, such as to 7 in m0.png and to 11 in m1.png, as in maps of "
        "instances; give maps of classes; state --unlisted class (each is a class)"
    )
    assert doubts(masks, unlisted="class") == []


def test_a_covered_object_leaves_a_gap() -> None:
    assert [doubt.kind for doubt in doubts(numbered([*range(8)], [*range(7), *range(8, 13)], [*range(10)]))] == [
        "instances"
    ]


@pytest.mark.parametrize(
    "values",
    [
        ([0, 1, 2, 3, 7], [0, 2, 5, 11], [*range(13)]),  # gaps
        ([*range(12)], [*range(12)], [*range(6)]),  # most masks have all classes
        ([0, 1], [0, 1, 2], [0, 1, 2, 3]),  # few numbers
        ([*range(11)], [*range(12)], [*range(13)]),  # nearly the same number
    ],
)
def test_classes_do_not_count_objects(values: tuple[list[int], ...]) -> None:
    assert doubts(numbered(*values)) == []


def test_named_numbers_are_classes() -> None:
    names = Names(by_id={value: f"kind {value}" for value in range(12)})
    assert doubts(numbered([*range(8)], [*range(12)], [*range(10)]), names) == []


def test_numbers_of_class_and_object_lie_far_apart() -> None:
    cars = [26000 + number for number in range(9)]
    masks = numbered([7, 11, *cars], [7, 23, *cars[:4], *range(24000, 24007)], dtype=np.uint16)
    (doubt,) = doubts(masks)
    # By hand: 7, 11 and 23, nine cars, seven of another class.
    assert "19 values up to 26008 lie far apart, such as 26006, 26007, 26008, as in" in doubt.line


def test_a_large_vocabulary_does_not() -> None:
    first, second = [*range(0, 900, 3)], [*range(1, 900, 3)]
    assert doubts(numbered([*first, 5, 8], second, dtype=np.uint16)) == []


def test_colors_of_one_mask_alone_are_objects() -> None:
    own = [[0, *range(1 + 5 * number, 6 + 5 * number)] for number in range(4)]
    (doubt,) = doubts(painted(*own))
    assert doubt.kind == "instances"
    assert "20 of 21 colors, such as (1, 254, 7), occur in one label map only" in doubt.line
    # Two more shared ones, of 21, are more than a twentieth.
    own[0].append(20)
    own[1].append(19)
    assert doubts(painted(*own)) == []
    assert doubts(painted(*own[2:])) == []  # nothing is known from two masks


def test_more_colors_than_people_tell_apart() -> None:
    kinds = [doubt.line for doubt in doubts(painted([*range(257)], [*range(257)]))]
    assert len(kinds) == 1
    assert "257 colors are more than people tell apart" in kinds[0]
    assert doubts(painted([*range(256)], [*range(256)])) == []


def test_images_of_few_colors_are_said(tmp_path: Path) -> None:
    from PIL import Image

    file = tmp_path / "a.png"
    Image.fromarray(blocks(*range(64))).save(file)
    image = look_at_image(file)
    assert (image.n_colors, image.is_constant) == (64, False)
    notes = conclude([seen(blocks(*range(64)))], [image], None, Answers()).notes
    assert [note for note in notes if "64 colors, as label maps have; exchange --images and --labels" in note]
    Image.fromarray(blocks(*range(65))).save(file)
    more: ImageEvidence = look_at_image(file)
    assert (more.n_colors, more.is_constant) == (None, False)
    assert not [
        note for note in conclude([seen(blocks(*range(65)))], [more], None, Answers()).notes if "exchange" in note
    ]
