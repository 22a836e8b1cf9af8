"""Training a segmentation network with mmengine's Runner, resumable at any step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader

from seg_transfer.errors import CheckpointError, SegTransferError, TrainingError
from seg_transfer.models.checkpoints import read_plain_pickle
from seg_transfer.models.compat import quiet
from seg_transfer.models.networks import placed
from seg_transfer.models.precision import plain_float32
from seg_transfer.store.atomic import replaced_atomically
from seg_transfer.training.crops import TrainingCrops
from seg_transfer.training.processes import is_main_process, meet, take_buffers_of_main
from seg_transfer.training.schedule import Arithmetic, Schedule

with quiet():
    from mmengine.device import get_device
    from mmengine.hooks import Hook
    from mmengine.model import MMDistributedDataParallel
    from mmengine.optim import AmpOptimWrapper, LinearLR, OptimWrapper, PolyLR
    from mmengine.runner import BaseLoop, CheckpointLoader, Runner

Progress = Callable[[int, int], None]
_RESUME_FILE = "resume.pth"
_RESUME_PREFIX = "seg-transfer-resume:"


def fit(
    network: nn.Module,
    crops: TrainingCrops,
    work_dir: Path,
    *,
    n_workers: int = 0,
    progress: Progress = lambda _step, _steps: None,
) -> nn.Module:
    """Train `network` on `crops` and return it; a run that was killed continues from its last checkpoint.

    The resumed run ends with the same weights as an undisturbed one on the same kind of device. Under torchrun each
    process takes its share of every batch.

    Args:
        network: An mmseg segmentor, initialised as training should start.
        crops: The samples, with their schedule and seed.
        work_dir: Folder for the checkpoint to resume from; its content belongs to exactly this training.
        n_workers: Processes that read images beside the training.
        progress: Called with the finished steps and all steps.

    Raises:
        TrainingError: The loss is no longer finite.
        CheckpointError: The checkpoint to resume from is damaged.
        DataError: An image or label is missing or damaged.
    """
    schedule = crops.schedule
    resume_file = work_dir / _RESUME_FILE
    start = _step_of(resume_file)
    on_cuda = get_device() != "cpu"
    placed(network, get_device())
    meet()
    runner = Runner(
        model=_wrapped(network),
        work_dir=str(work_dir),
        train_dataloader=_loader(crops, start, n_workers, pin_memory=on_cuda),
        train_cfg={"type": _StepLoop},
        optim_wrapper=_optimiser(network, schedule),
        param_scheduler=_decay(schedule),
        default_hooks={"logger": None, "checkpoint": None, "runtime_info": None, "timer": None, "sampler_seed": None},
        custom_hooks=[_FiniteLoss(schedule.checkpoint_every), _ResumePoint(schedule.checkpoint_every), _Tick(progress)],
        load_from=f"{_RESUME_PREFIX}{resume_file}" if start else None,
        resume=start > 0,
        launcher="pytorch" if distributed.is_initialized() else "none",
        env_cfg={"mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0}},
        randomness={"seed": crops.seed},
        log_level="ERROR",
        default_scope="mmseg",
        experiment_name=f"{work_dir.name}_{os.urandom(4).hex()}",
    )
    with _plain_errors():
        runner.train()
    take_buffers_of_main(network)
    return network


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What processes that read images raised, as if this one had."""
    try:
        yield
    except SegTransferError as error:
        # It comes with that process's traceback in front; the reason is the last line.
        kind = type(error)
        raise kind(str(error).rpartition(f"{kind.__name__}: ")[2].strip()) from error
    except RuntimeError as error:
        if "DataLoader worker" in str(error) and "Caught" not in str(error):
            # As when this process itself is killed: the machine's fault, and not that of the item.
            raise ChildProcessError(f"a process that reads images was killed ({str(error).splitlines()[0]})") from error
        raise


class _StepLoop(BaseLoop):  # type: ignore[misc]
    """Takes one step per batch of a loader that already begins where the resumed run stopped."""

    def __init__(self, runner: Runner, dataloader: DataLoader[Any]) -> None:
        super().__init__(runner, dataloader)
        self._iter = 0
        self._epoch = 0
        self.max_epochs = 1
        self.max_iters = self.dataloader.dataset.schedule.steps
        self.stop_training = False

    @property
    def iter(self) -> int:
        return self._iter

    @property
    def epoch(self) -> int:
        return self._epoch

    @plain_float32()
    def run(self) -> nn.Module:
        runner = self.runner
        runner.call_hook("before_train")
        runner.call_hook("before_train_epoch")
        runner.model.train()
        for batch in self.dataloader:
            runner.call_hook("before_train_iter", batch_idx=self._iter, data_batch=batch)
            outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
            runner.call_hook("after_train_iter", batch_idx=self._iter, data_batch=batch, outputs=outputs)
            self._iter += 1
        runner.call_hook("after_train_epoch")
        runner.call_hook("after_train")
        model: nn.Module = runner.model
        return model


