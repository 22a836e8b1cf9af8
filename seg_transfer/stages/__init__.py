"""The stages of a study. A new one is a module here that defines a `STAGE`, and one line in `COMMANDS`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seg_transfer.stages.base import Stage

# Stage, which is also its module -> its command and what that does; in the order in which stages are done.
COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "train": ("train-sources", "Train the sources of a study that are missing."),
        "sample": ("sample", "Draw and store the pixel sample of every target of a study."),
        "score": ("score-pairs", "Score the pairs of a study that have no valid scores."),
        "finetune": ("finetune-pairs", "Fine-tune the pairs of a study, and the control from scratch."),
        "explain": ("explain", "Show which classes overlap in a source, and which decide between two sources."),
    }
)


class _Stages(Mapping[str, "Stage"]):
    """The stages by name. A module is imported when its stage is asked for, so that ``--help`` is quick."""

    def __getitem__(self, name: str) -> Stage:
        if name not in COMMANDS:
            raise KeyError(name)
        stage: Stage = import_module(f"{__name__}.{name}").STAGE
        return stage

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


STAGES: Mapping[str, Stage] = _Stages()
