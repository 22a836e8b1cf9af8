"""The ``seg-transfer`` command: parse, call, print. Every stage lives elsewhere."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seg_transfer import __version__
from seg_transfer.cli_options import (
    AsJson,
    DataRoot,
    Debug,
    Device,
    DryRun,
    DryRunAsJson,
    Engine,
    RunFolder,
    ShardText,
    Sources,
    StudyFile,
    Targets,
    Threads,
    TrustConfig,
    Workers,
)
from seg_transfer.cli_plan import plan, warn_of_code
from seg_transfer.cli_report import report
from seg_transfer.cli_submit import submit
from seg_transfer.errors import ConfigError, IncompleteError, SegTransferError
from seg_transfer.execution.messages import complain, say
from seg_transfer.execution.session import end_with_starter, session

if TYPE_CHECKING:
    from seg_transfer.execution.cost import Missing
    from seg_transfer.execution.run import Run

EXIT_CODES = (
    "Exit codes: 0 done; 1 other error; 2 wrong usage; 3 study, manifest or config; 4 image or label; 5 checkpoint; "
    "6 observations; 7 results; 8 several reasons, all else is finished; 9 training; 130 interrupted."
)

_ENGINES = ("local", "here", "ray")

app = typer.Typer(
    name="seg-transfer",
    help="Which trained segmentation model should be fine-tuned on a new dataset?",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with a documented exit code."""
    # Threads that spin for long while they wait starve each other when another process needs the cores: a forward pass
    # then takes 100 times longer. A short spin costs nothing on a quiet machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    words = list(sys.argv[1:] if arguments is None else arguments)
    end_with_starter()
    try:
        app(words, prog_name="seg-transfer")
    except SegTransferError as error:
        if isinstance(error, IncompleteError) and session():
            sys.exit(error.exit_code)  # The process that started this one says what failed in all of them.
        if "--debug" in words:
            raise
        complain(" ".join(str(error).split()))
        sys.exit(error.exit_code)
    except OSError as error:
        if "--debug" in words:
            raise
        complain(f"{error}; check the path, its permissions and the free space")
        sys.exit(SegTransferError.exit_code)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command(epilog="Example: seg-transfer demo --folder runs/demo")
def demo(
    folder: Annotated[Path, typer.Option(help="Where the world and the results are written.")] = Path("runs/demo"),
    threads: Threads = 0,
    debug: Debug = False,
) -> None:
    """Make a small world with a known answer, and run a whole study on it: train, score, fine-tune, evaluate."""
    from seg_transfer.demo.study import write_demo

    study, world = write_demo(folder)
    common = [str(study), "--data-root", str(world), "--run-folder", str(folder / "run")]
    for stage in ("train-sources", "score-pairs", "finetune-pairs"):
        say(f"$ seg-transfer {' '.join([stage, *common])}")
        app([stage, *common, "--threads", str(threads)], standalone_mode=False)
    app(["evaluate", str(folder / "run")], standalone_mode=False)
    typer.echo(f"Everything is in {folder}; run any of the commands above again: what is finished is not repeated.")


