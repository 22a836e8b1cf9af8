"""The datasets and pairs of the small study, and its rows by pair."""

import json
from typing import Any

DOMAINS = ("day_street", "dusk_street", "cells_dark")
PAIRS = [(source, target) for source in sorted(DOMAINS) for target in sorted(DOMAINS) if source != target]


def pairs_of(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["source"], row["target"]) for row in rows]


def by_pair(rows: list[dict[str, Any]]) -> dict[tuple[str, ...], dict[str, Any]]:
    return {(row["source"], row["target"], row.get("metric", "")): row for row in rows}


def missing(workspace: Any, stage: str) -> list[str]:
    return [item["item"] for item in json.loads(workspace.done(stage, "--dry-run", "--json"))["missing"]]
