"""One entry of a study's or a bank's ``sources``: what every kind of model has in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from seg_transfer.data.fields import Number
from seg_transfer.errors import ConfigError
from seg_transfer.models.entry_fields import FeatureChoice, LearningRate
from seg_transfer.models.libraries import MMSEGMENTATION, Library
from seg_transfer.models.normalization import Normalization
from seg_transfer.store.content_key import Key, content_key

if TYPE_CHECKING:
    from torch import nn

    from seg_transfer.models.configs import ModelConfig
    from seg_transfer.models.source_model import SourceModel

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
StrictRGB = tuple[Number, Number, Number]
"""Three numbers in a study or bank: finite, and not strings that look like numbers."""


class SourceEntry(BaseModel):
    """A source that the study trains on its dataset; base class of the kinds of existing models.

    A kind of model is a subclass in `seg_transfer.models.adapters`, whose docstring says how to write one.

    Attributes:
        name: Name of the source in tables and folders.
        dataset: The dataset it was trained on; the source is never paired with that dataset as target.
        scores_only: Use only the class probabilities that the network outputs, and no features. Metrics that need
            features are not computed for it.
        features: What counts as features: ``last``, the input of the last layer; ``stages``, the last map of every
            stride; or a list of layer names. By default, ``last`` where there is such a layer, and else ``stages``.
        learning_rate: The learning rate with which this source is fine-tuned, in place of the schedule's.
        license: License of the weights, such as an SPDX identifier; shown beside the source, and part of no key.
        weights_key: Dotted path of the weights in the checkpoint, such as ``model_ema``, where several fit the network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ClassVar[str] = "study"
    """Name of the kind of model in messages and content keys; "study" where the study trains the source."""
    marker: ClassVar[str] = ""
    """The field that marks an entry as this kind."""
    supports_scores_only: ClassVar[bool] = False
    """Whether an entry of this kind may have ``scores_only``."""
    supports_weights_key: ClassVar[bool] = False
    """Whether an entry of this kind may have ``weights_key``."""
    libraries: ClassVar[tuple[Library, ...]] = (MMSEGMENTATION,)
    """Libraries that provide the networks of this kind; torch and Pillow count for every kind."""
    folder_hint: ClassVar[str] = ""
    """What a folder with a model of this kind contains, for messages; "" if folders are not searched for this kind."""
    stray_fields: ClassVar[Mapping[str, str]] = {}
    """Field of this kind -> what a message says if an entry has it without the marker."""

    name: Name
    dataset: str
    scores_only: bool = False
    features: FeatureChoice | None = None
    learning_rate: LearningRate | None = None
    license: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    weights_key: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _scores_or_features(self) -> Self:
        if self.scores_only and self.features is not None:
            raise ValueError(f"source {self.name!r}: has scores_only: true and features; remove one of them")
        return self

    @model_validator(mode="after")
    def _only_supported_fields(self) -> Self:
        for field in self.unsupported_fields():
            if getattr(self, field):
                raise ValueError(
                    f"source {self.name!r}: field {field} has no meaning for a {self.kind} source; remove it"
                )
        return self

    @classmethod
    def unsupported_fields(cls) -> list[str]:
        """Return the common fields that an entry of this kind must not have."""
        supported = {"scores_only": cls.supports_scores_only, "weights_key": cls.supports_weights_key}
        return [field for field, is_supported in supported.items() if not is_supported]

    @model_serializer(mode="wrap")
    def _given_fields(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out fields that are not set."""
        return {field: value for field, value in dump(self).items() if value is not None and value is not False}

    @classmethod
    def fields_in_folder(cls, folder: Path) -> dict[str, Any] | None:
        """Return the fields of an entry, except its name, for the model in a folder; None if it has none of this kind.

        Raises:
            ConfigError: The description of the model is unreadable.
            CheckpointError: The weights of the model are missing.
        """
        return None

    def weights_files(self) -> tuple[Path, ...]:
        """Return the files of the weights; () if they are unknown, so that they bound no memory."""
        return ()

    def local(self) -> SourceEntry:
        """Return an entry of the same source whose files are on this machine; what is not is downloaded.

        Raises:
            ConfigError: What the entry names does not exist.
            CheckpointError: A download failed, or downloads are off.
        """
        return self

    def key(self, *, memo: Path | None = None) -> Key:
        """Compute the content key of all that decides the source's outputs: equal keys mean equal features and scores.

        Nothing is loaded, and torch is not imported.

        Args:
            memo: Folder in which hashes of files that do not change are kept.

        Raises:
            ConfigError: A config or a module cannot be read.
            CheckpointError: Weights are missing.
        """
        raise self._untrained()

    def with_weights_key(self, key: Key) -> Key:
        """Return the content key of the weights that `weights_key` names, given that of the file."""
        if self.weights_key is None:
            return key
        named = content_key(source=key, weights_key=self.weights_key)
        return Key(named, {**key.parts, "weights_key": self.weights_key})

    def load(self, *, device: str = "cpu") -> SourceModel:
        """Load the model onto a torch device.

        Loading checks that the layer before which features are read computes the network's output.

        Raises:
            ConfigError: The model cannot be built, its library is missing, or its features cannot be read.
            CheckpointError: Its weights are missing, unsafe, or do not fit.
        """
        if not self.marker:
            raise self._untrained()
        from seg_transfer.models.loading import load_source

        return load_source(self, device)

    def architecture(self) -> dict[str, Any]:
        """Return plain JSON data that says how to build the network, without its weights; torch is not imported.

        Raises:
            ConfigError: A config cannot be read.
        """
        if not self.marker:
            raise self._untrained()
        raise ConfigError(
            f"source {self.name}: is a {self.kind} model and can only be scored, because its kind does not say how "
            "networks are built; choose others with --source"
        )

    @classmethod
    def build(cls, architecture: dict[str, Any], origin: str) -> nn.Module:
        """Build the network that `architecture` describes, with random weights.

        Args:
            architecture: As `architecture` returns it.
            origin: Where it comes from; error messages begin with it.

        Raises:
            ConfigError: It cannot be built, or its library is missing.
        """
        raise NotImplementedError

    def load_weights(self, network: nn.Module) -> None:
        """Load the entry's weights into its network.

        Raises:
            CheckpointError: They are missing, unsafe, or do not fit.
        """
        raise self._untrained()

    def input_normalization(self) -> Normalization:
        """Return mean, std and channel order of the images that the network takes."""
        raise self._untrained()

    @property
    def has_scores(self) -> bool:
        """Whether the network has classes; a backbone without a head has features alone."""
        return True

    @property
    def classifier_name(self) -> str | None:
        """Dotted name of the layer whose output is the class scores; None if it is to be found."""
        return None

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width that the network was made for, if its description says so."""
        return None

    def reads_same_network(self, other: SourceEntry) -> bool:
        """Whether two entries differ only in their names and in what counts as features."""
        varies = {"name", "features", "learning_rate", "license"}
        equal = bool(self.marker) and self.model_dump(exclude=varies) == other.model_dump(exclude=varies)
        # The maps of a factory's network are features or class scores, which its entry says.
        return equal and not self.scores_only and self.has_scores == other.has_scores

    def code(self) -> list[str]:
        """List the Python code from outside this package that loading the source runs, as messages name it."""
        return []

    def network(self, *, memo: Path | None = None) -> ModelConfig | None:
        """Return the mmseg config of a network of mmsegmentation; None for any other network."""
        return None

    @property
    def network_name(self) -> str | None:
        """The name of the network in the model card: the value of the marker field; for a path, its last part."""
        return Path(str(getattr(self, self.marker))).name if self.marker else None

    @property
    def network_kind(self) -> str:
        """The kind of its network; of one that was trained here, the kind of the model that its training started from.

        Raises:
            ConfigError: The description of a network that was trained here is damaged.
        """
        return self.kind

    @property
    def config_file(self) -> Path | None:
        """The mmseg config that the network is built from, if any."""
        return None

    @property
    def weights_file(self) -> Path | None:
        """The weights file that the entry names, if any."""
        return None

    @property
    def weights_revision(self) -> str | None:
        """The commit of a repository of the Hub that the model comes from; None for files of the user."""
        return None

    @property
    def known_dataset(self) -> str | None:
        """The dataset that the model's own description names; raises CheckpointError if that is damaged."""
        return None

    def _untrained(self) -> ConfigError:
        return ConfigError(
            f"source {self.name}: the study trains it, so it has no weights yet; train it, and name its "
            "source.json as config"
        )
