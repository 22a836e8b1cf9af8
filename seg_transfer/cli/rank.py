"""The ``seg-transfer rank`` command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seg_transfer.cli.answers import with_answers
from seg_transfer.cli.common import command_line
from seg_transfer.cli.options import AsJson, DataRoot, Debug, Device, Threads, TrustConfig
from seg_transfer.console import plain_console
from seg_transfer.errors import ConfigError, printable

if TYPE_CHECKING:
    from seg_transfer.data.inspection import Answers, Inspection
    from seg_transfer.data.manifest import DatasetManifest
    from seg_transfer.evaluation import Ranking


Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="MODELS",
        help="YAML banks or names of shipped ones, folders of models, source.json files, CONFIG:WEIGHTS, or KIND:MODEL "
        "(transformers:ORG/NAME).",
        show_default=False,
    ),
]
Target = Annotated[Path | None, typer.Option(help="Manifest of the target, or the name of a shipped one.")]
Images = Annotated[Path | None, typer.Option(help="Instead of --target: folder of images, or Parquet files.")]
Labels = Annotated[
    Path | None, typer.Option(help="With --images: folder of label maps or LabelMe files, or COCO's JSON file.")
]
Names = Annotated[Path | None, typer.Option(help="With --images: file of class names, one a line, from value 0.")]
MetricName = Annotated[str, typer.Option(help="The metric to rank by; rank_mean is the mean rank by gbc and logme.")]
NImages = Annotated[int | None, typer.Option(min=1, help="Look at no more than so many of the target's images.")]
Budget = Annotated[
    bool,
    typer.Option(
        "--budget", help="Look at 10 images, then at 20, 40, ..., until one model leads all others by more than chance."
    ),
]
Stability = Annotated[
    bool, typer.Option("--stability", help="Rank again on 10, 25, 50, ... images, each with three pixel samples.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the pixel sample.")]
RunFolder = Annotated[Path | None, typer.Option(help="Where scores are kept; runs/rank-NAME-OF-TARGET by default.")]


@with_answers
def rank(
    sources: Sources,
    target: Target = None,
    images: Images = None,
    labels: Labels = None,
    names: Names = None,
    answers: Answers | None = None,
    data_root: DataRoot = Path(),
    metric: MetricName = "rank_mean",
    n_images: NImages = None,
    budget: Budget = False,
    stability: Stability = False,
    seed: Seed = 0,
    run_folder: RunFolder = None,
    device: Device = "auto",
    threads: Threads = 0,
    trust_config: TrustConfig = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Rank your models: which one should be fine-tuned on a dataset, and how certain is that? Trains nothing."""
    from seg_transfer.cli.common import warn_about_code
    from seg_transfer.engines.here import limit_threads
    from seg_transfer.models.sources import code_of
    from seg_transfer.selection.rank import rank_sources
    from seg_transfer.study.bank import read_sources

    manifest, found = stated_target("rank", target, (images, labels, names), answers, n_images)
    if found is not None:
        data_root = found.root
        say_what_was_found(found, as_json)
    if not trust_config:
        warn_about_code(code_of(read_sources(*sources)[0]))
    with limit_threads(threads):
        ranking = rank_sources(
            manifest,
            sources,
            metric=metric,
            images=n_images,
            budget=budget,
            stability=stability,
            seed=seed,
            data_root=data_root,
            run_folder=run_folder or Path("runs") / f"rank-{manifest.name}",
            device=device,
        )
    _print(ranking, data_root, as_json, follows_links=found is not None and found.needs_links)
    if ranking.failed:
        raise ranking.failed


def say_what_was_found(found: Inspection, as_json: bool) -> None:
    """Say in three lines what was understood; with JSON, on stderr."""
    from seg_transfer.data.inspection.report import summary_lines

    for line in summary_lines(found):
        typer.echo(printable(line), err=as_json)
    if not as_json:
        typer.echo()


def _print(ranking: Ranking, data_root: Path, as_json: bool, *, follows_links: bool) -> None:
    from seg_transfer.evaluation import ranking_sentences
    from seg_transfer.reports.source_ranking import source_ranking_tables

    if as_json:
        typer.echo(json.dumps(ranking.as_dict(), indent=1))
        return
    console = plain_console()
    for table in source_ranking_tables(ranking, console.width):
        console.print(table)
    kept = printable(f"Scores are kept in {ranking.run_folder}.")
    why = f"Why: {command_line(*_explain_words(ranking, data_root), follows_links=follows_links)}"
    for line in [*ranking_sentences(ranking), *_advice(ranking), kept, why]:
        console.print(line, highlight=False, soft_wrap=True)


def _advice(ranking: Ranking) -> Iterator[str]:
    """Yield how to decide between sources that scores do not separate."""
    if len(ranking.tied) > 1:
        yield "To let these race and to fine-tune the winner: seg-transfer choose, with the same models and target."


def _explain_words(ranking: Ranking, data_root: Path) -> list[str]:
    """Return the words of the command that explains a ranking."""
    from seg_transfer.selection.source_scores import STUDY_FILE

    folder = ranking.run_folder or Path()
    location = ["--run-folder", str(folder), "--data-root", str(data_root), "--target", ranking.target]
    return ["explain", str(folder / STUDY_FILE), *location]


def stated_target(
    command: str,
    target: Path | None,
    folders: tuple[Path | None, Path | None, Path | None],
    answers: Answers | None,
    n_images: int | None,
) -> tuple[DatasetManifest, Inspection | None]:
    """Return the manifest of the target and, if it is given as folders, what was found there."""
    from seg_transfer.data.inspection import Answers, inspect_folders
    from seg_transfer.data.manifest import load_manifest

    images, labels, names = folders
    if target is not None and not any(folders):
        stated = [name for name, value in asdict(answers or Answers()).items() if value is not None]
        if stated:
            raise ConfigError(
                f"{command}: --{stated[0].replace('_', '-')} says how --images and --labels are read, but --target "
                "names a manifest; leave it out and change the manifest"
            )
        return load_manifest(target), None
    if target is None and images is not None and labels is not None:
        found = inspect_folders(images, labels, names, answers or Answers(), limit=n_images)
        found.require_certain()
        return found.manifest, found
    raise ConfigError(f"{command}: name either a manifest with --target, or two folders with --images and --labels")
