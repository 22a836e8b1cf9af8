"""Training a segmentation network with mmengine's Runner, resumable at any step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn
from torch.utils.data import DataLoader

from seg_transfer.errors import CheckpointError, SegTransferError, TrainingError
from seg_transfer.models.checkpoints import read_plain_pickle
from seg_transfer.models.compat import quiet, require_mmengine
from seg_transfer.models.networks import classifier_parameters, to_device
from seg_transfer.store.atomic import create_folder
from seg_transfer.training.crops import TrainingCrops, as_tensors
from seg_transfer.training.processes import wait_for_all, with_buffers_of_main
from seg_transfer.training.schedule import Arithmetic, Schedule

if TYPE_CHECKING:
    from seg_transfer.training.task import SegmentationTask

Progress = Callable[[int, int], None]
_RESUME_FILE = "resume.pth"


def fit(
    network: nn.Module,
    crops: TrainingCrops,
    work_dir: Path,
    *,
    head: Collection[str] | None = None,
    until: int | None = None,
    n_workers: int = 0,
    progress: Progress = lambda _step, _steps: None,
) -> nn.Module:
    """Train `network` on `crops` and return it; a killed run continues from its last checkpoint.

    A run that was killed, or stopped at `until`, ends with the weights of an undisturbed one on that kind of device.

    Args:
        network: An mmseg segmentor or a `SegmentationTask`, initialized as training should start.
        crops: The samples, with their schedule and seed; processes share each batch.
        work_dir: Folder for the checkpoint to resume from; nothing but this training may use it.
        head: Parameters of the new last layer; by default those of the task or of mmseg's classifiers.
        until: Step to stop at, not before that of the checkpoint; by default the end of the schedule.
        n_workers: Number of processes that read images during training.
        progress: Called with the number of finished steps and the step to stop at.

    Raises:
        ConfigError: mmengine is not installed.
        TrainingError: Loss or weights are no longer finite, or a batch is too small for the network.
        CheckpointError, DataError: The checkpoint to resume from, an image or a label is damaged.
    """
    task = _as_task(network)
    from seg_transfer.training.runner import make_runner

    schedule, resume_file, device = crops.schedule, work_dir / _RESUME_FILE, get_device()
    steps = range(_step_of(resume_file), until or schedule.steps)
    to_device(network, device)
    wait_for_all()
    create_folder(work_dir)
    runner = make_runner(
        network,
        _loader(crops.packed(as_tensors) if task else crops, steps, n_workers, pin_memory=device != "cpu"),
        schedule,
        head=head or (task.head if task else classifier_parameters(network)),
        seed=crops.seed,
        arithmetic=arithmetic_here(schedule),
        resume_file=resume_file,
        steps=steps,
        progress=progress,
    )
    with _freed(runner), _plain_errors(schedule):
        runner.train()
    return with_buffers_of_main(network)


def _as_task(network: nn.Module) -> SegmentationTask | None:
    require_mmengine("training")
    from seg_transfer.training.task import SegmentationTask

    return network if isinstance(network, SegmentationTask) else None


@contextmanager
def _freed(runner: Any) -> Iterator[None]:
    """Empty a Runner at the end.

    It and its loop refer to each other, and Python would free the memory of optimizer and network only many trainings
    later: more than a GPU holds.
    """
    try:
        yield
    finally:
        vars(runner).clear()


@contextmanager
def _plain_errors(schedule: Schedule) -> Iterator[None]:
    """Raise the errors of processes that read images as if this process had raised them, and say what some mean."""
    try:
        yield
    except SegTransferError as error:
        # The message begins with the other process's traceback; the reason is its last line.
        kind = type(error)
        raise kind(str(error).rpartition(f"{kind.__name__}: ")[2].strip()) from error
    except ValueError as error:
        if "more than 1 value per channel" in str(error):  # of PyTorch's BatchNorm
            raise TrainingError(
                f"batch_size {schedule.batch_size}: a BatchNorm layer of the network sees a single value per channel, "
                "which has no variance; set batch_size to at least 2 per process"
            ) from error
        raise
    except RuntimeError as error:
        if "DataLoader worker" in str(error) and "Caught" not in str(error):
            # As when this process itself is killed, this is a fault of the machine and not of the item.
            raise ChildProcessError(f"a process that reads images was killed ({str(error).splitlines()[0]})") from error
        raise


def resume_step(work_dir: Path) -> int:
    """Return the step that a training would resume from; 0 if it has not begun.

    Raises:
        CheckpointError: The checkpoint to resume from is damaged.
    """
    return _step_of(work_dir / _RESUME_FILE)


def load_weights_at_rest(network: nn.Module, work_dir: Path) -> None:
    """Load the weights that a training would resume from, on this machine's device, whatever machine trained them.

    Raises:
        CheckpointError: The checkpoint is missing or damaged.
    """
    network.load_state_dict(_checkpoint(work_dir / _RESUME_FILE)["state_dict"])
    to_device(network, get_device())


def _step_of(resume_file: Path) -> int:
    return int(_checkpoint(resume_file)["meta"]["iter"]) if resume_file.is_file() else 0


def _checkpoint(resume_file: Path) -> Any:
    try:
        return read_plain_pickle(resume_file)
    except CheckpointError as error:
        raise CheckpointError(f"{resume_file}: damaged; delete it to start the training from the beginning") from error


def _loader(crops: TrainingCrops, steps: range, n_workers: int, *, pin_memory: bool) -> DataLoader[Any]:
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    total = crops.schedule.batch_size
    if total % world:
        raise TrainingError(f"batch_size {total} cannot be shared by {world} processes; choose a multiple of {world}")
    share = total // world
    batches = [list(range(step * total + rank * share, step * total + (rank + 1) * share)) for step in steps]
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
    require_mmengine("training")
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
    """Return whether this CPU multiplies bfloat16 in hardware (AMX or AVX512_BF16); otherwise float32 is faster."""
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
