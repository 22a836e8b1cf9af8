"""The ``seg-transfer inspect-model`` command."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from seg_transfer.cli.options import AsJson, Debug, Device, Threads, TrustConfig
from seg_transfer.console import plain_console

if TYPE_CHECKING:
    from seg_transfer.errors import SegTransferError
    from seg_transfer.models.description import ModelDescription
    from seg_transfer.models.entry import SourceEntry

Models = Annotated[
    list[str], typer.Argument(metavar="MODELS", help="Models as for rank: banks, folders, or one model.")
]
_logger = logging.getLogger(__name__)


def inspect_model(
    models: Models,
    device: Device = "auto",
    threads: Threads = 0,
    trust_config: TrustConfig = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what each model is read as: classes, features, sizes of images, normalization, parameters and GFLOPs."""
    from seg_transfer.cli.common import warn_about_code
    from seg_transfer.engines.here import limit_threads
    from seg_transfer.models.devices import chosen_device
    from seg_transfer.models.sources import code_of

    failed: dict[str, SegTransferError] = {}
    entries = list(_entries(models, failed))
    if not trust_config:
        warn_about_code(code_of(entries))
    rows = []
    with limit_threads(threads):
        for entry in entries:
            described = _described(entry, chosen_device(device), failed)
            if described is not None and as_json:
                rows.append({**entry.model_dump(mode="json"), "kind": entry.network_kind, **described.as_dict()})
            elif described is not None:
                _print(entry, described)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    _report(failed)


def _entries(models: list[str], failed: dict[str, SegTransferError]) -> Iterator[SourceEntry]:
    """Yield the sources of every argument; notes what cannot be read."""
    from seg_transfer.errors import ConfigError, SegTransferError
    from seg_transfer.study.bank import read_sources

    for model in models:
        try:
            entries, skipped = read_sources(model)
        except SegTransferError as error:
            failed[model] = error
            continue
        failed |= {member.name: ConfigError(member.reason) for member in skipped}
        yield from entries


def _described(entry: SourceEntry, device: str, failed: dict[str, SegTransferError]) -> ModelDescription | None:
    from seg_transfer.errors import as_failure
    from seg_transfer.models.description import describe
    from seg_transfer.models.family import family_of

    try:
        source = entry.load(device=device)
        described = describe(source)
        costs = replace(described.costs, revision=entry.weights_revision, family=family_of(entry, source))
        return replace(described, costs=costs)
    except Exception as error:  # one model that fails stops no other
        _logger.debug("%s: failed", entry.name, exc_info=error)
        failed[entry.name] = as_failure(error)
        return None


def _print(entry: SourceEntry, model: ModelDescription) -> None:
    from seg_transfer.reports.model_table import model_table

    plain_console().print(model_table(entry, model))


def _report(failed: dict[str, SegTransferError]) -> None:
    """Raise the error of the only model that failed, or one that names all that did."""
    from seg_transfer.errors import IncompleteError, failure_with_code

    lines = [_named(name, str(error)) for name, error in failed.items()]
    codes = {error.exit_code for error in failed.values()}
    if not failed:
        return
    if len(failed) == 1:
        raise failure_with_code(lines[0], codes.pop())
    for line in lines:
        _logger.error("%s", line)
    code = codes.pop() if len(codes) == 1 else None
    raise IncompleteError(
        f"{', '.join(failed)} could not be inspected; fix the cause and inspect again",
        code,
        {n: str(e) for n, e in failed.items()},
    )


def _named(name: str, reason: str) -> str:
    return reason if reason.startswith((f"{name}:", f"source {name}:")) else f"{name}: {reason}"
