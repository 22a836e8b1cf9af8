"""The optimizer of a training: parameter groups by learning rate and weight decay, and frozen parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from seg_transfer.errors import TrainingError
from seg_transfer.training.layers import find_units
from seg_transfer.training.schedule import Schedule

# Words in the names of parameters that add a position or a token. AdamW decays none of them.
_UNDECAYED = ("pos_embed", "position", "_token")


def make_optimizer(network: nn.Module, schedule: Schedule, head: Collection[str]) -> Optimizer:
    """Make the optimizer of a network; with ``freeze: backbone``, all parameters but the head's are switched off.

    Args:
        network: Its parameters are switched off in place.
        schedule: Optimizer, rates and decay.
        head: Names of the parameters of the new last layer.

    Raises:
        TrainingError: The schedule treats the last layer otherwise than the rest, but it is unknown which one that is.
    """
    if not head and (schedule.freeze == "backbone" or schedule.head_learning_rate_factor != 1):
        raise TrainingError(
            "which layer of the network is its new last one is unknown, so freeze and head_learning_rate_factor have "
            "no meaning; leave them out of the schedule, or give the network an attribute class_layer with its name"
        )
    if schedule.freeze == "backbone":
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in head)
    groups = parameter_groups(network, schedule, head)
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    return torch.optim.SGD(
        groups, lr=schedule.learning_rate, momentum=schedule.momentum, weight_decay=schedule.weight_decay
    )


def parameter_groups(network: nn.Module, schedule: Schedule, head: Collection[str]) -> list[dict[str, Any]]:
    """Group the trained parameters of a network by learning rate and weight decay.

    Args:
        network: The network.
        schedule: Its rates and decay.
        head: Names of the parameters of the new last layer.

    Returns:
        Groups as PyTorch's optimizers take them, in the order of their first parameters; one for the default schedule.
    """
    factor, decays = _factors(network, schedule, head), schedule.optimizer == "adamw"
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad or schedule.freeze == "none":
            is_decayed = not decays or (parameter.dim() > 1 and not any(word in name for word in _UNDECAYED))
            decay = schedule.weight_decay if is_decayed else 0.0
            groups.setdefault((schedule.learning_rate * factor(name), decay), []).append(parameter)
    return [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()]


def keep_frozen_statistics(network: nn.Module, schedule: Schedule, head: Collection[str]) -> None:
    """With ``freeze: backbone``, switch all modules but the new last layer to evaluation mode.

    The modules around that layer stay in training mode, in which some heads return what their losses need.
    """
    if schedule.freeze == "none":
        return
    trained = {name.rpartition(".")[0] for name in head}
    around = {name[:end] for name in trained for end, letter in enumerate(name) if letter == "."} | {""}
    for name, module in network.named_modules():
        module.training = name in trained or name in around


def _factors(network: nn.Module, schedule: Schedule, head: Collection[str]) -> Callable[[str], float]:
    """Return the function from the name of a parameter to its factor on the learning rate."""
    of_head = schedule.head_learning_rate_factor
    if schedule.layer_decay == 1:
        return lambda name: of_head if name in head else 1.0
    units = find_units(network)
    by_unit: Mapping[int, float] = {
        unit: schedule.layer_decay ** (units.count - unit) for unit in range(units.count + 1)
    }
    return lambda name: of_head if name in head else by_unit[units.of_parameter[name]]
