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
        source: Name of the source.
        dataset: The dataset it was trained on.
        classes: Class names, in the order of the network's outputs.
        config: The model config file that it was built from.
        model: The ``model`` entry of that config, as built, with the dataset's classes and normalization.
        weights: File name of the weights (safetensors), in the same folder.
        sha256: Hash of the weights file.
        initialisation: "random", or the sha256 of the weights that the training started from: an ImageNet checkpoint
            for the backbone, or the weights of the fine-tuned source.
        seed: Seed of the initialization, and of the order and augmentation of the images.
        steps: Optimization steps.
        schedule: The whole training schedule.
        n_train_images: Number of images that it was trained on.
        miou: mIoU on the eval split of its dataset, a fraction in [0, 1].
        class_iou: IoU per class; null for a class that the eval split lacks.
        absent_classes: Names of the classes that the eval split lacks.
        n_eval_images: Number of images that it was evaluated on.
        seconds: Wall time of the training since its last interruption.
        content_key: Key of everything that decides the weights and the mIoU.
        key_parts: Parts of the key; {} if they were not recorded.
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
        """Return the path of the weights file, which is in the folder of the card."""
        return folder / Path(self.weights).name


def read_source_card(file: Path) -> SourceCard:
    """Read a source card.

    Raises:
        CheckpointError: The card is missing or damaged.
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
