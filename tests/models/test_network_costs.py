"""Parameters and operations of networks, compared with counts by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seg_transfer.models.network_costs import count_gflops, n_parameters, network_costs
from seg_transfer.models.normalization import Normalization
from seg_transfer.models.reading import read_network

IMAGE = torch.zeros(1, 3, 16, 24)
IMAGENET = Normalization((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


class Attention(nn.Module):
    """A transformer's layer of width 12, with 3 heads, on the patches of an image; a fused kernel by default."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, kernel_size=4, stride=4)
        self.layer = nn.TransformerEncoderLayer(12, nhead=3, dim_feedforward=20, batch_first=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.layer(self.patches(images).flatten(2).movedim(1, 2))
        return tokens


class Branching(nn.Module):
    """Looks at values, which the meta device does not have; a strided, a grouped and a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, kernel_size=3, stride=2, padding=1)
        self.grouped = nn.Conv2d(8, 8, kernel_size=3, padding=1, groups=4)
        self.head = nn.ConvTranspose2d(8, 5, kernel_size=2, stride=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.stem(images)
        scores: torch.Tensor = self.head(self.grouped(features if float(features.sum()) < 1e9 else -features))
        return scores


def of_attention(n: int) -> int:
    """Operations of `Attention` on n patches: patches, three projections, scores, mean, output, and two layers."""
    return 2 * n * (3 * 16 * 12 + 3 * 12 * 12 + n * 12 + n * 12 + 12 * 12 + 2 * 12 * 20)


def of_branching(n: int) -> int:
    """Operations of `Branching` on n pixels: a quarter of them after the stem."""
    return 2 * (n // 4) * (27 * 8 + 9 * 2 * 8 + 8 * 5 * 4)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.Conv2d(3, 8, kernel_size=3, padding=1), 2 * 384 * 27 * 8),
        (Attention(), of_attention(24)),
        (Branching(), of_branching(384)),
    ],
)
def test_operations_are_those_counted_by_hand(network, expected):
    network.eval()
    assert count_gflops(network, IMAGE) == pytest.approx(expected / 1e9, rel=1e-12)
    # Per image, however many there are.
    assert count_gflops(network, IMAGE.repeat(3, 1, 1, 1)) == pytest.approx(expected / 1e9, rel=1e-12)


def test_counting_leaves_the_network_and_its_settings_as_they_were():
    network = Attention().eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fast, image = torch.backends.mha.get_fastpath_enabled(), torch.rand(IMAGE.shape)
    output = network(image)
    count_gflops(network, IMAGE)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(network(image), output)
    assert torch.backends.mha.get_fastpath_enabled() == fast


class Failing(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no")


@pytest.mark.parametrize("network", [Failing(), nn.Identity()])
def test_what_cannot_be_counted_is_unknown(network):
    assert count_gflops(network, IMAGE) is None


def test_shared_parameters_count_once():
    shared = nn.Linear(4, 4)
    assert n_parameters(nn.Sequential(shared, shared)) == 20
    assert n_parameters(nn.BatchNorm2d(7)) == 14  # running means are no parameters


class Patches(nn.Module):
    """Takes sides that are multiples of 14 only, or one size only."""

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.stem, self.head, self.size = nn.Conv2d(3, 6, kernel_size=14, stride=14), nn.Conv2d(6, 2, 1), size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.size not in (None, tuple(images.shape[2:])):
            raise ValueError("another size")
        scores: torch.Tensor = self.head(self.stem(images))
        return scores


@pytest.mark.parametrize(("size", "counted"), [(None, (518, 518)), ((224, 224), (224, 224))])
def test_the_image_has_a_size_that_the_network_takes(size, counted):
    costs = network_costs(read_network(Patches(size), IMAGENET, image_size=size))
    cells = (counted[0] // 14) ** 2
    assert (costs.height, costs.width) == counted
    assert costs.gflops == pytest.approx(2 * cells * (3 * 196 * 6 + 6 * 2) / 1e9, rel=1e-12)
    assert costs.parameters == 3 * 196 * 6 + 6 + 6 * 2 + 2


class Looping(nn.Module):
    """Goes through the images one by one, so that an empty batch takes another way."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, kernel_size=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.stem(image[None]) for image in images])


class Folding(nn.Module):
    """Takes the batch into the channels, as dynamic filters do."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Parameter(torch.ones(2, 1, 3, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        n, _, height, width = images.shape
        weight = self.filters.repeat(n, 1, 1, 1)
        return F.conv2d(images[:, :2].reshape(1, 2 * n, height, width), weight, groups=2 * n, padding=1)


@pytest.mark.parametrize(("network", "expected"), [(Looping(), 2 * 384 * 12), (Folding(), 2 * 384 * 18)])
def test_networks_that_look_at_the_number_of_images_are_counted_on_a_whole_batch(network, expected):
    for images in (IMAGE, IMAGE.repeat(3, 1, 1, 1)):
        assert count_gflops(network, images) == pytest.approx(expected / 1e9, rel=1e-12)


def test_a_network_of_convolutions_runs_on_no_image():
    sizes: list[int] = []
    network = nn.Sequential(nn.Conv2d(3, 8, kernel_size=3), nn.BatchNorm2d(8), nn.ReLU(), nn.Upsample(scale_factor=2))
    network.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    assert count_gflops(network.eval(), IMAGE) == pytest.approx(2 * 14 * 22 * 27 * 8 / 1e9, rel=1e-12)
    assert sizes == [0]
