"""Choosing the device that networks run on."""

from __future__ import annotations

from seg_transfer.errors import ConfigError


def chosen_device(wanted: str) -> str:
    """The torch device for an option's value.

    Args:
        wanted: "auto", which means CUDA where it is available, or a torch device such as "cuda:1".

    Raises:
        ConfigError: The device cannot be used here.
    """
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {wanted}: not usable here ({str(error).splitlines()[0]}); use auto") from error
    return wanted
