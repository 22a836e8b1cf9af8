"""Steps that several commands share: opening a study, and warning about external code that it runs."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from seg_transfer.errors import printable

if TYPE_CHECKING:
    from seg_transfer.study.run import Run

_logger = logging.getLogger(__name__)


def prepare_run(study: Path, data_root: Path, folder: Path | None, *, trust_config: bool) -> Run:
    """Open a study and create its run folder; warn about external code, unless it is trusted."""
    from seg_transfer.study.run import open_run, prepare_folder

    run = open_run(study, data_root, folder)
    if "LOCAL_RANK" in os.environ:
        from seg_transfer.training.processes import in_main_process, start_distributed

        start_distributed()
        in_main_process(lambda: prepare_folder(run))
    else:
        prepare_folder(run)
    if not trust_config:
        warn_about_code(run.study.code())
    return run


def command_line(*words: str, follows_links: bool = False) -> str:
    """Return a command to copy into a shell; it follows links out of the data root if the user's folders have some."""
    from seg_transfer.data.paths import FOLLOW_LINKS

    setting = f"{FOLLOW_LINKS}=1 " if follows_links else ""
    return printable(setting + shlex.join(["seg-transfer", *words]))


def warn_about_code(codes: Iterable[str]) -> None:
    """Warn about external code (model configs and factories) that is about to run."""
    for code in codes:
        _logger.warning("warning: %s is Python code and will be run; pass --trust-config if you trust it", code)
