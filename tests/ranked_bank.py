"""Ranks the trained sources of a workspace for one of its targets, by the command or in Python."""

from typing import Any

import seg_transfer

TARGET = "day_street"


def words(workspace: Any, *options: object) -> list[str]:
    place = ["--target", workspace.world / f"manifests/{TARGET}.yaml", "--data-root", workspace.world]
    return [
        str(word)
        for word in ("rank", workspace.run / "sources", *place, "--run-folder", workspace.run / "ranked", *options)
    ]


def in_python(workspace: Any, **options: Any) -> Any:
    target = workspace.world / f"manifests/{TARGET}.yaml"
    return seg_transfer.rank_sources(
        target=target, sources=[workspace.run / "sources"], data_root=workspace.world, **options
    )


def without_seconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
