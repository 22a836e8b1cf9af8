"""The ``seg-transfer inspect`` command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seg_transfer.cli.answers import with_answers
from seg_transfer.cli.common import command_line
from seg_transfer.cli.options import AsJson, Debug
from seg_transfer.errors import ConfigError, DoubtfulError, SegTransferError, printable

if TYPE_CHECKING:
    from seg_transfer.data.inspection import Answers, Inspection

Images = Annotated[Path, typer.Option(help="Folder of images, or Parquet files.", show_default=False)]
Labels = Annotated[
    Path, typer.Option(help="Folder of label maps or LabelMe files, or COCO's JSON file.", show_default=False)
]
Names = Annotated[Path | None, typer.Option(help="File of class names, one a line, from value 0.")]
Everything = Annotated[bool, typer.Option("--all", help="Look at the pixels of all pairs, not of 150.")]
Write = Annotated[Path | None, typer.Option(help="Write a manifest of what was understood.")]


@with_answers
def inspect(
    images: Images,
    labels: Labels,
    names: Names = None,
    answers: Answers | None = None,
    everything: Everything = False,
    write: Write = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Look at folders of images and label maps: what pairs up, which classes there are, and what is doubtful."""
    from seg_transfer.data.inspection import Answers, inspect_folders
    from seg_transfer.data.inspection.report import inspection_dict, inspection_lines
    from seg_transfer.data.inspection.wording import counted

    if write is not None and write.is_dir():
        raise ConfigError(f"--write {write}: is a folder; name the file to write")
    found = inspect_folders(images, labels, names, answers or Answers(), everything=everything)
    if as_json:
        typer.echo(json.dumps(inspection_dict(found), indent=1))
    else:
        typer.echo("\n".join(map(printable, inspection_lines(found))))
    if write is not None:
        _write(found, write, quiet=as_json)
    if found.doubts:
        n, what = counted(len(found.doubts), "doubt"), "it" if len(found.doubts) == 1 else "each"
        raise DoubtfulError(f"{images}: {n}, listed above; state an option for {what} and inspect again")


def _write(found: Inspection, file: Path, *, quiet: bool) -> None:
    from seg_transfer.data.inspection.report import manifest_text
    from seg_transfer.store.atomic import write_text

    try:
        write_text(file, manifest_text(found))
    except OSError as error:
        raise SegTransferError(f"--write {file}: cannot be written ({error.strerror}); name another file") from error
    if quiet:
        return
    place = printable(str(file))
    if found.doubts:
        typer.echo(f"Written to {place}, with what is doubtful as comments; correct it before you use it.")
        return
    words = ("rank", "MODELS", "--target", str(file), "--data-root", str(found.root))
    typer.echo(f"Written to {place}; rank models for it: {command_line(*words, follows_links=found.needs_links)}")
