"""The ``seg-transfer choose`` command."""

from __future__ import annotations

import json
import logging
import os
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seg_transfer.cli import rank as of_rank
from seg_transfer.cli.answers import with_answers
from seg_transfer.cli.common import command_line
from seg_transfer.cli.options import AsJson, DataRoot, Debug, Device, Threads, TrustConfig
from seg_transfer.console import ON_STDERR, plain_console, silent_stdout
from seg_transfer.engines import ENGINES
from seg_transfer.errors import printable

if TYPE_CHECKING:
    from seg_transfer.data.inspection import Answers
    from seg_transfer.selection.choice import Choice
    from seg_transfer.selection.race_plan import Plan
    from seg_transfer.selection.race_setup import Wanted
    from seg_transfer.selection.source_scores import Request

_logger = logging.getLogger(__name__)

Minutes = Annotated[
    float | None,
    typer.Option(help="Wall time that everything may take; 30 by default, if --runs is not given.", show_default=False),
]
Runs = Annotated[
    float | None,
    typer.Option(help="Instead of --minutes: fine-tunings to the end that race and last fine-tuning may cost."),
]
HoldOut = Annotated[
    float, typer.Option(help="Share of the labeled images that judge; with fewer than 30 images, each half does.")
]
ScheduleFile = Annotated[Path, typer.Option("--schedule", help="Schedule file, or the name of a shipped one.")]
Steps = Annotated[
    int | None,
    typer.Option(min=1, help="Steps of the whole schedule; by default its own, shortened to fit --minutes."),
]
Engine = Annotated[
    str | None,
    typer.Option(
        help="; ".join(f"{name}: {where}" for name, where in ENGINES.items())
        + "; by default here, with several GPUs local."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the pixel sample, the held-out images and the fine-tunings.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that read training images beside each training.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Score, print who would race how far, and train nothing.")]
RunFolder = Annotated[Path | None, typer.Option(help="Folder of the results; runs/choose-NAME-OF-TARGET by default.")]


@with_answers
def choose(
    sources: of_rank.Sources,
    target: of_rank.Target = None,
    images: of_rank.Images = None,
    labels: of_rank.Labels = None,
    names: of_rank.Names = None,
    answers: Answers | None = None,
    data_root: DataRoot = Path(),
    minutes: Minutes = None,
    runs: Runs = None,
    hold_out: HoldOut = 0.2,
    schedule: ScheduleFile = Path("choosing"),
    steps: Steps = None,
    metric: of_rank.MetricName = "rank_mean",
    n_images: of_rank.NImages = None,
    seed: Seed = 0,
    run_folder: RunFolder = None,
    engine: Engine = None,
    workers: Workers = 0,
    device: Device = "auto",
    threads: Threads = 0,
    dry_run: DryRun = False,
    trust_config: TrustConfig = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Choose one of your models and fine-tune it: scores leave out the losers, short fine-tunings decide the rest."""
    from seg_transfer.cli.common import warn_about_code
    from seg_transfer.engines.here import limit_threads
    from seg_transfer.models.sources import code_of
    from seg_transfer.selection.choose import budget_of, request_to_choose
    from seg_transfer.selection.race_setup import Wanted
    from seg_transfer.study.bank import read_sources

    manifest, found = of_rank.stated_target("choose", target, (images, labels, names), answers, n_images)
    if found is not None:
        data_root = found.root
        of_rank.say_what_was_found(found, as_json)
        if found.needs_links:
            _let_others_follow_links()
    if not trust_config:
        warn_about_code(code_of(read_sources(*sources)[0]))
    request = request_to_choose(manifest, sources, metric, n_images, data_root, device, seed, hold_out)
    engine, lanes = _engine(engine)
    place: Any = {"engine": engine, "lanes": lanes, "threads": threads, "workers": workers, "debug": debug}
    wanted = Wanted(*budget_of(minutes, runs), schedule, steps, **place)
    with limit_threads(threads):
        _run(request, wanted, run_folder or Path("runs") / f"choose-{manifest.name}", dry_run, as_json)


def _engine(stated: str | None) -> tuple[str, int]:
    """Return the engine and how many racers run side by side on it; on Ray that is unknown, and one is assumed."""
    from seg_transfer.engines import get_engine
    from seg_transfer.engines.local import visible_gpus

    engine = stated or ("local" if len(visible_gpus()) > 1 else "here")
    get_engine(engine)
    return engine, max(1, len(visible_gpus())) if engine == "local" else 1


def _let_others_follow_links() -> None:
    """Let processes that read the manifest again follow links, too, since the user has named these folders."""
    from seg_transfer.data.paths import FOLLOW_LINKS

    os.environ[FOLLOW_LINKS] = "1"


def _run(request: Request, wanted: Wanted, folder: Path, dry_run: bool, as_json: bool) -> None:
    from seg_transfer.selection.choose import choose as choose_and_tune
    from seg_transfer.selection.race_setup import preview

    if dry_run:
        _print_plan(*preview(request, wanted, folder), as_json)
        return
    with silent_stdout() if as_json else nullcontext():
        choice = choose_and_tune(request, wanted, folder, _say_plan)
    _print(choice, as_json)
    _raise_failures(choice)


def _say_plan(sentences: list[str]) -> None:
    for sentence in sentences:
        _logger.info("%s", printable(sentence), extra=ON_STDERR)


def _print_plan(plan: Plan, sentences: list[str], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"plan": asdict(plan), "sentences": sentences}, indent=1))
        return
    for sentence in sentences:
        typer.echo(printable(sentence))


def _raise_failures(choice: Choice) -> None:
    """Let the exit code tell that sources could not be scored, or left the race by failing."""
    from seg_transfer.stages.failures import raise_if_failed

    failures = [*filter(None, [choice.ranking.failed]), *choice.failed.values()]
    reasons = {label: why for error in failures for label, why in error.reasons.items()}
    raise_if_failed(reasons, {error.exit_code for error in failures})


def _print(choice: Choice, as_json: bool) -> None:
    from seg_transfer.reports.source_ranking import fitted_table
    from seg_transfer.selection.choice_text import choice_sentences, choice_table

    if as_json:
        typer.echo(json.dumps(choice.as_dict(), indent=1))
        return
    console = plain_console()
    console.print(fitted_table(choice_table(choice), console.width))
    command = command_line("predict", str(choice.folder), "--images", "IMAGES", "--out", "predicted/")
    for line in [*choice_sentences(choice), f"To use it: {command}", f"The race as a page: {choice.page}"]:
        console.print(printable(line), highlight=False, soft_wrap=True)