class _FiniteLoss(Hook):  # type: ignore[misc]
    """Stops a diverged training before its weights are saved; asked seldom, because it waits for the device."""

    priority = "VERY_LOW"

    def __init__(self, interval: int) -> None:
        self.interval = interval

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any, outputs: dict[str, Tensor]) -> None:
        if _is_due(runner, batch_idx, self.interval) and not _finite_everywhere(outputs["loss"]):
            raise TrainingError(
                f"{runner.work_dir}: the loss is not finite at step {batch_idx + 1}; lower learning_rate"
            )


class _ResumePoint(Hook):  # type: ignore[misc]
    """Writes one checkpoint over and over, whole or not at all."""

    priority = "LOWEST"

    def __init__(self, interval: int) -> None:
        self.interval = interval

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any, outputs: Any) -> None:
        # The last step too: what follows a training may fail, and must not cost the training.
        if _is_due(runner, batch_idx, self.interval) and is_main_process():
            with replaced_atomically(Path(runner.work_dir) / _RESUME_FILE) as temporary:
                runner.save_checkpoint(str(temporary.parent), temporary.name, by_epoch=False)


class _Tick(Hook):  # type: ignore[misc]
    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any, outputs: Any) -> None:
        self.progress(batch_idx + 1, runner.max_iters)


def _is_due(runner: Runner, batch_idx: int, interval: int) -> bool:
    return (batch_idx + 1) % interval == 0 or batch_idx + 1 == runner.max_iters


def _finite_everywhere(loss: Tensor) -> bool:
    finite = torch.isfinite(loss.detach()).float()
    if distributed.is_initialized():
        # All processes stop together, or the others would wait for this one for ever.
        distributed.all_reduce(finite, distributed.ReduceOp.MIN)
    return bool(finite)


def _step_of(resume_file: Path) -> int:
    if not resume_file.is_file():
        return 0
    try:
        content: Any = read_plain_pickle(resume_file)
    except CheckpointError as error:
        raise CheckpointError(
            f"{resume_file}: damaged; delete it, and the training starts from the beginning"
        ) from error
    return int(content["meta"]["iter"])


@CheckpointLoader.register_scheme(prefixes=(_RESUME_PREFIX,))  # type: ignore[untyped-decorator]
def _read_resume_file(filename: str, map_location: object = None, logger: object = None) -> object:
    """mmengine's own reader leaves `weights_only` to the environment; this one does not."""
    return read_plain_pickle(Path(filename.removeprefix(_RESUME_PREFIX)))


def _loader(crops: TrainingCrops, start: int, n_workers: int, *, pin_memory: bool) -> DataLoader[Any]:
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    total = crops.schedule.batch_size
    if total % world:
        raise TrainingError(f"batch_size {total} cannot be shared by {world} processes; choose a multiple")
    share = total // world
    batches = [
        list(range(step * total + rank * share, step * total + (rank + 1) * share))
        for step in range(start, crops.schedule.steps)
    ]
    return DataLoader(
        crops,
        batch_sampler=batches,
        num_workers=n_workers,
        collate_fn=_listed,
        pin_memory=pin_memory,
        persistent_workers=n_workers > 0,
    )


def _listed(samples: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {key: [sample[key] for sample in samples] for key in samples[0]}


def _wrapped(network: nn.Module) -> nn.Module:
    if not distributed.is_initialized():
        return network
    if get_device() == "cpu":
        return MMDistributedDataParallel(network, broadcast_buffers=False)  # type: ignore[no-any-return]
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return MMDistributedDataParallel(  # type: ignore[no-any-return]
        synchronised, device_ids=[torch.cuda.current_device()], broadcast_buffers=False
    )


def _optimiser(network: nn.Module, schedule: Schedule) -> OptimWrapper:
    sgd = torch.optim.SGD(
        network.parameters(),
        lr=schedule.learning_rate,
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
    )
    wrapper = {"float32": OptimWrapper, "float16": AmpOptimWrapper, "bfloat16": _BFloat16}[arithmetic_here(schedule)]
    return wrapper(optimizer=sgd)


class _BFloat16(OptimWrapper):  # type: ignore[misc]
    """Mixed precision without a scaled loss: bfloat16 has the range of float32."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with torch.autocast("cpu", dtype=torch.bfloat16), super().optim_context(model):
            yield


def arithmetic_here(schedule: Schedule) -> Arithmetic:
    """What a training computes in on this machine."""
    if not schedule.mixed_precision:
        return "float32"
    if get_device() != "cpu":
        return "float16"
    return "bfloat16" if multiplies_bfloat16() else "float32"


def multiplies_bfloat16() -> bool:
    """Whether this CPU has matrix units for bfloat16 (AMX); on others bfloat16 is slower than float32."""
    return bool(torch.cpu._is_amx_tile_supported())


def _decay(schedule: Schedule) -> list[dict[str, Any]]:
    decay = {"type": PolyLR, "power": schedule.power, "eta_min": 0, "end": schedule.steps, "by_epoch": False}
    if not schedule.warmup_steps:
        return [decay]
    return [{"type": LinearLR, "start_factor": 0.001, "end": schedule.warmup_steps, "by_epoch": False}, decay]
