"""Source text and weights of small networks that do not come from mmsegmentation, for factories in tests.

One of them imitates cloned research code, which adds one of its folders to ``sys.path`` and imports from there.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from seg_transfer.models.adapters._factory_import import call_factory
from seg_transfer.models.adapters.factory import FactoryEntry
from seg_transfer.models.checkpoints import save_weights

NETS = '''
import torch
import torch.nn.functional as F
from torch import nn


class Tokens(nn.Module):
    """Stride 8, 12 channels, a linear layer with the channels last, 4 classes."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 8, stride=8)
        self.head = nn.Linear(12, 4)

    def forward(self, images):
        return self.head(torch.tanh(self.stem(images)).movedim(1, -1)).movedim(-1, 1)


class Dictionary(nn.Module):
    """Stride 2, 6 channels, 3 classes; answers as torchvision does, enlarged to the image, beside another map."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.head = nn.Conv2d(6, 3, 1)
        self.other = nn.Conv2d(6, 3, 1)

    def forward(self, images):
        features = torch.relu(self.stem(images))
        maps = {"out": self.head(features), "aux": self.other(features)}
        size = images.shape[2:]
        return {name: F.interpolate(one, size=size, mode="bilinear") for name, one in maps.items()}


class Pyramid(nn.Module):
    """Stride 4, 5 channels, 3 classes; enlarges its scores with aligned corners."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 4, stride=4)
        self.head = nn.Conv2d(5, 3, 1, bias=False)

    def forward(self, images):
        scores = self.head(self.stem(images).sin())
        return F.interpolate(scores, size=images.shape[2:], mode="bilinear", align_corners=True)


class Prototypes(nn.Module):
    """Stride 4, 3 classes: the cosine to a vector of each class, which no linear layer of a map gives."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.unused = nn.Conv2d(8, 3, 1)
        self.vectors = nn.Parameter(torch.randn(3, 8))

    def forward(self, images):
        features = F.normalize(self.stem(images), dim=1)
        return 9 * torch.einsum("bdhw,cd->bchw", features, F.normalize(self.vectors, dim=1))


class Probabilities(Prototypes):
    """The same after the softmax."""

    def forward(self, images):
        return super().forward(images).softmax(dim=1)


class Scaled(Tokens):
    """Goes on after its classifier."""

    def forward(self, images):
        return 2 * super().forward(images)


class FlatTokens(Tokens):
    """Its linear layer sees a sequence, and not a map."""

    def forward(self, images):
        features = torch.tanh(self.stem(images))
        scores = self.head(features.flatten(2).movedim(1, -1)).movedim(-1, 1)
        return scores.unflatten(2, features.shape[2:])


class Wide(nn.Module):
    """Its last layer looks at neighbors."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, images):
        return self.head(images)


class Skipping(nn.Module):
    """Its 1x1 classifier looks at every second place."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 4, stride=4)
        self.head = nn.Conv2d(4, 2, 1, stride=2)

    def forward(self, images):
        return self.head(self.stem(images))


class Backbone(nn.Module):
    """Returns maps at strides 4 and 8."""

    def __init__(self):
        super().__init__()
        self.fine = nn.Conv2d(3, 4, 4, stride=4)
        self.coarse = nn.Conv2d(4, 6, 2, stride=2)

    def forward(self, images):
        fine = self.fine(images)
        return fine, self.coarse(fine.tanh())


class OneSize(nn.Module):
    """Takes images of 36 x 60 pixels only."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 4, stride=4)
        self.position = nn.Parameter(torch.randn(4, 9, 15))
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images):
        return self.head(self.stem(images) + self.position)


class One(nn.Module):
    """One channel of foreground."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 1, 1)

    def forward(self, images):
        return self.head(images)


class Halves(nn.Module):
    """Fits images with sides that are multiples of 16."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 4, 16, stride=16)
        self.skip = nn.Conv2d(3, 4, 1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images):
        return self.head(self.skip(images) + F.interpolate(self.down(images), scale_factor=16))


def no_network():
    return 3


def fails():
    raise RuntimeError("no such thing\\nat all")


constant = 5
'''
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)


def factory_entry(factory: str, folder: Path, weights: Path, classifier: str | None, **fields: Any) -> FactoryEntry:
    """Make an entry for a factory's network."""
    own = {"factory": factory, "factory_folder": folder, "classifier": classifier, "weights": weights}
    return FactoryEntry(name="net", dataset="elsewhere", **{"mean": MEAN, "std": STD, **own, **fields})


def write_net(folder: Path, network: str, seed: int = 0) -> nn.Module:
    """Write ``nets.py`` into a folder, and the weights of one of its networks beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nets.py").write_text(NETS)
    net = call_factory(f"nets:{network}", folder).eval()
    generator = torch.Generator().manual_seed(seed)
    for tensor in net.parameters():
        tensor.data = torch.randn(tensor.shape, generator=generator) * 0.4
    save_weights(net.state_dict(), folder / f"{network}.safetensors")
    return net


REPOSITORY = {
    "nets/unet.py": "from torch import nn\nfrom blocks import stem\n\n\ndef unet():\n"
    "    return nn.Sequential(stem(), nn.Conv2d({channels}, 2, 1))\n",
    "nets/blocks.py": "from torch import nn\n\n\ndef stem():\n    return nn.Conv2d(3, {channels}, 4, stride=4)\n",
    "environment/pyvenv.cfg": "",
    "environment/lib/other.py": "",
    ".git/hook.py": "",
    "notes.txt": "",
}
BUILD = "from unet import unet\n\n\ndef build():\n    return unet()\n"
WAYS = {
    "absolute": "import os, sys\nsys.path.insert(0, os.path.join(os.path.dirname(__file__), 'nets'))\n",
    "relative": "import sys\nsys.path.insert(0, 'nets')\n",
    "appended": "from sys import path\nfrom pathlib import Path\npath.append(str(Path(__file__).parent / 'nets'))\n",
    "site": "import site, pathlib\nsite.addsitedir(str(pathlib.Path(__file__).parent / 'nets'))\n",
    "assigned": "import os, sys\nsys.path = [os.path.join(os.path.dirname(__file__), 'nets'), *sys.path]\n",
}


def repository(folder: Path, channels: int, way: str = "absolute") -> FactoryEntry:
    """Write a repository whose network has this many channels; `way` is how it makes its modules importable."""
    for name, text in {**REPOSITORY, "model.py": WAYS[way] + BUILD}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.replace("{channels}", str(channels)))
    state = {"0.weight": torch.randn(channels, 3, 4, 4), "0.bias": torch.zeros(channels)}
    state |= {"1.weight": torch.randn(2, channels, 1, 1), "1.bias": torch.zeros(2)}
    save_weights(state, folder / "weights.safetensors")
    return factory_entry("model:build", folder, folder / "weights.safetensors", "1")
