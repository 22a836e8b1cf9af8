"""The best class of every pixel: the parts of large images, and scores that are enlarged strip by strip."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seg_transfer.data.scene_tiles import Tiles
from seg_transfer.models.outputs import enlarge
from seg_transfer.models.sizes import WHOLE, Extent
from seg_transfer.prediction import classes
from seg_transfer.prediction.classes import best_classes, parts_of

sides = st.integers(1, 90)


@given(sides, sides, st.integers(1, 40))
def test_the_kept_parts_cover_every_pixel_once(height: int, width: int, size: int) -> None:
    seen = np.zeros((height, width), int)
    for (top, left, rows, columns), (first, begin, n_rows, n_columns) in parts_of(
        height, width, Tiles(above=1, size=size)
    ):
        assert (rows, columns) == (min(height, size), min(width, size)) or height * width == 1
        assert 0 <= top <= first < first + n_rows <= top + rows <= height
        assert 0 <= left <= begin < begin + n_columns <= left + columns <= width
        seen[first : first + n_rows, begin : begin + n_columns] += 1
    assert (seen == 1).all()


@given(sides, sides, st.integers(8, 40))
def test_a_quarter_of_a_tile_lies_around_what_is_kept(height: int, width: int, size: int) -> None:
    """No kept pixel is next to the border of its tile, unless that is the border of the image."""
    for (_, left, _, columns), (_, begin, _, n_columns) in parts_of(height, width, Tiles(above=1, size=size)):
        assert left == 0 or begin - left >= size // 8
        assert left + columns == width or left + columns - begin - n_columns >= size // 8


def test_an_image_that_is_not_too_large_is_one_part() -> None:
    assert parts_of(20, 30, Tiles(above=600, size=8)) == [((0, 0, 20, 30), (0, 0, 20, 30))]
    assert len(parts_of(20, 30, Tiles(above=599, size=8))) == 3 * 5


@pytest.fixture(params=[1, 700, 5000])
def few_scores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(classes, "_MAX_SCORES", request.param)
    monkeypatch.setattr(classes, "_SCORES_OF_STRIP", request.param)
    return


@pytest.mark.parametrize("extent", [WHOLE, Extent(0.83, 1.0), Extent(0.51, 0.9)])
@pytest.mark.parametrize("size", [(37, 23), (5, 90), (1, 1), (6, 7)])
def test_strips_give_what_the_whole_gives(few_scores: None, extent: Extent, size: tuple[int, int]) -> None:
    scores = torch.randn(1, 9, 6, 7, generator=torch.Generator().manual_seed(1))
    whole = enlarge(scores, extent, size)[0]
    found = best_classes(scores, extent, size)
    assert found.shape == size
    # Where two classes are equal up to rounding, either may win.
    best = whole.max(dim=0).values.numpy()
    assert np.abs(np.take_along_axis(whole.numpy(), found[None], 0)[0] - best).max() < 1e-5
    assert (found == whole.argmax(dim=0).numpy()).mean() > 0.98


def test_the_first_of_equal_classes_wins(few_scores: None) -> None:
    assert (best_classes(torch.zeros(1, 3, 2, 2), WHOLE, (9, 4)) == 0).all()
