"""Stated values and names that no label map can hold, or that say twice what they mean."""

from typing import Any

import numpy as np
import pytest
from data.inspection.masks import Names, blocks, seen
from data.label_images import with_palette

from seg_transfer.data.encodings import ValueLabels
from seg_transfer.data.inspection.answers import Answers
from seg_transfer.data.inspection.conclusions import conclude
from seg_transfer.errors import ConfigError, DataError

PALETTE = seen(with_palette(blocks(0, 1, 2)))
GRAY = seen(blocks(0, 1, 2))


def test_names_of_impossible_numbers_are_left_out() -> None:
    names = Names(by_id={-1: "plate", 0: "a", 1: "b", 2: "c", 300: "d", 70000: "e"})
    gray, palette = (conclude([mask], [], names) for mask in (GRAY, PALETTE))
    assert (gray.classes, palette.classes) == (("a", "b", "c", "d"), ("a", "b", "c"))
    assert gray.notes == ("plate (-1), e (70000): classes have numbers from 0 to 65535, so such names are left out",)
    for conclusion in (gray, palette):
        ValueLabels(**conclusion.labels).check(len(conclusion.classes))


def test_more_lines_of_names_than_a_palette_has_indices() -> None:
    names = Names(by_line=tuple(f"n{line}" for line in range(258)))
    conclusion = conclude([PALETTE], [], names, Answers(first_id=0))
    assert conclusion.classes == names.by_line[:256]
    assert conclusion.notes[0].startswith("n256 (256), n257 (257): classes have numbers from 0 to 255, so")


@pytest.mark.parametrize("value", [-1, 256])
def test_an_ignored_number_that_is_no_palette_index(value: int) -> None:
    with pytest.raises(DataError, match=f"--ignore {value}: label maps cannot hold it, because they hold 0 to 255;"):
        conclude([PALETTE], [], None, Answers(ignore=(value,)))


@pytest.mark.parametrize("value", [-(2**31) - 1, 65536])
def test_an_ignored_number_that_no_label_map_holds(value: int) -> None:
    with pytest.raises(DataError, match=f"--ignore {value}: label maps cannot hold it"):
        conclude([GRAY], [], None, Answers(ignore=(value,)))
    assert conclude([GRAY], [], None, Answers(ignore=(-(2**31), 65535))).labels["ignore"] == [-(2**31), 65535]


@pytest.mark.parametrize(
    ("names", "what"),
    [(Names(by_id={0: "a", 1: "b", 2: "c"}), "value"), (Names(by_color={(0, 0, 0): "a", (9, 0, 0): "b"}), "color")],
)
def test_a_first_id_beside_names_with_values(names: Names, what: str) -> None:
    colors = np.zeros((4, 4, 3), np.uint8)
    colors[:2, :, 0] = 9
    mask: Any = GRAY if what == "value" else seen(colors)
    with pytest.raises(ConfigError, match=rf"--first-id 1: names\.txt says which {what} each name has; leave it out"):
        conclude([mask], [], names, Answers(first_id=1))


def test_a_first_id_of_a_binary_mask() -> None:
    names, masks = Names(by_line=("a", "b")), [seen(blocks(0, 1))]
    assert conclude(masks, [], names, Answers(first_id=0)).classes == ("a", "b")
    with pytest.raises(DataError, match=r"value 0 has no name: the 2 lines of names\.txt name 1 to 2"):
        conclude(masks, [], names, Answers(first_id=1))
