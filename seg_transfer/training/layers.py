"""Which unit of a network each parameter belongs to: the blocks of a transformer, or the stages of any other network.

Layer-wise decay of the learning rate needs an order of the parameters from the images to the scores. A transformer of
one stride has it in its list of blocks. In any other network, a stage begins where a map of a coarser stride appears
for the first time in a forward pass, and the last stage ends with the last map of the coarsest stride. What follows is
a decoder, which learns like the head.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from seg_transfer.models.precision import plain_float32

# Heads that pool to 1, 2, 3 or 6 cells a side make strides from this side that are no powers of two: no stages.
_SIDE = 160
_EXPONENTS = range(1, 7)  # strides 2 .. 64
_TOLERANCE = 0.05
_MIN_BLOCKS = 3


@dataclass(frozen=True, slots=True)
class Units:
    """The units of a network, in the order from the images to the scores.

    Attributes:
        count: Number of units.
        of_parameter: Name of a parameter -> index of its unit; `count` for what comes after the last unit.
    """

    count: int
    of_parameter: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Use:
    """The first use of a module in a forward pass.

    Attributes:
        begin, end: Times, counted in uses that began or ended.
        exponent: The output is a map of stride 2 ** exponent; None if it is no such map.
        given, made: Addresses of the first tensors of its input and output.
    """

    begin: int
    end: int
    exponent: int | None
    given: int | None
    made: int | None


def find_units(network: nn.Module) -> Units:
    """Find the blocks or stages of a network; what comes before the first unit counts with it.

    Args:
        network: Takes normalized images (B, 3, H, W). Its mode and its statistics stay as they are.
    """
    uses = _first_uses(network)
    count, unit_of_module = _in_blocks(_blocks(network, uses), uses) or _in_stages(network, uses)
    return Units(count, {name: unit_of_module[_used_ancestor(name, uses)] for name, _ in network.named_parameters()})


def _in_blocks(blocks: list[str], uses: Mapping[str, _Use]) -> tuple[int, dict[str, int]] | None:
    """Return the number of blocks and the block of every module; None without blocks."""
    if not blocks:
        return None
    first, count = uses[blocks[0]].begin, len(blocks)
    block_of = {
        name: index for index, block in enumerate(blocks) for name in uses if f"{name}.".startswith(f"{block}.")
    }
    return count, {name: block_of.get(name, 0 if use.begin < first else count) for name, use in uses.items()}


def _in_stages(network: nn.Module, uses: Mapping[str, _Use]) -> tuple[int, dict[str, int]]:
    """Return the number of stages and the stage of every module."""
    leaves = [name for name, module in network.named_modules() if name in uses and not any(module.children())]
    begins, coarsest = [0], 0
    for leaf in sorted(leaves, key=lambda name: uses[name].begin):
        exponent = uses[leaf].exponent
        if exponent is None or exponent <= coarsest:
            continue
        if coarsest:
            # The stage begins with the largest module that makes this stride, such as a whole layer of a ResNet.
            around = [uses[name] for name in _with_ancestors(leaf) if name in uses]
            begins.append(min(use.begin for use in around if use.exponent == exponent and use.begin > begins[-1]))
        coarsest = exponent
    last = max((uses[leaf].end for leaf in leaves if uses[leaf].exponent == coarsest), default=0)
    count = len(begins)

    def stage(use: _Use) -> int:
        return count if coarsest and use.begin > last else sum(begin <= use.begin for begin in begins) - 1

    return count, {name: stage(use) for name, use in uses.items()}


def _blocks(network: nn.Module, uses: Mapping[str, _Use]) -> list[str]:
    """Return the names of the longest chain of blocks that is most of the network; [] without such a chain.

    Its blocks are of a class that occurs nowhere else. The blocks of convolutional and hierarchical networks occur in
    several stages, so that they are no such chain; where the stages themselves are of one class, they are.
    """
    counts = Counter(type(module) for module in network.modules())
    best: list[str] = []
    for name, parent in network.named_modules():
        if not isinstance(parent, nn.ModuleList | nn.Sequential):
            continue
        for kind, members in groupby(parent.named_children(), key=lambda child: type(child[1])):
            run = [f"{name}.{child}".lstrip(".") for child, module in members if any(module.children())]
            if len(run) > len(best) and len(run) == counts[kind] and _is_chain(run, uses) and _is_most(run, network):
                best = run
    return best


def _is_chain(run: Sequence[str], uses: Mapping[str, _Use]) -> bool:
    """Return whether each block takes what the one before it made, and none makes a finer map, as a decoder does."""
    if len(run) < _MIN_BLOCKS or not uses.keys() >= set(run):
        return False
    pairs = pairwise(uses[name] for name in run)
    return all(
        one.made == next_one.given and (one.exponent or 0) <= (next_one.exponent or 6) for one, next_one in pairs
    )


def _is_most(run: Sequence[str], network: nn.Module) -> bool:
    """Return whether modules hold at least half of the parameters of a network."""
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    inside = sum(size for name, size in sizes.items() if name.startswith(tuple(f"{block}." for block in run)))
    return 2 * inside >= sum(sizes.values())


@torch.no_grad()
@plain_float32()
def _first_uses(network: nn.Module) -> dict[str, _Use]:
    """Run the network on one black image, and record the first use of every module by name."""
    begins: dict[str, tuple[int, int | None]] = {}
    ends: dict[str, tuple[int, int | None, int | None]] = {}
    side = _SIDE

    def begin(name: str, inputs: Sequence[Any]) -> None:
        nonlocal side
        images = [value for value in inputs if isinstance(value, Tensor) and value.dim() == 4 and value.shape[1] == 3]
        side = max([side, *(image.shape[-1] for image in images)])  # a network of one size is given larger images
        begins.setdefault(name, (len(begins) + len(ends), _address(inputs)))

    def end(name: str, output: Any) -> None:
        width = output.shape[-1] if isinstance(output, Tensor) and output.dim() == 4 else None
        ends.setdefault(name, (len(begins) + len(ends), _address([output]), width))

    modes = {module: module.training for module in network.modules()}
    with ExitStack() as hooks:
        for name, module in network.named_modules():
            before = module.register_forward_pre_hook(lambda _module, inputs, name=name: begin(name, inputs))
            after = module.register_forward_hook(lambda _module, _inputs, output, name=name: end(name, output))
            hooks.callback(before.remove)
            hooks.callback(after.remove)
        network.eval()
        network(torch.zeros(1, 3, _SIDE, _SIDE, device=next(network.parameters()).device))
    for module, mode in modes.items():
        module.training = mode
    return {
        name: _Use(begins[name][0], when, _exponent(width, side), begins[name][1], made)
        for name, (when, made, width) in ends.items()
    }


def _address(values: Sequence[Any]) -> int | None:
    """Return the address of the first tensor among values, or of the first one inside it."""
    first = values[0] if values else None
    if isinstance(first, list | tuple):
        return _address(first)
    return first.data_ptr() if isinstance(first, Tensor) else None


def _exponent(width: int | None, side: int) -> int | None:
    if not width:
        return None
    return next((n for n in _EXPONENTS if abs(width * 2**n - side) <= _TOLERANCE * side), None)


def _with_ancestors(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _used_ancestor(parameter: str, uses: Mapping[str, _Use]) -> str:
    """Return the name of the innermost used module that holds a parameter; the network itself is always used."""
    return next((name for name in reversed(_with_ancestors(parameter)[:-1]) if name in uses), "")
