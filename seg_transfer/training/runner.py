"""The parts of mmengine's Runner that train a network: loop, hooks, optimizer and checkpoints.

This module and `training.task` import mmengine, which is optional, at the top: import them late.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader

from seg_transfer.console import silent_stdout
from seg_transfer.errors import TrainingError
from seg_transfer.models.checkpoints import read_plain_pickle
from seg_transfer.models.compat import import_mmengine, quiet
from seg_transfer.models.precision import plain_float32
from seg_transfer.store.atomic import replaced_atomically
from seg_transfer.training.optimizers import keep_frozen_statistics, make_optimizer
from seg_transfer.training.processes import is_main_process
from seg_transfer.training.schedule import Arithmetic, Schedule
from seg_transfer.training.task import SegmentationTask

import_mmengine()
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
    head: Collection[str],
    seed: int,
    arithmetic: Arithmetic,
    resume_file: Path,
    steps: range,
    progress: Progress,
) -> Runner:
    """Make the Runner of one training.

    Args:
        network: The network, already on its device.
        loader: Batches, beginning with that of the first remaining step.
        schedule: Schedule of the training.
        head: Names of the parameters of the new last layer.
        seed: Seed of the training's random numbers.
        arithmetic: Arithmetic of the forward pass and the gradients.
        resume_file: The checkpoint that the training overwrites and resumes from.
        steps: The remaining steps; where these do not begin at 0, the training continues from that checkpoint.
        progress: Called with the number of finished steps and the step to stop at.
    """
    work_dir, interval = resume_file.parent, schedule.checkpoint_every
    late_hooks = [_RequireFinite(interval), _SaveCheckpoint(resume_file, interval), _ReportProgress(progress)]
    # First, because processes exchange the gradients of those parameters that are not frozen when they are wrapped.
    optimizer = make_optimizer(network, schedule, head)
    return _SilentRunner(
        model=_wrap_for_processes(network),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg={"type": _StepLoop, "stop": steps.stop},
        optim_wrapper=_WRAPPERS[arithmetic](optimizer=optimizer),
        param_scheduler=_learning_rate_schedule(schedule),
        default_hooks={"logger": None, "checkpoint": None, "runtime_info": None, "timer": None, "sampler_seed": None},
        custom_hooks=[_FrozenStatistics(network, schedule, head), _RandomState(), *late_hooks],
        load_from=f"{_RESUME_PREFIX}{resume_file}" if steps.start else None,
        resume=steps.start > 0,
        launcher="pytorch" if distributed.is_initialized() else "none",
        env_cfg={"mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0}},
        randomness={"seed": seed},
        log_level="ERROR",
        # In the scope of mmsegmentation, mmengine would import it.
        default_scope="mmengine" if isinstance(network, SegmentationTask) else "mmseg",
        experiment_name=f"{work_dir.name}_{os.urandom(4).hex()}",
    )


class _SilentRunner(Runner):  # type: ignore[misc]
    """A Runner that neither prints which checkpoint it resumes from nor looks for compilers to log their versions."""

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        pass

    def load_or_resume(self) -> None:
        with silent_stdout():
            super().load_or_resume()


class _StepLoop(BaseLoop):  # type: ignore[misc]
    """Takes one step per batch of a loader that already begins where the resumed run stopped."""

    def __init__(self, runner: Runner, dataloader: DataLoader[Any], stop: int) -> None:
        super().__init__(runner, dataloader)
        self._iter = 0
        self._epoch = 0
        self.max_epochs = 1
        self.max_iters = stop
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


class _FrozenStatistics(Hook):  # type: ignore[misc]
    """Keeps frozen modules in evaluation mode, after the loop has switched the whole network to training mode."""

    def __init__(self, network: nn.Module, schedule: Schedule, head: Collection[str]) -> None:
        self.network, self.schedule, self.head = network, schedule, head

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        keep_frozen_statistics(self.network, self.schedule, self.head)


class _RandomState(Hook):  # type: ignore[misc]
    """Saves the state of PyTorch's random numbers, from which dropout continues after resuming.

    The main process's state serves all: they draw equally many numbers from one seed.
    """

    def __init__(self) -> None:
        self.states: dict[str, Tensor] = {}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint["random_states"] = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            checkpoint["random_states"]["cuda"] = torch.cuda.get_rng_state()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self.states = checkpoint.get("random_states", {})

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        # Not before the loader has started, which draws a number itself.
        if "cpu" in self.states:
            torch.set_rng_state(self.states["cpu"])
        if "cuda" in self.states and torch.cuda.is_available():
            torch.cuda.set_rng_state(self.states["cuda"])
        self.states = {}


class _RequireFinite(Hook):  # type: ignore[misc]
    """Stops a diverged training before its weights are saved; checks rarely, because a check waits for the device."""

    priority = "VERY_LOW"

    def __init__(self, interval: int) -> None:
        self.interval = interval

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any, outputs: dict[str, Tensor]) -> None:
        if not _is_due(runner, batch_idx, self.interval):
            return
        # The loss is that before the step, and says nothing of the weights after it.
        weights = torch.stack([parameter.detach().abs().max() for parameter in runner.model.parameters()])
        for name, values in (("loss is", outputs["loss"]), ("weights are", weights)):
            if not _finite_everywhere(values):
                raise TrainingError(
                    f"{runner.work_dir}: the {name} not finite at step {batch_idx + 1}; lower learning_rate"
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


def _finite_everywhere(values: Tensor) -> bool:
    finite = torch.isfinite(values.detach()).all().float()
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
    # Networks of other libraries may hold parameters that their scores do not depend on, such as a pooler's.
    options = {"broadcast_buffers": False, "find_unused_parameters": isinstance(network, SegmentationTask)}
    if get_device() == "cpu":
        return MMDistributedDataParallel(network, **options)  # type: ignore[no-any-return]
    synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return MMDistributedDataParallel(  # type: ignore[no-any-return]
        synchronized, device_ids=[torch.cuda.current_device()], **options
    )


class _BFloat16(OptimWrapper):  # type: ignore[misc]
    """Mixed precision without loss scaling: bfloat16 has the range of float32."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with torch.autocast("cpu", dtype=torch.bfloat16), super().optim_context(model):
            yield


_WRAPPERS = {"float32": OptimWrapper, "float16": AmpOptimWrapper, "bfloat16": _BFloat16}


def _learning_rate_schedule(schedule: Schedule) -> list[dict[str, Any]]:
    decay = {"type": PolyLR, "power": schedule.power, "eta_min": 0, "end": schedule.steps, "by_epoch": False}
    if not schedule.warmup_steps:
        return [decay]
    return [{"type": LinearLR, "start_factor": 0.001, "end": schedule.warmup_steps, "by_epoch": False}, decay]
