"""`source.json`: the description of a trained source model, stored beside its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from seg_transfer.data.fields import Positive
from seg_transfer.data.label_ids import LabelIds
from seg_transfer.data.plain import read_json
from seg_transfer.data.record import ImageReading
from seg_transfer.data.scene_tiles import Tiles
from seg_transfer.data.validation import one_line
from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.store.atomic import write_text

FILE_NAME = "source.json"
# Cards that were written before these fields existed lack them.
_LATER_FIELDS = ("labels", "input")
RGB = tuple[float, float, float]


class NetworkInput(BaseModel):
    """How an image is turned into the input of a network.

    Attributes:
        short_side: Images are resized so that their shorter side has this many pixels.
        mean, std: Mean and std that images are normalized by, RGB, fractions of 255.
        channel_order: Channel order that the network takes, "rgb" or "bgr".
        multiple, smallest, square, fixed: The sizes that the network takes: sides that are multiples of a number and
            at least so long, squares only, or one (height, width) only. Normalized images are padded with 0 at the
            right and the bottom, or resized to the only size.
        images: How image files are read.
        tiles: Which images are cut into tiles before they are resized; None if none are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    short_side: Positive
    mean: RGB
    std: RGB
    channel_order: Literal["rgb", "bgr"]
    multiple: Positive = 1
    smallest: Positive = 1
    square: bool = False
    fixed: tuple[Positive, Positive] | None = None
    images: ImageReading = ImageReading()
    tiles: Tiles | None = None


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
        labels: How the label maps of its dataset say which class a pixel has; None if it was not recorded.
        input: How images are turned into the network's input; None if it was not recorded.
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
    labels: LabelIds | None = None
    input: NetworkInput | None = None

    @model_serializer(mode="wrap")
    def _recorded_fields(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if name not in _LATER_FIELDS or value is not None}

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
