"""What to say of weights that do not fit a network: what was found, and the first thing that is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seg_transfer.models.weights.state_dicts import UNREADABLE, Fit, Leaf
from seg_transfer.models.weights.stored import Stub

_ADVICE = "name weights of this network"
_REPARAMETERIZED = {
    "_g": ("weight_norm", "torch.nn.utils.remove_weight_norm"),
    "_orig": ("pruning or spectral_norm", "torch.nn.utils.prune.remove or remove_spectral_norm"),
}
"""Ending of a parameter that stands in for another -> what does so, and what takes it back."""


def describe_misfit(
    origin: str, fits: Sequence[Fit], expected: Mapping[str, Sequence[int]], leaves: Mapping[str, Leaf]
) -> str:
    """Return one line about the nearest miss.

    Args:
        origin: The file, at the beginning of the line.
        fits: Places where weights of the network may be, the best first; none of them is exact.
        expected: Name of a parameter or buffer of the network -> its shape.
        leaves: What the checkpoint holds.
    """
    if not leaves:
        return f"{origin}: holds no weights; expected parameter names with tensors"
    if not fits:
        names = ", ".join(list(leaves)[:3])
        return f"{origin}: holds no parameter of this network among {len(leaves)} tensors ({names} ...); {_ADVICE}"
    best = fits[0]
    if best.missing:
        return _missing(origin, best, expected, leaves)
    if best.misshapen:
        return _misshapen(origin, best, expected, leaves)
    return f"{origin}: has unknown parameter {best.unknown[0]}{_under(best)}; {_ADVICE}"


def describe_choice(origin: str, fits: Sequence[Fit], expected: Mapping[str, Sequence[int]]) -> str:
    """Return one line that lists the places in a file that all fit, so that a user can choose."""
    listed = ", ".join(f"{fit.key} ({len(fit.names)} of {len(expected)})" for fit in fits)
    return f"{origin}: holds {len(fits)} fits: {listed}; choose with weights_key: {fits[0].key}"


def _missing(origin: str, fit: Fit, expected: Mapping[str, Sequence[int]], leaves: Mapping[str, Leaf]) -> str:
    name = fit.missing[0]
    for ending, (method, remedy) in _REPARAMETERIZED.items():
        if f"{fit.prefix}{name}{ending}" in leaves:
            return f"{origin}: {name} is stored as {name}{ending} by {method}; apply {remedy} before saving"
    module, _, own = name.rpartition(".")
    if any(path.startswith(f"{fit.prefix}{module}.parametrizations.{own}.") for path in leaves):
        return (
            f"{origin}: {name} is stored as {module}.parametrizations.{own}; apply "
            "torch.nn.utils.parametrize.remove_parametrizations before saving"
        )
    found = f"found {len(fit.names)} of {len(expected)}{_under(fit)}"
    return f"{origin}: lacks parameter {name} ({found}); {_ADVICE}"


def _misshapen(origin: str, fit: Fit, expected: Mapping[str, Sequence[int]], leaves: Mapping[str, Leaf]) -> str:
    shapes = [(leaves[fit.names[name]].shape, tuple(expected[name])) for name in fit.misshapen]
    name, (found, needed) = fit.misshapen[0], shapes[0]
    value = leaves[fit.names[name]].value
    if isinstance(value, Stub):
        return f"{origin}: {name} is {UNREADABLE[value.name]}; save the weights as dense tensors of numbers"
    if _differ_in_classes(shapes):
        return (
            f"{origin}: classes differ: {name} has {found[0]} outputs, in the network {needed[0]}; correct the number "
            "of classes or name the right checkpoint"
        )
    return f"{origin}: {name} has shape {found}, in the network {needed}; {_ADVICE}"


def _differ_in_classes(shapes: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> bool:
    """Whether only the outputs of last layers differ: another width inside would also change the inputs behind it."""
    outputs = {(found[:1], needed[:1]) for found, needed in shapes}
    return len(outputs) == 1 and all(found and needed and found[1:] == needed[1:] for found, needed in shapes)


def _under(fit: Fit) -> str:
    return f" under {fit.key}" if fit.prefix else ""
