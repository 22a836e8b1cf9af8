"""The commands that do the stages of a study: sample, train-sources, score-pairs, finetune-pairs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from seg_transfer.cli.options import (
    BatchSize,
    DataRoot,
    Debug,
    Device,
    DryRun,
    DryRunAsJson,
    Engine,
    MemoryGb,
    Processes,
    RunFolder,
    ShardText,
    Sources,
    StudyFile,
    Targets,
    Threads,
    TrustConfig,
    Workers,
)
from seg_transfer.cli.plan import warn_of_code
from seg_transfer.errors import ConfigError
from seg_transfer.messages import say
from seg_transfer.store.session import session

if TYPE_CHECKING:
    from seg_transfer.stages.cost import Missing
    from seg_transfer.study.run import Run

_ENGINES = ("local", "here", "ray")


def sample(
    study: StudyFile,
    data_root: DataRoot = Path(),
    run_folder: RunFolder = None,
    targets: Targets = None,
    debug: Debug = False,
) -> None:
    """Draw and store the pixel sample of every target of a study."""
    from seg_transfer.stages.sample import pixel_sample
    from seg_transfer.study.run import chosen, for_each

    run = opened_run(study, data_root, run_folder, trust_config=True)

    def draw(target: str) -> None:
        drawn = pixel_sample(run, target, run.low_shot(target))
        typer.echo(f"{target}: {len(drawn)} pixels of {len(drawn.image_ids)} images in {run.sample_file(target)}")

    for_each(chosen(run.study.targets, targets or (), "target"), draw, str)


def train_sources(
    context: typer.Context,
    study: StudyFile,
    data_root: DataRoot = Path(),
    run_folder: RunFolder = None,
    sources: Sources = None,
    shard: ShardText = "0/1",
    engine: Engine = "local",
    dry_run: DryRun = False,
    threads: Threads = 0,
    processes: Processes = 1,
    workers: Workers = 0,
    trust_config: TrustConfig = False,
    as_json: DryRunAsJson = False,
    debug: Debug = False,
) -> None:
    """Train the sources of a study that are missing."""
    run = opened_run(study, data_root, run_folder, trust_config=trust_config)
    if not dry_run and _ran_elsewhere(context, run, engine):
        return
    with limited_threads(threads):
        if dry_run:
            from seg_transfer.models.devices import chosen_device
            from seg_transfer.stages.cost import missing_source_costs

            _print_missing(missing_source_costs(run, chosen_device("auto"), sources or ()), as_json)
            return
        from seg_transfer.stages import train as stage
        from seg_transfer.study.run import shard_of

        stage.train_sources(run, only=sources or (), shard=shard_of(shard), n_workers=workers, say=say)


def score_pairs(
    context: typer.Context,
    study: StudyFile,
    data_root: DataRoot = Path(),
    run_folder: RunFolder = None,
    sources: Sources = None,
    targets: Targets = None,
    shard: ShardText = "0/1",
    engine: Engine = "local",
    dry_run: DryRun = False,
    device: Device = "auto",
    batch_size: BatchSize = None,
    memory_gb: MemoryGb = 8.0,
    threads: Threads = 0,
    trust_config: TrustConfig = False,
    as_json: DryRunAsJson = False,
    debug: Debug = False,
) -> None:
    """Score the pairs of a study that have no valid scores."""
    run = opened_run(study, data_root, run_folder, trust_config=trust_config)
    if not dry_run and _ran_elsewhere(context, run, engine):
        return
    from seg_transfer.models.devices import chosen_device

    with limited_threads(threads):
        if dry_run:
            from seg_transfer.stages.cost import missing_score_costs

            _print_missing(missing_score_costs(run, chosen_device(device), sources or (), targets or ()), as_json)
            return
        from seg_transfer.stages import score as stage
        from seg_transfer.study.run import shard_of

        stage.score_pairs(
            run,
            sources=sources or (),
            targets=targets or (),
            shard=shard_of(shard),
            device=chosen_device(device),
            batch_size=batch_size,
            memory_bytes=int(memory_gb * 2**30),
            say=say,
        )


def finetune_pairs(
    context: typer.Context,
    study: StudyFile,
    data_root: DataRoot = Path(),
    run_folder: RunFolder = None,
    sources: Sources = None,
    targets: Targets = None,
    shard: ShardText = "0/1",
    engine: Engine = "local",
    dry_run: DryRun = False,
    threads: Threads = 0,
    processes: Processes = 1,
    workers: Workers = 0,
    trust_config: TrustConfig = False,
    as_json: DryRunAsJson = False,
    debug: Debug = False,
) -> None:
    """Fine-tune the pairs of a study, and the control from scratch."""
    run = opened_run(study, data_root, run_folder, trust_config=trust_config)
    if not dry_run and _ran_elsewhere(context, run, engine):
        return
    with limited_threads(threads):
        if dry_run:
            from seg_transfer.models.devices import chosen_device
            from seg_transfer.stages.cost import missing_trial_costs

            _print_missing(missing_trial_costs(run, chosen_device("auto"), sources or (), targets or ()), as_json)
            return
        from seg_transfer.stages import finetune as stage
        from seg_transfer.study.run import shard_of

        stage.finetune_pairs(
            run, sources=sources or (), targets=targets or (), shard=shard_of(shard), n_workers=workers, say=say
        )


def opened_run(study: Path, data_root: Path, folder: Path | None, *, trust_config: bool) -> Run:
    """The run of a study with its folder made; what of it is code from elsewhere is named, unless that is trusted."""
    from seg_transfer.study.run import open_run, prepare_folder

    run = open_run(study, data_root, folder)
    if "LOCAL_RANK" in os.environ:
        from seg_transfer.training.processes import in_main_process, start_distributed

        start_distributed()
        in_main_process(lambda: prepare_folder(run))
    else:
        prepare_folder(run)
    if not trust_config:
        warn_of_code(run)
    return run


def _ran_elsewhere(context: typer.Context, run: Run, engine: str) -> bool:
    """Run this command in processes of its own, unless this is one of them, or it is to be done here."""
    if engine not in _ENGINES:
        raise ConfigError(f"--engine {engine}: unknown; choose {', '.join(_ENGINES)}")
    if session() or "LOCAL_RANK" in os.environ:
        return False
    title, processes = str(context.info_name), context.params.get("processes", 1)
    if engine == "here":
        if processes > 1:
            raise ConfigError(f"--processes {processes}: --engine here is this process alone; leave one of them out")
        return False
    if engine == "ray":
        from seg_transfer.engines.ray import run_stage_on_ray

        run_stage_on_ray(title, run, context.params)
        return True
    from seg_transfer.engines.local import run_in_pool, visible_gpus

    one_device = context.params.get("device", "auto") not in ("auto", "cuda")
    words = [title, *_words(context), "--trust-config"]
    run_in_pool(words, run.folder / "leases", title, [] if one_device else visible_gpus(), processes)
    return True


def _words(context: typer.Context) -> list[str]:
    """The command line that gives these parameters again."""
    words: list[str] = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if value is None or value is False or value == parameter.default:
            continue
        option = [parameter.opts[0]] if parameter.param_type_name == "option" else []
        for one in value if isinstance(value, list | tuple) else [value]:
            words += option if one is True else [*option, str(one)]
    return words


@contextmanager
def limited_threads(number: int) -> Iterator[None]:
    """Limit the threads of torch and of the BLAS that the metrics use."""
    if not number:
        yield
        return
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(number)
    with threadpool_limits(number):
        yield


def _print_missing(missing: Sequence[Missing], as_json: bool) -> None:
    total = sum(one.seconds for one in missing)
    if as_json:
        items = [{"item": one.item, "seconds": one.seconds, "basis": one.basis} for one in missing]
        typer.echo(json.dumps({"missing": items, "total_seconds": total}, indent=1))
        return
    for one in missing:
        typer.echo(f"missing: {one.item}, about {one.seconds:.0f} s (from {one.basis})")
    typer.echo(
        f"{len(missing)} missing, about {total / 60:.1f} min on this machine" if missing else "nothing is missing"
    )
