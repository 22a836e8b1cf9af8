"""The ``seg-transfer`` command: parse, call, print. Every stage lives elsewhere."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from seg_transfer import __version__
from seg_transfer.cli.explain import explain
from seg_transfer.cli.options import AsJson, DataRoot, Debug, Threads
from seg_transfer.cli.plan import plan
from seg_transfer.cli.rank import rank
from seg_transfer.cli.report import report
from seg_transfer.cli.stages import finetune_pairs, sample, score_pairs, train_sources
from seg_transfer.cli.submit import submit
from seg_transfer.errors import IncompleteError, SegTransferError
from seg_transfer.messages import complain, plain_console, say
from seg_transfer.store.session import attached, end_with_starter

EXIT_CODES = (
    "Exit codes: 0 done; 1 other error; 2 wrong usage; 3 study, manifest or config; 4 image or label; 5 checkpoint; "
    "6 observations; 7 results; 8 several reasons, all else is finished; 9 training; 10 out of memory, or a "
    "network, metric or library failed; 130 interrupted."
)

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
        with _shown_reasons() if "--debug" in words else nullcontext():
            app(words, prog_name="seg-transfer")
    except SegTransferError as error:
        if isinstance(error, IncompleteError) and attached():
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


@contextmanager
def _shown_reasons() -> Iterator[None]:
    """Meanwhile the traceback of an item that failed is shown; the items after it are still done."""
    logger, handler = logging.getLogger("seg_transfer"), logging.StreamHandler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


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


def evaluate(
    run_folder: Annotated[Path | None, typer.Argument(help="Run folder of a study.", show_default=False)] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="Instead of a run folder, published pairs: segmentation (272; needs no naming), architectures (171 of "
            "classification, by fine-tuned accuracy) or architectures_frozen (by that of a linear head).",
        ),
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare the rankings by every metric with those by fine-tuned performance."""
    from seg_transfer.evaluation import evaluate as evaluate_pairs
    from seg_transfer.evaluation import fine_tuning_noise, metric_columns
    from seg_transfer.reports.tables import evaluation_tables, noise_tables, ranking_tables, records, render
    from seg_transfer.store.published import PAIRS, published_pairs
    from seg_transfer.store.results import read_pairs
    from seg_transfer.store.run_results import read_trials

    incomplete: Sequence[str] = ()
    if published:
        # What follows --published is a name: the option itself takes no value, so that it can stand alone.
        name = str(run_folder or "segmentation")
        if name not in PAIRS:
            raise typer.BadParameter(f"{name}: --published goes with {', '.join(PAIRS)}, and not with a run folder")
        pairs, performance = published_pairs(name)
    elif run_folder is None:
        raise typer.BadParameter("name either a run folder or --published")
    else:
        (pairs, incomplete), performance = read_pairs(run_folder), "mIoU"
    if incomplete:
        complain(f"left out, because scores or performance are missing or of other settings: {', '.join(incomplete)}")
    columns = metric_columns(pairs)
    measures = evaluate_pairs(pairs, metrics=columns)
    if as_json:
        typer.echo(json.dumps(records(measures), indent=1))
        return
    trials = None if published or run_folder is None else read_trials(run_folder)
    noise = [] if trials is None else noise_tables(fine_tuning_noise(trials))
    rankings = ranking_tables(pairs, trials, metrics=columns, performance=performance)
    render([*rankings, *evaluation_tables(measures), *noise], plain_console())


def metrics(as_json: AsJson = False, debug: Debug = False) -> None:
    """List the transferability metrics: what each needs, its range and cost, and where it comes from."""
    from seg_transfer.metrics import METRICS
    from seg_transfer.reports.tables import metric_records, metric_tables, render

    if as_json:
        typer.echo(json.dumps(metric_records(METRICS), indent=1))
        return
    render(metric_tables(METRICS), plain_console())


_EXAMPLES: dict[Callable[..., None], str] = {
    demo: "demo --folder runs/demo",
    rank: "rank models/ --target data_manifests/small/camvid.yaml --data-root ../datasets",
    audit: "audit data_manifests/small/camvid.yaml --data-root ../datasets",
    sample: "sample configs/studies/real7.yaml --data-root ../datasets --target camvid",
    train_sources: "train-sources configs/studies/real7.yaml --data-root ../datasets",
    score_pairs: "score-pairs configs/studies/real7.yaml --data-root ../datasets --dry-run",
    finetune_pairs: "finetune-pairs configs/studies/real7.yaml --data-root ../datasets",
    submit: "submit configs/studies/real7.yaml --stage score --data-root ../datasets --dry-run",
    plan: "plan configs/studies/real7.yaml --data-root ../datasets    or: --check",
    explain: "explain configs/studies/real7.yaml --data-root ../datasets --target camvid",
    evaluate: "evaluate runs/real7    or: seg-transfer evaluate --published architectures --json",
    report: "report runs/real7    or: seg-transfer report --published --out report",
    metrics: "metrics    or: seg-transfer metrics --json",
}
for _command, _example in _EXAMPLES.items():
    app.command(epilog=f"Example: seg-transfer {_example}")(_command)
