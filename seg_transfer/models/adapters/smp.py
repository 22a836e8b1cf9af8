"""Networks of segmentation_models_pytorch: a folder that ``save_pretrained`` wrote, or arguments and weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from seg_transfer.data.plain import read_json
from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.models.entry import SourceEntry, StrictRGB
from seg_transfer.models.files import sha256_of_weights
from seg_transfer.models.hub import FolderOrRepository, Revision, check_revision, local_folder, revision_of
from seg_transfer.models.libraries import Library
from seg_transfer.models.normalization import IMAGENET, Normalization, check_normalization
from seg_transfer.store.content_key import Key, content_key

if TYPE_CHECKING:
    from torch import nn

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_CLASS, _ARCHITECTURE = "_model_class", "arch"
# Arguments that say where weights come from, or that add what scores of pixels do not need.
_LEFT_OUT = {_CLASS, _ARCHITECTURE, "encoder_weights", "aux_params"}
# Weights of encoders that smp normalizes images for as for ImageNet, and the encoders with other ones of such a name.
_IMAGENET_WEIGHTS = {"imagenet", "ssl", "swsl", "instagram", "noisy-student"}
_OTHER_ENCODERS = ("dpn", "inception", "xception")
_TIMM = "tu-"


class SmpEntry(SourceEntry):
    """A network of segmentation_models_pytorch.

    Attributes:
        smp: A folder that ``save_pretrained`` wrote; ``org/name``, a repository of the Hugging Face Hub; or ``arch``,
            such as ``Unet``, with the arguments that it was made with, such as ``encoder_name`` and ``classes``.
        weights: Its state dict; not for a folder or a repository, which has it.
        revision: Branch, tag or commit of the repository; by default the main branch when it is first downloaded.
        mean, std: RGB, fractions of 255; by default those of the weights that the encoder started from.
    """

    kind: ClassVar[str] = "smp"
    marker: ClassVar[str] = "smp"
    supports_scores_only: ClassVar[bool] = True
    supports_weights_key: ClassVar[bool] = True
    libraries: ClassVar[tuple[Library, ...]] = (
        Library("segmentation_models_pytorch", "segmentation_models_pytorch"),
        Library("timm", "timm"),
    )
    folder_hint: ClassVar[str] = f"a segmentation_models_pytorch {_CONFIG}"

    smp: FolderOrRepository | dict[str, Any]
    weights: Path | None = None
    revision: Revision | None = None
    mean: StrictRGB | None = None
    std: StrictRGB | None = None

    @model_validator(mode="after")
    def _usable_entry(self) -> Self:
        check_normalization(self.name, self.mean, self.std)
        check_revision(self.name, self.smp, self.revision)
        if not isinstance(self.smp, dict) and self.weights is not None:
            where = "folder" if isinstance(self.smp, Path) else "repository"
            raise ValueError(f"source {self.name!r}: field weights: the {where} {self.smp} has its own; remove it")
        if isinstance(self.smp, dict) and self.weights is None:
            raise ValueError(f"source {self.name!r}: field weights is missing; name the weights of the network")
        if isinstance(self.smp, dict) and not isinstance(self.smp.get(_ARCHITECTURE), str):
            raise ValueError(f"source {self.name!r}: field smp: {_ARCHITECTURE} is missing; name one, such as Unet")
        return self

    @classmethod
    def fields_in_folder(cls, folder: Path) -> dict[str, Any] | None:
        """Find a ``config.json`` of segmentation_models_pytorch in a folder."""
        file = folder / _CONFIG
        if not file.exists() or _CLASS not in read_json(file):
            return None
        if not (folder / _WEIGHTS).is_file():
            raise CheckpointError(f"{folder}: has no {_WEIGHTS}; copy the weights there")
        return {"smp": folder}

    def key(self, *, memo: Path | None = None) -> Key:
        """Compute the key of the arguments, the weights and the normalization."""
        key = content_key(
            kind=self.kind,
            model=self.architecture(),
            weights=[sha256_of_weights(file, memo) for file in self.weights_files()],
            mean=self.mean,
            std=self.std,
            encoder_weights=self._known_encoder_weights(),
            scores_only=self.scores_only,
        )
        return self.with_weights_key(key)

    def architecture(self) -> dict[str, Any]:
        """Return the name of the architecture and its arguments."""
        arguments = self._arguments()
        if arguments.get("in_channels", 3) != 3:
            given = arguments["in_channels"]
            raise ConfigError(f"{self._origin}: in_channels: {given!r:.80}: must be 3; name another one")
        kept = {name: value for name, value in arguments.items() if name not in _LEFT_OUT}
        return {"kind": self.kind, "model": arguments.get(_CLASS) or arguments.get(_ARCHITECTURE), "arguments": kept}

    @classmethod
    def build(cls, architecture: dict[str, Any], origin: str) -> nn.Module:
        """Build the network with random weights. Downloads nothing."""
        from seg_transfer.models.adapters._smp_network import build_smp

        return build_smp(architecture, origin)

    def load_weights(self, network: nn.Module) -> None:
        """Load the weights; those of an auxiliary classification head are ignored."""
        from seg_transfer.models.checkpoints import load_files

        load_files(network, self.weights_files(), ignored=("classification_head.*",), weights_key=self.weights_key)

    def weights_files(self) -> tuple[Path, ...]:
        """Return the weights file."""
        if self._folder is not None:
            return (self._folder / _WEIGHTS,)
        assert self.weights is not None
        return (self.weights,)

    def input_normalization(self) -> Normalization:
        """Return the given mean and std, or else those that the encoder's first weights were trained with."""
        stated = IMAGENET
        if self._known_encoder_weights() is not None and self._encoder.startswith(_TIMM):
            from seg_transfer.models.adapters._timm_network import normalization_of_timm

            stated = normalization_of_timm({"model": self._encoder.removeprefix(_TIMM)}, f"source {self.name}")
        return Normalization(self.mean or stated.mean, self.std or stated.std)

    @property
    def network_name(self) -> str:
        """Architecture and encoder."""
        arguments = self._arguments()
        return f"{arguments.get(_CLASS) or arguments.get(_ARCHITECTURE)} {self._encoder}"

    @property
    def weights_file(self) -> Path | None:
        """The weights file, if the entry names one."""
        return self.weights

    @property
    def weights_revision(self) -> str | None:
        """The commit of the repository."""
        return revision_of(self._folder)

    @property
    def _folder(self) -> Path | None:
        return None if isinstance(self.smp, dict) else local_folder(self.smp, self.revision)

    @property
    def _origin(self) -> str:
        return str(self._folder / _CONFIG) if self._folder is not None else f"source {self.name}: field smp"

    @property
    def _encoder(self) -> str:
        return str(self._arguments().get("encoder_name", "resnet34"))

    def _arguments(self) -> dict[str, Any]:
        return self.smp if isinstance(self.smp, dict) else read_json(local_folder(self.smp, self.revision) / _CONFIG)

    def _known_encoder_weights(self) -> str | None:
        """Return the encoder's first weights, which say how images are normalized; None if mean and std are given.

        Raises:
            ConfigError: The normalization is unknown.
        """
        if self.mean is not None and self.std is not None:
            return None
        weights, encoder = self._arguments().get("encoder_weights"), self._encoder
        is_known = isinstance(weights, str) and weights in _IMAGENET_WEIGHTS and not encoder.startswith(_OTHER_ENCODERS)
        if weights is not None and (encoder.startswith(_TIMM) or is_known):
            return str(weights)
        raise ConfigError(
            f"{self._origin}: encoder_weights: {weights!r:.80} of {encoder:.80} does not say how images are "
            "normalized; give the source's mean and std (RGB, fractions of 255); those of ImageNet are "
            f"mean: {list(IMAGENET.mean)}, std: {list(IMAGENET.std)}"
        )


ENTRY = SmpEntry
