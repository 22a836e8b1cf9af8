"""Small networks, each of which makes one demand on its images or ends in one kind of layer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_transfer.models.normalization import Normalization

NORMALIZATION = Normalization((0.4, 0.5, 0.6), (0.2, 0.3, 0.1))


def seeded(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give a network random weights that depend on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / max(1, parameter[0].numel()) ** 0.5
    return network.eval()


class AnySize(nn.Module):
    """Two convolutions of stride 2 with padding, and a classifier of a chosen kind."""

    def __init__(self, head: nn.Module, *, channels_last: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.body = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.head = head
        self.channels_last = channels_last

    def forward(self, images: Tensor) -> Tensor:
        features = torch.tanh(self.body(torch.tanh(self.stem(images))))
        if self.channels_last:
            return self.head(features.movedim(1, -1)).movedim(-1, 1)
        return self.head(features)


class Patches(nn.Module):
    """Patches of a chosen size, which drop the pixels beyond the last whole one."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, patch, stride=patch)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stem(images))


class Skip(nn.Module):
    """Adds a map of a coarser stride, enlarged by that stride: fits only multiples of it."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, stride, stride=stride)
        self.skip = nn.Conv2d(3, 4, 1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        enlarged = F.interpolate(self.down(images), scale_factor=float(self.down.stride[0]))
        return self.head(self.skip(images) + enlarged)


class Only(nn.Module):
    """Takes squares only, or only images of one size."""

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 2, 1)
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        if height != width if self.size is None else self.size != (height, width):
            raise ValueError(f"Input height ({height}) does not match model ({self.size})")
        return self.head(images)


class Blocks(nn.Module):
    """A transformer of one stride: patches of 8 as tokens behind a class token, and blocks."""

    def __init__(self, n_blocks: int, n_prefix: int = 1) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 8, stride=8)
        self.blocks = nn.ModuleList([nn.Linear(6, 6) for _ in range(n_blocks)])
        self.norm = nn.LayerNorm(6)
        self.head = nn.Conv2d(6, 3, 1)
        self.n_prefix = n_prefix

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(images)
        tokens = patches.flatten(2).movedim(1, -1)
        tokens = torch.cat([tokens[:, :1].expand(-1, self.n_prefix, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = tokens + torch.tanh(block(tokens))
        last = self.norm(tokens)[:, self.n_prefix :].movedim(1, -1).reshape(patches.shape)
        return F.interpolate(self.head(last), size=images.shape[2:], mode="bilinear")


class Halving(nn.Module):
    """A block that widens its map, halves it, and narrows it, as MobileNet's do."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(channels, 4 * channels, 1)
        self.halve = nn.Conv2d(4 * channels, out, 3, stride=2, padding=1)

    def forward(self, one: Tensor) -> Tensor:
        return torch.tanh(self.halve(torch.tanh(self.widen(one))))


class UNet(nn.Module):
    """Strides 2, 4 and 8 down, 4 and 2 up; answers with logits of some classes at full size."""

    def __init__(self, n_classes: int = 3) -> None:
        super().__init__()
        self.downs = nn.ModuleList([Halving(3, 5), Halving(5, 6), Halving(6, 7)])
        self.ups = nn.ModuleList([nn.Conv2d(7 + 6, 9, 3, padding=1), nn.Conv2d(9 + 5, 10, 3, padding=1)])
        self.head = nn.Conv2d(10, n_classes, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        fine = self.downs[0](images)
        middle = self.downs[1](fine)
        one = self.downs[2](middle)
        for up, skip in zip(self.ups, (middle, fine), strict=True):
            enlarged = F.interpolate(one, size=skip.shape[2:], mode="bilinear")
            one = torch.tanh(up(torch.cat([enlarged, skip], dim=1)))
        return F.interpolate(self.head(one), size=images.shape[2:], mode="bilinear")


class Trunk(nn.Module):
    """A backbone: returns its maps of strides 2, 4 and 8."""

    def __init__(self) -> None:
        super().__init__()
        self.downs = nn.ModuleList([Halving(3, 5), Halving(5, 6), Halving(6, 7)])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = [images]
        for down in self.downs:
            maps.append(down(maps[-1]))
        return tuple(maps[1:])
