"""The ``seg-transfer`` command: parse, call, print. The work is done elsewhere."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from seg_transfer import __version__
from seg_transfer.cli.choose import choose
from seg_transfer.cli.data import audit, demo
from seg_transfer.cli.inspect import inspect
from seg_transfer.cli.models import inspect_model
from seg_transfer.cli.predict import predict
from seg_transfer.cli.rank import rank
from seg_transfer.cli.results import evaluate, metrics, report
from seg_transfer.cli.study import plan, submit
from seg_transfer.console import console_logging
from seg_transfer.errors import IncompleteError, SegTransferError
from seg_transfer.stages import COMMANDS, STAGES
from seg_transfer.store.session import exit_with_parent, is_attached

EXIT_CODES = (
    "Exit codes: 0 done; 1 other error; 2 wrong usage; 3 study, manifest or config; 4 image or label; 5 checkpoint; "
    "6 observations; 7 results; 8 several reasons, all other items are finished; 9 training; 10 out of memory, or a "
    "network, metric or library failed; 130 interrupted."
)
_logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with a documented exit code."""
    # OpenMP threads that spin for a long time while they wait slow down every process that shares the cores: a forward
    # pass then takes 100 times longer. A short spin costs nothing on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    given = list(sys.argv[1:] if arguments is None else arguments)
    exit_with_parent()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # What the encoding of the terminal lacks, in names and tables, must not end a command.
        sys.stdout.reconfigure(errors="backslashreplace")
    if is_attached():  # the parent process has warned of metrics that cannot be loaded
        logging.getLogger("seg_transfer.metrics").setLevel(logging.ERROR)
    with console_logging(debug="--debug" in given):
        _run(given)


def _run(arguments: list[str]) -> None:
    try:
        application(*(arguments or ["--help"])[:1])(arguments, prog_name="seg-transfer")
    except SegTransferError as error:
        if isinstance(error, IncompleteError) and is_attached():
            sys.exit(error.exit_code)  # The parent process reports what failed in all of them.
        if "--debug" in arguments:
            raise
        _logger.error("%s", " ".join(str(error).split()))
        sys.exit(error.exit_code)
    except OSError as error:
        if "--debug" in arguments:
            raise
        _logger.error("%s; check the path, its permissions and the free space", error)
        sys.exit(SegTransferError.exit_code)


def application(*commands: str) -> typer.Typer:
    """Build the command line application.

    Args:
        commands: Stage commands to build completely; all if none is named. The other stage commands only have the
            summary that ``--help`` lists, which avoids importing their modules.
    """
    app = typer.Typer(
        name="seg-transfer",
        help="Which trained segmentation model should be fine-tuned on a new dataset?",
        epilog=EXIT_CODES,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback(invoke_without_command=True)(_version)
    for name, command in _FIRST_COMMANDS.items():
        app.command(name, epilog=_example(name))(command)
    for stage, (name, summary) in COMMANDS.items():
        complete = name in commands or not commands or "_SEG_TRANSFER_COMPLETE" in os.environ
        app.command(name, help=summary, epilog=_example(name))(_stage_command(stage) if complete else _placeholder)
    for name, command in _LAST_COMMANDS.items():
        app.command(name, epilog=_example(name))(command)
    return app


def _stage_command(stage: str) -> Callable[..., None]:
    from seg_transfer.cli.explain import show_explanations
    from seg_transfer.cli.stages import stage_command

    return stage_command(STAGES[stage], show_explanations if stage == "explain" else None)


def _placeholder() -> None:
    """Take the place of a command that this process does not run."""


def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


# In the order in which ``--help`` lists them, before and after the commands of the stages.
_FIRST_COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "inspect": inspect,
    "inspect-model": inspect_model,
    "rank": rank,
    "choose": choose,
    "audit": audit,
}
_LAST_COMMANDS: dict[str, Callable[..., None]] = {
    "predict": predict,
    "submit": submit,
    "plan": plan,
    "evaluate": evaluate,
    "report": report,
    "metrics": metrics,
}
_STUDY = "real7 --data-root DATA"
_EXAMPLES = {
    "demo": "--folder runs/demo",
    "rank": "popular --images photos/ --labels masks/    or: seg-transfer rank models/ --target my_dataset.yaml",
    "choose": "models/ --images photos/ --labels masks/ --minutes 30    or: seg-transfer choose small --target a.yaml",
    "inspect": "--images photos/ --labels masks/ --write my_dataset.yaml",
    "inspect-model": "models/    or: seg-transfer inspect-model small --json",
    "audit": "small/camvid --data-root DATA",
    "explain": f"{_STUDY} --target camvid",
    "predict": "runs/real7/sources/camvid --images photos/ --out predicted/",
    "submit": f"{_STUDY} --stage score --dry-run",
    "plan": f"{_STUDY} --check",
    "evaluate": "runs/real7    or: seg-transfer evaluate --published architectures --json",
    "report": "runs/real7    or: seg-transfer report --published architectures --out report",
    "metrics": "--json",
}


def _example(command: str) -> str:
    return f"Example: seg-transfer {command} {_EXAMPLES.get(command, _STUDY)}"
