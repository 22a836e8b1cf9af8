"""Training a segmentation network with mmengine's Runner, resumable at any step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.utils.data import DataLoader

from seg_transfer.errors import CheckpointError, SegTransferError, TrainingError
from seg_transfer.models.checkpoints import read_plain_pickle
from seg_transfer.models.compat import quiet, require_mmseg
from seg_transfer.models.networks import to_device
from seg_transfer.store.atomic import create_folder
from seg_transfer.training.crops import TrainingCrops
from seg_transfer.training.processes import copy_buffers_from_main, wait_for_all
from seg_transfer.training.schedule import Arithmetic, Schedule

Progress = Callable[[int, int], None]
_RESUME_FILE = "resume.pth"


def fit(
    network: nn.Module,
    crops: TrainingCrops,
    work_dir: Path,
    *,
    n_workers: int = 0,
    progress: Progress = lambda _step, _steps: None,
) -> nn.Module:
    """Train `network` on `crops` and return it; a killed run continues from its last checkpoint.

    The resumed run ends with the same weights as an uninterrupted one on the same kind of device. Under torchrun each
    process computes its share of every batch.

    Args:
        network: An mmseg segmentor, initialized as training should start.
        crops: The samples, with their schedule and seed.
        work_dir: Folder for the checkpoint to resume from; nothing but this training may use it.
        n_workers: Number of processes that read images during training.
        progress: Called with the number of finished steps and of all steps.

    Raises:
        ConfigError: mmsegmentation is not installed.
        TrainingError: The loss is no longer finite.
        CheckpointError: The checkpoint to resume from is damaged.
        DataError: An image or label is missing or damaged.
    """
    require_mmseg("training")
    from seg_transfer.training.runner import make_runner

    schedule = crops.schedule
    resume_file = work_dir / _RESUME_FILE
    start = _step_of(resume_file)
    on_cuda = get_device() != "cpu"
    to_device(network, get_device())
    wait_for_all()
    create_folder(work_dir)
    runner = make_runner(
        network,
        _loader(crops, start, n_workers, pin_memory=on_cuda),
        schedule,
        seed=crops.seed,
        arithmetic=arithmetic_here(schedule),
        resume_file=resume_file,
        resume=start > 0,
        progress=progress,
    )
    with _plain_errors():
        runner.train()
    copy_buffers_from_main(network)
    return network


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise the errors of processes that read images as if this process had raised them."""
    try:
        yield
    except SegTransferError as error:
        # The message begins with the other process's traceback; the reason is its last line.
        kind = type(error)
        raise kind(str(error).rpartition(f"{kind.__name__}: ")[2].strip()) from error
    except RuntimeError as error:
        if "DataLoader worker" in str(error) and "Caught" not in str(error):
            # As when this process itself is killed, this is a fault of the machine and not of the item.
            raise ChildProcessError(f"a process that reads images was killed ({str(error).splitlines()[0]})") from error
        raise


def _step_of(resume_file: Path) -> int:
    if not resume_file.is_file():
        return 0
    try:
        content: Any = read_plain_pickle(resume_file)
    except CheckpointError as error:
        raise CheckpointError(f"{resume_file}: damaged; delete it to start the training from the beginning") from error
    return int(content["meta"]["iter"])


def _loader(crops: TrainingCrops, start: int, n_workers: int, *, pin_memory: bool) -> DataLoader[Any]:
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    total = crops.schedule.batch_size
    if total % world:
        raise TrainingError(f"batch_size {total} cannot be shared by {world} processes; choose a multiple of {world}")
    share = total // world
    batches = [
        list(range(step * total + rank * share, step * total + (rank + 1) * share))
        for step in range(start, crops.schedule.steps)
    ]
    return DataLoader(
        crops,
        batch_sampler=batches,
        num_workers=n_workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        persistent_workers=n_workers > 0,
    )


def _collate(samples: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {key: [sample[key] for sample in samples] for key in samples[0]}


def get_device() -> str:
    """Return the kind of device that mmengine trains on here, such as "cuda" or "cpu"."""
    require_mmseg("training")
    with quiet():
        from mmengine import device

    return str(device.get_device())


def arithmetic_here(schedule: Schedule) -> Arithmetic:
    """Return the arithmetic that training with this schedule uses on this machine."""
    if not schedule.mixed_precision:
        return "float32"
    if get_device() != "cpu":
        return "float16"
    return "bfloat16" if multiplies_bfloat16() else "float32"


def multiplies_bfloat16() -> bool:
    """Return whether this CPU has matrix units for bfloat16 (AMX); without them, bfloat16 is slower than float32."""
    return bool(torch.cpu._is_amx_tile_supported())
