"""The sizes that networks take are found by trying; images are padded to them, and points mapped exactly."""

from typing import Any

import numpy as np
import pytest
import torch
from tiny_source import message_of
from torch import nn
from toy_nets import NORMALIZATION, AnySize, Only, Patches, Skip, seeded

from seg_transfer.errors import ConfigError
from seg_transfer.features.extract import extract
from seg_transfer.features.images import ImageBatch
from seg_transfer.models.normalization import Normalization
from seg_transfer.models.outputs import cover, enlarge
from seg_transfer.models.reading import read_network
from seg_transfer.models.sizes import WHOLE, Extent, InputSizes, probe_size
from seg_transfer.observations import PixelSample


def sizes_of(network: nn.Module, **hints: Any) -> InputSizes:
    return read_network(seeded(network), NORMALIZATION, **hints).sizes


def test_any_size():
    assert sizes_of(AnySize(nn.Conv2d(8, 2, 1))) == InputSizes()


@pytest.mark.parametrize("multiple", [2, 4, 8, 14, 16, 28, 32])
@pytest.mark.parametrize("kind", [Patches, Skip])
def test_multiples(kind, multiple):
    """`Patches` takes every size, but would not look at all of it; `Skip` fails."""
    assert sizes_of(kind(multiple)) == InputSizes(multiple=multiple)


def test_maps_that_leave_out_cells():
    """Pooling by halves drops the last cell of an odd map; what a wide convolution has spread of it hides that."""

    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 7, padding=3, stride=2)
            self.body = nn.Conv2d(4, 5, 7, padding=3)
            self.head = nn.Conv2d(5, 2, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(nn.functional.max_pool2d(self.body(self.stem(images)), 4))

    assert sizes_of(Halves()) == InputSizes(multiple=8)


def test_the_scores_are_covered_too():
    """A fine map sees every pixel, but the scores are those of whole patches."""

    class Fine(Patches):
        def __init__(self) -> None:
            super().__init__(16)
            self.fine = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(self.fine(images))

    assert sizes_of(Fine(), features=["fine"]) == sizes_of(Fine()) == InputSizes(multiple=16)


def test_squares():
    assert sizes_of(Only()) == InputSizes(square=True)


def test_a_smallest_side():
    class Pooled(AnySize):
        """Pools over windows of 49 cells of stride 4, as the head of an LRASPP does of stride 16."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            nn.functional.avg_pool2d(images, 4 * 49)
            return super().forward(images)

    sizes = sizes_of(Pooled(nn.Conv2d(8, 2, 1)))
    assert sizes == InputSizes(smallest=257)
    assert sizes.fitting(75, 300) == (257, 300)
    assert min(probe_size(sizes)) >= 257


@pytest.mark.parametrize("side", [224, 64, 128])
def test_one_size(side):
    assert sizes_of(Only((side, side))) == InputSizes(fixed=(side, side))


def test_one_size_that_the_description_states():
    assert sizes_of(Only((48, 96)), image_size=(48, 96)) == InputSizes(fixed=(48, 96))


def test_one_size_that_is_also_a_trial_of_a_multiple():
    assert sizes_of(Only((96, 160)), image_size=(96, 160)) == InputSizes(fixed=(96, 160))


def test_a_network_that_takes_nothing():
    with pytest.raises(ConfigError) as caught:
        sizes_of(Only((48, 96)))
    assert message_of(caught) == (
        "network Only: fails on an image of 75 x 107 pixels (Input height (75) does not match model ((48, 96))), "
        "and on images of all other sizes that were tried; a source takes normalized RGB images (B, 3, H, W) and "
        "nothing else"
    )


def test_a_network_that_never_looks_at_the_border():
    class Center(AnySize):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images[:, :, 2:-2, 2:-2])

    assert sizes_of(Center(nn.Conv2d(8, 2, 1))) == InputSizes()


@pytest.mark.parametrize(
    ("sizes", "size", "expected"),
    [
        (InputSizes(), (59, 100), (59, 100)),
        (InputSizes(32), (59, 100), (64, 128)),
        (InputSizes(32), (64, 128), (64, 128)),
        (InputSizes(14, square=True), (59, 100), (112, 112)),
        (InputSizes(fixed=(48, 96)), (59, 100), (48, 96)),
    ],
)
def test_fitting(sizes, size, expected):
    images = torch.randn(2, 3, *size)
    fitted, extent = sizes.fit(images)
    assert tuple(fitted.shape) == (2, 3, *expected)
    if sizes.fixed:
        assert extent == WHOLE
    else:
        assert extent == Extent(size[0] / expected[0], size[1] / expected[1])
        assert torch.equal(fitted[:, :, : size[0], : size[1]], images)
        assert not fitted[:, :, size[0] :].any()
        assert not fitted[:, :, :, size[1] :].any()


def test_images_of_a_fitting_size_are_not_touched():
    images = torch.randn(1, 3, 33, 47)
    assert InputSizes().fit(images)[0] is images


def test_features_of_a_network_that_takes_any_size_are_the_networks_own():
    """For sizes that are multiples of nothing, the maps are bit for bit those of the network on the bare image."""
    network = seeded(AnySize(nn.Conv2d(8, 2, 1)))
    source = read_network(network, NORMALIZATION)
    pixels = torch.randint(0, 256, (1, 3, 53, 71), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    normalized = source.normalize(pixels, NORMALIZATION.mean, NORMALIZATION.std)
    maps = source.feature_maps(pixels)
    with torch.inference_mode():
        expected = torch.tanh(network.body(torch.tanh(network.stem(normalized))))
        assert torch.equal(maps.features[0], expected)
        assert torch.equal(maps.scores, network(normalized))
    assert maps.extent == WHOLE


@pytest.mark.parametrize("multiple", [1, 8, 14, 32])
@pytest.mark.parametrize("square", [False, True])
def test_the_probe_fits_and_is_not_square_where_it_may(multiple, square):
    height, width = probe_size(InputSizes(multiple, square=square))
    assert InputSizes(multiple, square=square).fitting(height, width) == (height, width)
    assert (height == width) == square


# Points


class Mean(nn.Module):
    """The mean color of patches of 8, as features and as scores."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Conv2d(3, 3, 8, stride=8, bias=False)
        self.mean.weight.data = torch.eye(3)[:, :, None, None].expand(3, 3, 8, 8) / 64
        self.head = nn.Conv2d(3, 3, 1, bias=False)
        self.head.weight.data = torch.eye(3)[:, :, None, None]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.mean(images))


