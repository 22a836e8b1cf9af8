"""One kind of model in the table: how its own library saves it, and what its own library answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seg_transfer.models.compat import quiet

RGB = tuple[float, float, float]
GIVEN: tuple[RGB, RGB] = ((0.4, 0.5, 0.6), (0.2, 0.3, 0.1))
IMAGENET: tuple[RGB, RGB] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: tuple[RGB, RGB] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Answer(NamedTuple):
    """What a network's own library says of normalized images.

    Attributes:
        maps: The feature maps (B, D_i, h_i, w_i) that must be read; None where the library does not name them.
        scores: Logits (B, C, h, w), at the size at which the network computes them; None for a backbone.
    """

    maps: list[Tensor] | None
    scores: Tensor | None


@dataclass(frozen=True)
class Kind:
    """A kind of model.

    Attributes:
        library: The library that it comes from.
        model: What it is called there.
        save: Saves a tiny network of random weights as its library does, into a folder; returns the fields of its entry
            and the network.
        answer: What the library says of normalized images, RGB, of a size that the network takes.
        normalization: Mean and std of the images that it takes.
        multiple, square, fixed: What it takes: sides that are multiples of a number, squares only, or one size only.
        learning_rate: For fine-tuning, where it needs another than the others.
    """

    library: str
    model: str
    save: Callable[[Path], tuple[dict[str, Any], Any]]
    answer: Callable[[Any, Tensor], Answer]
    normalization: tuple[RGB, RGB] = GIVEN
    multiple: int = 1
    square: bool = False
    fixed: tuple[int, int] | None = None
    learning_rate: float | None = None


@contextmanager
def _seen(layer: nn.Module) -> Iterator[list[Tensor]]:
    """What a layer is given and what it answers, when it is called last."""
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _layer, given, answer: seen.extend([given[0], answer]))
    yield seen
    handle.remove()


def before_classifier(name: str) -> Callable[[Any, Tensor], Answer]:
    """The map that a layer of this name is given, and the scores that it answers, whatever the network does after."""

    def answer(network: Any, images: Tensor) -> Answer:
        with _seen(network.get_submodule(name)) as seen, quiet(), torch.inference_mode():
            network(images)
        if isinstance(network.get_submodule(name), nn.Linear):
            seen = [one.movedim(-1, 1) for one in seen]
        return Answer(seen[:1], seen[1])

    return answer


def with_statistics(network: nn.Module, side: int = 96) -> nn.Module:
    """Give batch normalizations the statistics of what they are given, as training does, and evaluate from then on."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.random.fork_rng(), quiet(), torch.no_grad():
        torch.manual_seed(6)
        network.train()(torch.randn(4, 3, side, side))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()
