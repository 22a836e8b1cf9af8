"""Any PyTorch network: a function in the user's code builds it, and a file has its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from seg_transfer.errors import ConfigError
from seg_transfer.models.adapters._factory_code import FACTORY, digest_of_code
from seg_transfer.models.entry import SourceEntry, StrictRGB
from seg_transfer.models.files import sha256_of_weights
from seg_transfer.models.libraries import Library
from seg_transfer.models.normalization import RGB, Normalization, check_normalization
from seg_transfer.store.content_key import Key, content_key

if TYPE_CHECKING:
    from torch import nn

    from seg_transfer.models.source_model import SourceModel


class FactoryEntry(SourceEntry):
    """A function that builds a network, and the file of its weights.

    Attributes:
        factory: ``package.module:function``, which returns a ``torch.nn.Module`` when called without arguments.
        factory_folder: The folder searched for that module before the installed ones; by default that of the YAML file.
        classifier: Dotted name of the network's last linear layer or convolution, which gives the class scores. By
            default it is found; with other ``features`` than ``last`` and no classifier, the network is a backbone,
            which returns maps and has no classes.
        weights: A state dict (safetensors, or ``torch.save``) with exactly the network's parameters.
        mean, std: RGB. The network takes a pixel value p of 0 .. 255 as (p * input_scale / 255 - mean) / std. With an
            ``input_scale`` of 1, the default, they are fractions of 255.
        channel_order: Channel order of the images that the network takes; ``rgb`` by default.
        input_size: Height and width of the images that the network takes, if it takes one size only.
        input_scale: What a pixel value of 255 becomes before mean and std are applied: 1 or 255.
    """

    kind: ClassVar[str] = "factory"
    marker: ClassVar[str] = "factory"
    supports_scores_only: ClassVar[bool] = True
    supports_weights_key: ClassVar[bool] = True
    libraries: ClassVar[tuple[Library, ...]] = ()

    factory: str
    # "." becomes the folder of the file that names the factory, like every relative path in a study or bank.
    factory_folder: Path = Path()
    classifier: Annotated[str, Field(min_length=1)] | None = None
    weights: Path
    mean: StrictRGB
    std: StrictRGB
    channel_order: Literal["rgb", "bgr"] | None = None
    input_scale: Literal[1, 255] | None = None
    input_size: tuple[PositiveInt, PositiveInt] | None = None

    @model_validator(mode="after")
    def _usable_factory(self) -> Self:
        if not FACTORY.fullmatch(self.factory):
            raise ValueError(
                f"source {self.name!r}: field factory: {self.factory!r}: must be package.module:function; correct it"
            )
        return self

    @model_validator(mode="after")
    def _usable_normalization(self) -> Self:
        check_normalization(self.name, self.mean, self.std, input_scale=self.input_scale or 1)
        return self

    @property
    def normalization(self) -> tuple[RGB, RGB]:
        """Mean and std, RGB, fractions of 255."""
        scale = self.input_scale or 1
        (red, green, blue), (red_std, green_std, blue_std) = self.mean, self.std
        return (red / scale, green / scale, blue / scale), (red_std / scale, green_std / scale, blue_std / scale)

    def key(self, *, memo: Path | None = None) -> Key:
        """Compute the key of the weights and of the code: the factory's module and all that it imports from its own."""
        mean, std = self.normalization
        # Not a part where it is not given: before there was this field, keys were without it.
        input_size = {} if self.input_size is None else {"input_size": self.input_size}
        key = content_key(
            kind=self.kind,
            factory=self.factory,
            code=digest_of_code(self.factory, self.factory_folder, memo),
            weights=sha256_of_weights(self.weights, memo),
            classifier=self._layer,
            mean=mean,
            std=std,
            channel_order=self.channel_order or "rgb",
            scores_only=self.scores_only,
            **input_size,
        )
        return self.with_weights_key(key)

    def load(self, *, device: str = "cpu") -> SourceModel:
        """Run the factory and load the weights into the network that it returns."""
        from seg_transfer.models.adapters._factory_import import STATEMENTS, check_unstated
        from seg_transfer.models.sizes import WHAT_IS_TAKEN

        is_unstated = self.classifier is None and not self.scores_only
        try:
            source = super().load(device=device)
        except ConfigError as error:
            message = f"factory {self.factory}: {str(error).removeprefix(f'factory {self.factory}: ')}"
            if WHAT_IS_TAKEN in message:
                hint = "" if self.input_size else "; if it takes one size only, state that as input_size"
            else:
                hint = f". {STATEMENTS}" if is_unstated and self.features is None else ""
            raise ConfigError(message + hint) from error
        if is_unstated and self.features in (None, "stages"):
            check_unstated(source, self.factory)
        return source

    def architecture(self) -> dict[str, Any]:
        """Return where the code is, and its digest: the network can be built only where the code is."""
        return {
            "kind": self.kind,
            "factory": self.factory,
            "folder": str(self.factory_folder.resolve()),
            "code": digest_of_code(self.factory, self.factory_folder),
        }

    @classmethod
    def build(cls, architecture: dict[str, Any], origin: str) -> nn.Module:
        """Run the factory, whose code must be what it was."""
        from seg_transfer.models.adapters._factory_import import call_factory

        factory, folder = str(architecture["factory"]), Path(architecture["folder"])
        if digest_of_code(factory, folder) != architecture["code"]:
            raise ConfigError(f"{origin}: the code of factory {factory} in {folder} has changed; restore it")
        return call_factory(factory, folder)

    def load_weights(self, network: nn.Module) -> None:
        """Load the weights, which must be exactly the network's."""
        from seg_transfer.models.checkpoints import load_files

        load_files(network, self.weights_files(), weights_key=self.weights_key)

    def weights_files(self) -> tuple[Path, ...]:
        """Return the weights file."""
        return (self.weights,)

    def input_normalization(self) -> Normalization:
        """Return the given mean and std as fractions of 255, and the channel order."""
        return Normalization(*self.normalization, self.channel_order or "rgb")

    @property
    def has_scores(self) -> bool:
        """Whether the network gives class scores: all do but those with other features and no classifier."""
        return self.classifier is not None or self.features in (None, "last")

    @property
    def classifier_name(self) -> str | None:
        """The layer that the entry names."""
        return self.classifier

    @property
    def image_size(self) -> tuple[int, int] | None:
        """The size that the entry states."""
        return self.input_size

    def code(self) -> list[str]:
        """Name the factory and the folder it is looked for in."""
        return [f"factory {self.factory} (looked for in {self.factory_folder})"]

    @property
    def weights_file(self) -> Path:
        """The weights file."""
        return self.weights

    @property
    def _layer(self) -> str:
        """The classifier before which features are read; "" if only scores are read."""
        return "" if self.scores_only else self.classifier or ""


ENTRY = FactoryEntry
