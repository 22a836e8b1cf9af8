"""The parts of mmengine's Runner that train a network: loop, hooks, optimizer and checkpoints.

This is the only module of training that imports mmengine, which is optional, at the top: import it late.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader

from seg_transfer.errors import TrainingError
from seg_transfer.models.checkpoints import read_plain_pickle
from seg_transfer.models.compat import quiet
from seg_transfer.models.precision import plain_float32
from seg_transfer.store.atomic import replaced_atomically
from seg_transfer.training.processes import is_main_process
from seg_transfer.training.schedule import Arithmetic, Schedule

with quiet():
    from mmengine.device import get_device
    from mmengine.hooks import Hook
    from mmengine.model import MMDistributedDataParallel
    from mmengine.optim import AmpOptimWrapper, LinearLR, OptimWrapper, PolyLR
    from mmengine.runner import BaseLoop, CheckpointLoader, Runner

Progress = Callable[[int, int], None]
_RESUME_PREFIX = "seg-transfer-resume:"


def make_runner(
    network: nn.Module,
    loader: DataLoader[Any],
    schedule: Schedule,
    *,
    seed: int,
    arithmetic: Arithmetic,
    resume_file: Path,
    resume: bool,
    progress: Progress,
) -> Runner:
    """Make the Runner of one training.

    Args:
        network: The network, already on its device.
        loader: Batches, beginning with that of the first remaining step.
        schedule: Schedule of the training.
        seed: Seed of the training's random numbers.
        arithmetic: Arithmetic of the forward pass and the gradients.
        resume_file: The checkpoint that the training overwrites and resumes from.
        resume: Whether to continue from that checkpoint.
        progress: Called with the number of finished steps and of all steps.
    """
    work_dir, interval = resume_file.parent, schedule.checkpoint_every
    return Runner(
        model=_wrap_for_processes(network),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg={"type": _StepLoop},
        optim_wrapper=_optimizer(network, schedule, arithmetic),
        param_scheduler=_learning_rate_schedule(schedule),
        default_hooks={"logger": None, "checkpoint": None, "runtime_info": None, "timer": None, "sampler_seed": None},
        custom_hooks=[_RequireFiniteLoss(interval), _SaveCheckpoint(resume_file, interval), _ReportProgress(progress)],
        load_from=f"{_RESUME_PREFIX}{resume_file}" if resume else None,
        resume=resume,
        launcher="pytorch" if distributed.is_initialized() else "none",
        env_cfg={"mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0}},
        randomness={"seed": seed},
        log_level="ERROR",
        default_scope="mmseg",
        experiment_name=f"{work_dir.name}_{os.urandom(4).hex()}",
    )


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


class _RequireFiniteLoss(Hook):  # type: ignore[misc]
    """Stops a diverged training before its weights are saved; checks rarely, because a check waits for the device."""

    priority = "VERY_LOW"

    def __init__(self, interval: int) -> None:
        self.interval = interval

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any, outputs: dict[str, Tensor]) -> None:
        if _is_due(runner, batch_idx, self.interval) and not _finite_everywhere(outputs["loss"]):
            raise TrainingError(
                f"{runner.work_dir}: the loss is not finite at step {batch_idx + 1}; lower learning_rate"
            )


class _SaveCheckpoint(Hook):  # type: ignore[misc]
    """Overwrites the checkpoint to resume from, atomically."""

    priority = "LOWEST"

    def __init__(self, file: Path, interval: int) -> None:
        self.file = file
        self.interval = interval

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any, outputs: Any) -> None:
        # Also save after the last step: if the following evaluation fails, the training must not be lost.
        if _is_due(runner, batch_idx, self.interval) and is_main_process():
            with replaced_atomically(self.file) as temporary:
                runner.save_checkpoint(str(temporary.parent), temporary.name, by_epoch=False)


class _ReportProgress(Hook):  # type: ignore[misc]
    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any, outputs: Any) -> None:
        self.progress(batch_idx + 1, runner.max_iters)


def _is_due(runner: Runner, batch_idx: int, interval: int) -> bool:
    return (batch_idx + 1) % interval == 0 or batch_idx + 1 == runner.max_iters


def _finite_everywhere(loss: Tensor) -> bool:
    finite = torch.isfinite(loss.detach()).float()
    if distributed.is_initialized():
        # All processes stop together, because the others would wait for this one forever.
        distributed.all_reduce(finite, distributed.ReduceOp.MIN)
    return bool(finite)


@CheckpointLoader.register_scheme(prefixes=(_RESUME_PREFIX,))  # type: ignore[untyped-decorator]
def _read_resume_file(filename: str, map_location: object = None, logger: object = None) -> object:
    """Read a checkpoint safely; mmengine's own reader leaves `weights_only` to the environment."""
    return read_plain_pickle(Path(filename.removeprefix(_RESUME_PREFIX)))


def _wrap_for_processes(network: nn.Module) -> nn.Module:
    if not distributed.is_initialized():
        return network
    if get_device() == "cpu":
        return MMDistributedDataParallel(network, broadcast_buffers=False)  # type: ignore[no-any-return]
    synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return MMDistributedDataParallel(  # type: ignore[no-any-return]
        synchronized, device_ids=[torch.cuda.current_device()], broadcast_buffers=False
    )


def _optimizer(network: nn.Module, schedule: Schedule, arithmetic: Arithmetic) -> OptimWrapper:
    sgd = torch.optim.SGD(
        network.parameters(),
        lr=schedule.learning_rate,
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
    )
    wrapper = {"float32": OptimWrapper, "float16": AmpOptimWrapper, "bfloat16": _BFloat16}[arithmetic]
    return wrapper(optimizer=sgd)


class _BFloat16(OptimWrapper):  # type: ignore[misc]
    """Mixed precision without loss scaling: bfloat16 has the range of float32."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with torch.autocast("cpu", dtype=torch.bfloat16), super().optim_context(model):
            yield


def _learning_rate_schedule(schedule: Schedule) -> list[dict[str, Any]]:
    decay = {"type": PolyLR, "power": schedule.power, "eta_min": 0, "end": schedule.steps, "by_epoch": False}
    if not schedule.warmup_steps:
        return [decay]
    return [{"type": LinearLR, "start_factor": 0.001, "end": schedule.warmup_steps, "by_epoch": False}, decay]