@app.command(epilog="Example: seg-transfer audit data_manifests/small/camvid.yaml --data-root ../datasets")
def audit(
    manifest: Annotated[Path, typer.Argument(help="Dataset manifest.", show_default=False)],
    data_root: DataRoot = Path(),
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read every image and label of a dataset, and print what is in it and what is wrong."""
    from seg_transfer.data.audit import audit as audit_dataset
    from seg_transfer.data.audit import audit_dict, audit_lines
    from seg_transfer.data.manifest import load_manifest
    from seg_transfer.errors import DataError

    report = audit_dataset(load_manifest(manifest), data_root)
    typer.echo(json.dumps(audit_dict(report), indent=1) if as_json else "\n".join(audit_lines(report)))
    for problem in report.problems:
        complain(problem)
    if report.problems:
        raise DataError(f"{manifest}: {len(report.problems)} problem(s), listed above; mend them and audit again")


@app.command(epilog="Example: seg-transfer sample configs/studies/real4.yaml --data-root ../datasets --target camvid")
def sample(
    study: StudyFile,
    data_root: DataRoot = Path(),
    run_folder: RunFolder = None,
    targets: Targets = None,
    debug: Debug = False,
) -> None:
    """Draw and store the pixel sample of every target of a study."""
    from seg_transfer.execution.run import chosen, for_each
    from seg_transfer.execution.samples import pixel_sample

    run = _open(study, data_root, run_folder, trust_config=True)

    def draw(target: str) -> None:
        drawn = pixel_sample(run, target, run.low_shot(target))
        typer.echo(f"{target}: {len(drawn)} pixels of {len(drawn.image_ids)} images in {run.sample_file(target)}")

    for_each(chosen(run.study.targets, targets or (), "target"), draw, str)


@app.command(epilog="Example: seg-transfer train-sources configs/studies/real4.yaml --data-root ../datasets")
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
    workers: Workers = 0,
    trust_config: TrustConfig = False,
    as_json: DryRunAsJson = False,
    debug: Debug = False,
) -> None:
    """Train the sources of a study that are missing. Under torchrun, all processes train one source together."""
    run = _open(study, data_root, run_folder, trust_config=trust_config)
    if not dry_run and _ran_elsewhere(context, run, engine):
        return
    with _threads(threads):
        if dry_run:
            from seg_transfer.execution.cost import missing_source_costs

            _print_missing(missing_source_costs(run, _device("auto"), sources or ()), as_json)
            return
        from seg_transfer.execution import sources as stage
        from seg_transfer.execution.run import shard_of

        stage.train_sources(run, only=sources or (), shard=shard_of(shard), n_workers=workers, say=say)


@app.command(epilog="Example: seg-transfer score-pairs configs/studies/real4.yaml --data-root ../datasets --dry-run")
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
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images of one size per forward pass; 8 on CUDA, 1 on the CPU by default.")
    ] = None,
    memory_gb: Annotated[float, typer.Option(min=0, help="For decoded images and loaded networks.")] = 8.0,
    threads: Threads = 0,
    trust_config: TrustConfig = False,
    as_json: DryRunAsJson = False,
    debug: Debug = False,
) -> None:
    """Score the pairs of a study that have no valid scores."""
    run = _open(study, data_root, run_folder, trust_config=trust_config)
    if not dry_run and _ran_elsewhere(context, run, engine):
        return
    with _threads(threads):
        if dry_run:
            from seg_transfer.execution.cost import missing_score_costs

            _print_missing(missing_score_costs(run, _device(device), sources or (), targets or ()), as_json)
            return
        from seg_transfer.execution import scoring as stage
        from seg_transfer.execution.run import shard_of

        stage.score_pairs(
            run,
            sources=sources or (),
            targets=targets or (),
            shard=shard_of(shard),
            device=_device(device),
            batch_size=batch_size,
            memory_bytes=int(memory_gb * 2**30),
            say=say,
        )


@app.command(epilog="Example: seg-transfer finetune-pairs configs/studies/real4.yaml --data-root ../datasets")
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
    workers: Workers = 0,
    trust_config: TrustConfig = False,
    as_json: DryRunAsJson = False,
    debug: Debug = False,
) -> None:
    """Fine-tune the pairs of a study, and the control from scratch. Under torchrun, all processes share each one."""
    run = _open(study, data_root, run_folder, trust_config=trust_config)
    if not dry_run and _ran_elsewhere(context, run, engine):
        return
    with _threads(threads):
        if dry_run:
            from seg_transfer.execution.cost import missing_trial_costs

            _print_missing(missing_trial_costs(run, _device("auto"), sources or (), targets or ()), as_json)
            return
        from seg_transfer.execution import fine_tuning as stage
        from seg_transfer.execution.run import shard_of

        stage.finetune_pairs(
            run, sources=sources or (), targets=targets or (), shard=shard_of(shard), n_workers=workers, say=say
        )


app.command(
    epilog="Example: seg-transfer submit configs/studies/real4.yaml --stage score --data-root ../datasets --dry-run"
)(submit)


app.command(epilog="Example: seg-transfer plan configs/studies/real4.yaml --data-root ../datasets    or: --check")(plan)


@app.command(epilog="Example: seg-transfer evaluate runs/real4    or: seg-transfer evaluate --published --json")
def evaluate(
    run_folder: Annotated[Path | None, typer.Argument(help="Run folder of a study.", show_default=False)] = None,
    published: Annotated[bool, typer.Option("--published", help="Use the 272 published pairs.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare the rankings by every metric with those by fine-tuned mIoU."""
    from rich.console import Console

    from seg_transfer.evaluation import evaluate as evaluate_pairs
    from seg_transfer.reports.tables import evaluation_tables, ranking_tables, records, render
    from seg_transfer.store.published import load_published
    from seg_transfer.store.results import read_pairs

    if published == (run_folder is not None):
        raise typer.BadParameter("name either a run folder or --published")
    pairs, incomplete = (load_published(), []) if run_folder is None else read_pairs(run_folder)
    if incomplete:
        complain(f"left out, because scores or performance are missing or of other settings: {', '.join(incomplete)}")
    measures = evaluate_pairs(pairs)
    if as_json:
        typer.echo(json.dumps(records(measures), indent=1))
        return
    render([*ranking_tables(pairs), *evaluation_tables(measures)], Console())


app.command(epilog="Example: seg-transfer report runs/real4    or: seg-transfer report --published --out report")(
    report
)


@app.command(epilog="Example: seg-transfer metrics    or: seg-transfer metrics --json")
def metrics(as_json: AsJson = False, debug: Debug = False) -> None:
    """List the transferability metrics: what each needs, its range and cost, and where it comes from."""
    from rich.console import Console

    from seg_transfer.metrics import METRICS
    from seg_transfer.reports.tables import metric_records, metric_tables, render

    if as_json:
        typer.echo(json.dumps(metric_records(METRICS), indent=1))
        return
    render(metric_tables(METRICS), Console())


def _open(study: Path, data_root: Path, folder: Path | None, *, trust_config: bool) -> Run:
    from seg_transfer.execution.run import open_run, prepare_folder

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
    if engine == "here" or session() or "LOCAL_RANK" in os.environ:
        return False
    title = str(context.info_name)
    if engine == "ray":
        from seg_transfer.execution.ray_stages import run_stage_on_ray

        run_stage_on_ray(title, run, context.params)
        return True
    from seg_transfer.execution.pool import run_in_pool, visible_gpus

    one_device = context.params.get("device", "auto") not in ("auto", "cuda")
    words = [title, *_words(context), "--trust-config"]
    run_in_pool(words, run.folder / "leases", title, [] if one_device else visible_gpus())
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


def _device(wanted: str) -> str:
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {wanted}: not usable here ({str(error).splitlines()[0]}); use auto") from error
    return wanted


@contextmanager
def _threads(number: int) -> Iterator[None]:
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
