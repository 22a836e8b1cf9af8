"""`source.json`: the description of a trained source model, stored beside its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from seg_transfer.data.plain import read_json
from seg_transfer.data.validation import one_line
from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.store.atomic import write_text

FILE_NAME = "source.json"


class SourceCard(BaseModel):
    """The description of a trained source model.

    Attributes:
        source: Its name.
        dataset: The dataset it was trained on.
        classes: Class names in the order of its scores.
        config: The model config file it was built from.
        model: That config's ``model`` entry, as built, with the dataset's classes and normalization.
        weights: File name of the weights (safetensors), in the same folder.
        sha256: Of the weights file.
        initialisation: "random", or the sha256 of the weights that the training started from: those of an ImageNet
            checkpoint for the backbone, or of the source that was fine-tuned.
        seed: Seed of the initialization, and of the order and augmentation of the images.
        steps: Optimization steps.
        schedule: The whole training schedule.
        n_train_images: Images it was trained on.
        miou: On its dataset's own eval split, a fraction in [0, 1].
        class_iou: IoU per class; null for a class that the eval split lacks.
        absent_classes: Names of those classes.
        n_eval_images: Images it was evaluated on.
        seconds: Wall time of the last uninterrupted part of the training.
        content_key: Key of all that decides the weights and the mIoU.
        key_parts: Parts of the key; {} where they were not noted.
        seg_transfer_version: Version of the software.
        created_utc: Time of writing, UTC, ISO 8601.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    source: str
    dataset: str
    classes: tuple[str, ...]
    config: str
    model: dict[str, Any]
    weights: str
    sha256: str
    initialisation: str
    seed: int
    steps: int
    schedule: dict[str, Any]
    n_train_images: int
    miou: float
    class_iou: tuple[float | None, ...]
    absent_classes: tuple[str, ...]
    n_eval_images: int
    seconds: float
    content_key: str
    key_parts: dict[str, str] = Field(default_factory=dict)
    seg_transfer_version: str
    created_utc: str

    def weights_file(self, folder: Path) -> Path:
        """The weights file, which lies in the folder of the card."""
        return folder / Path(self.weights).name


def read_source_card(file: Path) -> SourceCard:
    """Read a source card.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    if not file.exists():
        raise CheckpointError(f"{file}: no such source; run `seg-transfer train-sources` first")
    try:
        content = read_json(file)
        return SourceCard.model_validate(content)
    except ConfigError as error:
        reason, cause = str(error).removeprefix(f"{file}: "), error.__cause__
    except ValidationError as error:
        reason, cause = one_line(error, content), error
    raise CheckpointError(f"{file}: not a readable source card ({reason}); train the source again") from cause


def write_source_card(card: SourceCard, folder: Path) -> None:
    """Write a source card into the folder of its weights."""
    write_text(folder / FILE_NAME, card.model_dump_json(indent=1) + "\n")
