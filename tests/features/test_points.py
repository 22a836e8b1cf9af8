"""What is read at the center of a pixel is what the enlarged map holds there."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seg_transfer.features.points import Points, SamplePoints, pixel_centers, read_at
from seg_transfer.models.outputs import cover
from seg_transfer.models.sizes import Extent
from seg_transfer.observations import PixelSample

CPU = torch.device("cpu")


def sample_of_all(*sizes: tuple[int, int]) -> PixelSample:
    """All pixels of images of these sizes."""
    indices = [np.indices(size).reshape(2, -1) for size in sizes]
    index = np.repeat(np.arange(len(sizes)), [one.shape[1] for one in indices])
    rows, columns = np.concatenate(indices, axis=1)
    names = tuple(map(str, range(len(sizes))))
    return PixelSample(names, np.array(sizes), index, rows, columns, np.zeros(len(index), int))


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps.double(), size=size, mode="bilinear", align_corners=False)


def points_at(*centers: tuple[float, float]) -> Points:
    first = torch.zeros(len(centers), dtype=torch.int64)
    return Points(first, first, torch.tensor(centers))


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(
    ("map_size", "image_size"),
    [
        ((5, 7), (20, 28)),
        ((12, 18), (64, 96)),
        ((180, 24), (713, 93)),
        ((45, 60), (713, 950)),
        ((128, 171), (97, 130)),
        ((1, 3), (9, 10)),
        ((36, 51), (36, 51)),
    ],
)
def test_a_read_value_is_that_of_the_enlarged_map(map_size, image_size, memory_format):
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(1, 4, *map_size, generator=generator) + torch.linspace(5, 50, map_size[1])
    maps = maps.contiguous(memory_format=memory_format)
    everywhere = sample_of_all(image_size)
    chosen = torch.from_numpy(np.random.default_rng(2).permutation(len(everywhere))[:5000])
    points = Points(*(part[chosen] for part in SamplePoints(everywhere, CPU).of([0])))
    found = read_at(maps, points).numpy()
    expected = enlarged(maps, image_size)[0].flatten(1)[:, chosen].T
    # Coordinates are float32: half a unit in the last place of a position among 180 times the step to the next value.
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_values_by_hand():
    """A map (1, 2) over an image (2, 8): columns lie at (c + 0.5) / 4 - 0.5 of the map."""
    maps = torch.tensor([[[[10.0, 20.0]]]])
    points = SamplePoints(sample_of_all((2, 8)), CPU).of([0])
    row = [10, 10, 11.25, 13.75, 16.25, 18.75, 20, 20]
    np.testing.assert_allclose(read_at(maps, points)[:, 0], row + row, rtol=1e-6)


def test_border_values_continue_beyond_the_outermost_centers():
    maps = torch.arange(12.0).view(1, 1, 3, 4)
    corners = points_at((0, 0), (0, 1), (1, 0), (1, 1), (0.05, 0.1), (0.5, 0))
    assert read_at(maps, corners)[:, 0].tolist() == [0, 3, 8, 11, 0, 4]


def test_padding_is_not_read_where_the_image_does_not_touch_it():
    """An image that covers 6 x 9 cells of maps of 8 x 12; only its border rows and columns see the padding."""
    maps = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(3))
    extent = Extent(6 / 8, 9 / 12)
    size = (24, 36)
    points = SamplePoints(sample_of_all(size, size), CPU).of([0, 1])
    found = read_at(maps, points, extent).view(2, *size, 3).permute(0, 3, 1, 2)
    expected = enlarged(cover(maps, extent), size)
    np.testing.assert_allclose(found[..., :22, :34], expected[..., :22, :34], atol=1e-5)


def test_each_point_is_read_in_its_own_image():
    maps = torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(4))
    sample = sample_of_all((4, 6), (8, 12), (2, 3))
    places = SamplePoints(sample, CPU)
    together = read_at(maps[[0, 1, 2]], places.of([2, 0, 1]))
    for position, image in enumerate([2, 0, 1]):
        alone = places.of([image])
        rows = places.of([2, 0, 1]).images == position
        assert alone.rows.tolist() == np.flatnonzero(sample.image_index == image).tolist()
        np.testing.assert_allclose(together[rows], read_at(maps[position : position + 1], alone), atol=1e-6)


def test_images_without_pixels_have_no_points():
    sample = PixelSample(("a", "b", "c"), np.array([[4, 4]] * 3), [2, 0], [1, 2], [3, 0], [0, 1])
    points = SamplePoints(sample, CPU).of([1, 2, 0])
    assert points.rows.tolist() == [0, 1]
    assert points.images.tolist() == [1, 2]
    assert len(SamplePoints(sample, CPU).of([1]).rows) == 0
    assert read_at(torch.zeros(1, 7, 2, 2), SamplePoints(sample, CPU).of([1])).shape == (0, 7)


def test_centers_are_fractions_of_the_image_they_were_drawn_from():
    sample = PixelSample(("a", "b"), np.array([[2, 4], [10, 5]]), [1, 0, 1], [9, 0, 0], [0, 3, 4], [0, 1, 1])
    np.testing.assert_allclose(pixel_centers(sample), [[0.95, 0.1], [0.25, 0.875], [0.05, 0.9]], rtol=1e-6)
