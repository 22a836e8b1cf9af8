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
from seg_transfer.errors import ConfigError, SegTransferError
from seg_transfer.execution.messages import complain, say

if TYPE_CHECKING:
    from seg_transfer.execution.cost import Missing
    from seg_transfer.execution.run import Run

EXIT_CODES = (
    "Exit codes: 0 done; 1 other error; 2 wrong usage; 3 study, manifest or config; 4 image or label; 5 checkpoint; "
    "6 observations; 7 results; 8 several reasons, all else is finished; 9 training; 130 interrupted."
)

app = typer.Typer(
    name="seg-transfer",
    help="Which trained segmentation model should be fine-tuned on a new dataset?",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="Study file.", show_default=False)]
DataRoot = Annotated[
    Path, typer.Option(envvar="SEG_TRANSFER_DATA", help="Folder that the roots of the manifests are relative to.")
]
RunFolder = Annotated[Path | None, typer.Option(help="Where results lie; runs/NAME-OF-STUDY by default.")]
Sources = Annotated[list[str] | None, typer.Option("--source", help="Only this source; repeatable.")]
Targets = Annotated[list[str] | None, typer.Option("--target", help="Only this target; repeatable.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what is missing and what it will cost, then stop.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads for the arithmetic; 0 leaves the default.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that read training images beside the training.")]
TrustConfig = Annotated[bool, typer.Option("--trust-config", help="Do not warn that model configs are code.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
DryRunAsJson = Annotated[bool, typer.Option("--json", help="With --dry-run: print JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with a documented exit code."""
    # Threads that spin for long while they wait starve each other when another process needs the cores: a forward pass
    # then takes 100 times longer. A short spin costs nothing on a quiet machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(words, prog_name="seg-transfer")
    except SegTransferError as error:
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
    study: StudyFile,
    data_root: DataRoot = Path(),
    run_folder: RunFolder = None,
    sources: Sources = None,
    dry_run: DryRun = False,
    threads: Threads = 0,
    workers: Workers = 0,
    trust_config: TrustConfig = False,
    as_json: DryRunAsJson = False,
    debug: Debug = False,
) -> None:
    """Train the sources of a study that are missing. Under torchrun, all processes train one source together."""
    run = _open(study, data_root, run_folder, trust_config=trust_config)
    with _threads(threads):
        if dry_run:
            from seg_transfer.execution.cost import missing_source_costs

            _print_missing(missing_source_costs(run, _device("auto"), sources or ()), as_json)
            return
        from seg_transfer.execution import sources as stage

        stage.train_sources(run, only=sources or (), n_workers=workers, say=say)


@app.command(epilog="Example: seg-transfer score-pairs configs/studies/real4.yaml --data-root ../datasets --dry-run")
def score_pairs(
    study: StudyFile,
    data_root: DataRoot = Path(),
    run_folder: RunFolder = None,
    sources: Sources = None,
    targets: Targets = None,
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
    with _threads(threads):
        if dry_run:
            from seg_transfer.execution.cost import missing_score_costs

            _print_missing(missing_score_costs(run, _device(device), sources or (), targets or ()), as_json)
            return
        from seg_transfer.execution import scoring as stage

        place = _device(device)
        stage.score_pairs(
            run,
            sources=sources or (),
            targets=targets or (),
            device=place,
            batch_size=batch_size or (8 if place.startswith("cuda") else 1),
            memory_bytes=int(memory_gb * 2**30),
            say=say,
        )


@app.command(epilog="Example: seg-transfer finetune-pairs configs/studies/real4.yaml --data-root ../datasets")
def finetune_pairs(
    study: StudyFile,
    data_root: DataRoot = Path(),
    run_folder: RunFolder = None,
    sources: Sources = None,
    targets: Targets = None,
    dry_run: DryRun = False,
    threads: Threads = 0,
    workers: Workers = 0,
    trust_config: TrustConfig = False,
    as_json: DryRunAsJson = False,
    debug: Debug = False,
) -> None:
    """Fine-tune the pairs of a study, and the control from scratch. Under torchrun, all processes share each one."""
    run = _open(study, data_root, run_folder, trust_config=trust_config)
    with _threads(threads):
        if dry_run:
            from seg_transfer.execution.cost import missing_trial_costs

            _print_missing(missing_trial_costs(run, _device("auto"), sources or (), targets or ()), as_json)
            return
        from seg_transfer.execution import fine_tuning as stage

        stage.finetune_pairs(run, sources=sources or (), targets=targets or (), n_workers=workers, say=say)


@app.command(epilog="Example: seg-transfer plan configs/studies/real4.yaml --data-root ../datasets    or: --check")
def plan(
    study: StudyFile,
    data_root: DataRoot = Path(),
    run_folder: RunFolder = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read every file anew; exit code 7 unless all is done and valid.")
    ] = False,
    trust_config: TrustConfig = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List what of a study is done, missing or stale, what made it stale, and what the rest will take. Runs nothing."""
    from rich.console import Console

    from seg_transfer.execution.run import open_run, still

    run = open_run(study, data_root, run_folder)
    if not trust_config:
        _warn_of_code(run)
    if check:
        _check(run, as_json)
        return
    from seg_transfer.execution.plan import plan_items
    from seg_transfer.reports.plan import plan_dict, render_plan

    items = plan_items(still(run))
    if as_json:
        typer.echo(json.dumps(plan_dict(items, run.folder), indent=1))
        return
    render_plan(items, run.folder, Console())


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
        from seg_transfer.training.fit import in_main_process, start_distributed

        start_distributed()
        in_main_process(lambda: prepare_folder(run))
    else:
        prepare_folder(run)
    if not trust_config:
        _warn_of_code(run)
    return run


def _warn_of_code(run: Run) -> None:
    for config in run.study.code_configs():
        complain(f"warning: {config} is Python code and will be run; --trust-config says that you trust it")


def _check(run: Run, as_json: bool) -> None:
    from seg_transfer.errors import ResultsError
    from seg_transfer.execution.check import problems

    found = problems(run)
    for problem in found:
        complain(problem)
    if as_json:
        typer.echo(json.dumps({"problems": found}, indent=1))
    elif not found:
        typer.echo(f"{run.folder}: every item is done and every file is valid")
    if found:
        sys.exit(ResultsError.exit_code)


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
