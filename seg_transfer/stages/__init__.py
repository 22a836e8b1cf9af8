"""The stages of a study. To add a stage, add a module here that defines `STAGE`, and a line in `COMMANDS`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seg_transfer.stages.base import Stage

# Stage name, which is also its module name -> its command and the command's summary, in the order of execution.
COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "train": ("train-sources", "Train the missing sources of a study."),
        "sample": ("sample", "Draw and store the pixel sample of every target of a study."),
        "score": ("score-pairs", "Score the pairs of a study that have no valid scores."),
        "finetune": ("finetune-pairs", "Fine-tune the pairs of a study, and the control from scratch."),
        "race": ("race-sources", "Fine-tune sources step by step on a part of the images, and judge them by the rest."),
        "finish": ("finish-race", "Fine-tune a source to the end on all labeled images, and keep its weights."),
        "explain": ("explain", "Show which classes overlap in a source, and which classes decide between two sources."),
    }
)


class _Stages(Mapping[str, "Stage"]):
    """The stages by name. A stage's module is imported on first access, which keeps ``--help`` fast."""

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
