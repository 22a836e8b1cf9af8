"""Which device networks run on."""

from __future__ import annotations

from seg_transfer.errors import ConfigError


def chosen_device(wanted: str) -> str:
    """The device that "auto", or a name of torch's such as "cuda:1", means on this machine.

    Raises ConfigError for one that cannot be used here.
    """
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {wanted}: not usable here ({str(error).splitlines()[0]}); use auto") from error
    return wanted
