"""Label maps of one dataset that are stored in different ways."""

import numpy as np
import pytest
from data.inspection.masks import Names, blocks, seen
from data.label_images import with_palette

from seg_transfer.data.inspection.answers import Answers
from seg_transfer.data.inspection.conclusions import Conclusion, conclude
from seg_transfer.data.inspection.evidence import MaskEvidence
from seg_transfer.errors import DataError


def kinds(conclusion: Conclusion) -> list[str]:
    return [doubt.kind for doubt in conclusion.doubts]


def binaries(*tops: int) -> list[MaskEvidence]:
    """Binary masks: a value up to 255 in 8 bits, a higher one in 16."""
    masks = [blocks(0, 0, 0, 0, 0, top, dtype=np.uint16 if top > 255 else np.uint8) for top in tops]
    return [seen(mask, f"m{number}.png") for number, mask in enumerate(masks)]


TWO_WAYS = "as if one class were stored in 2 ways (then store all label maps alike); state "


def test_binary_masks_stored_in_two_ways() -> None:
    conclusion = conclude(binaries(1, 255, 1), [])
    assert [doubt.line for doubt in conclusion.doubts] == [
        f"m0.png holds 0 and 1, but m1.png holds 0 and 255, {TWO_WAYS}--ignore 255 (it is ignored) or --ignore none "
        "(it is a class)"
    ]
    stated = conclude(binaries(1, 255, 1), [], None, Answers(ignore=(255,)))
    assert (stated.labels["map"], stated.labels["ignore"], stated.doubts) == ({0: 0, 1: 1}, [255], ())
    # A mask that holds both tells them apart.
    both = conclude([*binaries(1, 255), seen(blocks(0, 0, 0, 1, 1, 255))], [])
    assert (both.labels["ignore"], both.doubts) == ([255], ())


def test_binary_masks_of_two_depths() -> None:
    conclusion = conclude(binaries(255, 65535), [])
    assert [doubt.line for doubt in conclusion.doubts] == [
        f"m0.png holds 0 and 255, but m1.png holds 0 and 65535, {TWO_WAYS}--ignore none (each is a class)"
    ]
    assert kinds(conclude(binaries(255, 65535, 1), [])) == ["ignored"]
    assert kinds(conclude(binaries(255, 65535), [], Names(by_id={0: "a", 255: "b", 65535: "c"}))) == []


COLORS = np.array([[0, 0, 0], [200, 0, 0], [0, 200, 0]], np.uint8)


def test_gray_ids_beside_true_colors() -> None:
    masks = [seen(COLORS[blocks(0, 1, 2)], "rgb.png"), seen(blocks(0, 1, 2), "gray.png")]
    conclusion = conclude(masks, [])
    assert (kinds(conclusion), conclusion.labels) == (["mixed"], None)
    assert conclusion.doubts[0].seen.startswith("gray.png is gray and has value 1, but rgb.png has colors")
    stated = conclude(masks, [], None, Answers(labels_are="colors"))
    assert (stated.doubts, len(stated.classes)) == ((), 5)


def test_a_gray_mask_whose_grays_are_known_colors_is_no_doubt() -> None:
    grays = COLORS.copy()
    grays[2] = 90
    masks = [seen(grays[blocks(0, 1, 2)]), seen(blocks(0, 90)), seen(blocks(0, 0))]
    assert (conclude(masks, []).doubts, len(conclude(masks, []).classes)) == ((), 3)


def test_a_gray_gif_file_is_not_read_by_its_palette() -> None:
    masks = [seen(with_palette(blocks(0, 1, 2))), seen(blocks(0, 2, 5), "g.gif")]
    with pytest.raises(DataError, match=r"g\.gif: is a gray GIF file, .* state --labels-are gray"):
        conclude(masks, [])
    with pytest.raises(DataError, match=r"g\.gif: is a gray GIF file"):
        conclude(masks[1:], [], None, Answers(labels_are="palette"))
    assert conclude(masks[1:], []).labels["map"] == {0: 0, 2: 1, 5: 2}
