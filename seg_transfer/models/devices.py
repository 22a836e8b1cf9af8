"""The device that networks run on, what they compute in there, and the threads that decode for it; without torch."""

from __future__ import annotations

from typing import Literal

from seg_transfer.errors import ConfigError

Precision = Literal["float32", "tf32", "bfloat16", "float16"]
"""What networks compute features in; tf32 multiplies float32 with 10 bits of mantissa, on CUDA only."""
# Compute capability of the first GPUs that multiply TF32; older ones would compute in float32 and say nothing.
_FIRST_WITH_TF32 = (8, 0)


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


def require_precision(precision: Precision, device: str) -> None:
    """Raise ConfigError where a device lacks a precision: stored scores say that they were computed in it."""
    if precision != "tf32":
        return
    import torch

    where = torch.device(device)
    if where.type != "cuda" or torch.cuda.get_device_capability(where) < _FIRST_WITH_TF32:
        raise ConfigError(
            f"precision: tf32: device {where} does not compute in it, only NVIDIA GPUs since Ampere do; choose float32 "
            "or bfloat16"
        )


def decoding_threads(device: str) -> int:
    """Return the number of threads that decode images for a network on a device.

    On the CPU the network itself keeps the processors busy. A GPU takes images faster than two threads decode them, so
    the threads that this process may use for arithmetic decode instead.
    """
    import torch

    return 2 if device == "cpu" else max(2, torch.get_num_threads())


def within_device_memory(n_bytes: int, device: str) -> int:
    """Return a number of bytes, or all memory of the GPU if it has less."""
    import torch

    if not device.startswith("cuda"):
        return n_bytes
    return min(n_bytes, int(torch.cuda.get_device_properties(device).total_memory))