def test_points_of_padded_images_are_mapped_exactly():
    """On a ramp, interpolated means of patches are the ramp again: red is the column, green the row.

    The image of 43 x 61 pixels is padded to 48 x 64. Had it been resized, or the padding been forgotten, all values
    would be off by up to 10 %.
    """
    height, width = 43, 61
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([columns, rows, columns * 0]).astype(np.uint8)[None]
    inner = (rows >= 4) & (rows < 36) & (columns >= 4) & (columns < 52)  # both neighboring patches are whole
    row, column = rows[inner], columns[inner]
    n = len(row)
    sample = PixelSample(("0",), ((height, width),), np.zeros(n, np.int64), row, column, np.arange(n) % 2)
    source = read_network(Mean().eval(), Normalization((0.0,) * 3, (1 / 255,) * 3))
    assert source.sizes == InputSizes(multiple=8)
    found = extract(source, [ImageBatch((0,), pixels)], sample).features
    np.testing.assert_allclose(found[:, 0], column, atol=1e-3)
    np.testing.assert_allclose(found[:, 1], row, atol=1e-3)


def test_scores_of_padded_images_are_enlarged_exactly():
    """The same ramp, enlarged to twice the size of the image."""
    height, width = 43, 61
    ramp = torch.arange(64.0)[None, None, None].expand(1, 1, 48, 64)
    means = torch.nn.functional.avg_pool2d(ramp, 8)
    found = enlarge(means, Extent(height / 48, width / 64), (2 * height, 2 * width))
    assert found.shape == (1, 1, 86, 122)
    expected = (torch.arange(122) + 0.5) / 2 - 0.5
    inner = slice(8, 112)
    torch.testing.assert_close(found[0, 0, 20, inner], expected[inner], atol=1e-3, rtol=0)


def test_enlarging_whole_maps_is_interpolation():
    scores = torch.randn(1, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(scores, size=(11, 20), mode="bilinear", align_corners=False)
    assert torch.equal(enlarge(scores, WHOLE, (11, 20)), expected)
    almost_whole = enlarge(scores, Extent(1.0, 1 - 1e-7), (11, 20))
    torch.testing.assert_close(almost_whole, expected, atol=1e-5, rtol=1e-5)


def test_the_padding_is_cut_off():
    maps = torch.randn(1, 2, 6, 8)
    assert torch.equal(cover(maps, Extent(43 / 48, 61 / 64)), maps[:, :, :5])
    assert cover(maps, Extent(0.01, 0.01)).shape == (1, 2, 1, 1)
    assert cover(maps, WHOLE) is maps
