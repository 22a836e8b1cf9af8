"""Choosing the device that networks run on."""

from __future__ import annotations

from seg_transfer.errors import ConfigError


def chosen_device(requested: str) -> str:
    """Return the torch device for an option's value.

    Args:
        requested: "auto", which means CUDA if available, or a torch device such as "cuda:1".

    Raises:
        ConfigError: The device cannot be used on this machine.
    """
    import torch

    if requested == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=requested)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {requested}: not usable here ({str(error).splitlines()[0]}); use auto") from error
    return requested
