"""What a race was asked for and how it is run, kept in the run folder: the same command goes on with the same plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seg_transfer.errors import ResultsError
from seg_transfer.selection.race_plan import Pace, Plan, Rung
from seg_transfer.store.atomic import write_text

_FILE = "race.json"


@dataclass(frozen=True)
class RaceState:
    """A race in a run folder.

    Attributes:
        asked: All that was asked for; another request makes another plan.
        steps: Steps of the whole schedule, which a budget of minutes may have shortened.
        paces: Source -> how fast it is; {} before that was measured.
        plan: The plan; None before it was made.
    """

    asked: Mapping[str, Any]
    steps: int
    paces: Mapping[str, Pace]
    plan: Plan | None = None


def write_state(folder: Path, state: RaceState) -> None:
    """Write the state of a race into its run folder."""
    write_text(folder / _FILE, json.dumps(asdict(state), indent=1) + "\n")


def read_state(folder: Path, asked: Mapping[str, Any]) -> RaceState | None:
    """Read the state of the race that is asked for; None where there is none, or that of another one.

    Raises:
        ResultsError: The file is damaged.
    """
    file = folder / _FILE
    if not file.exists():
        return None
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["asked"] != json.loads(json.dumps(asked)):
            return None
        plan = None if stored["plan"] is None else _plan(stored["plan"])
        return RaceState(asked, stored["steps"], {name: Pace(**pace) for name, pace in stored["paces"].items()}, plan)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ResultsError(
            f"{file}: damaged ({type(error).__name__}); delete it and run the same command again"
        ) from error


def _plan(stored: Mapping[str, Any]) -> Plan:
    rungs = tuple(Rung(**rung) for rung in stored["rungs"])
    return Plan(**{**stored, "racers": tuple(stored["racers"]), "rungs": rungs})
