"""Models of mmsegmentation's zoo by name: the config is in the installed package, the weights are downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from seg_transfer.models.adapters._zoo import ZooModel, dataset_in, find_model
from seg_transfer.models.adapters.mmseg import MmsegEntry
from seg_transfer.models.configs import ModelConfig
from seg_transfer.models.downloads import download_weights
from seg_transfer.models.entry import SourceEntry
from seg_transfer.store.content_key import Key

if TYPE_CHECKING:
    from seg_transfer.models.source_model import SourceModel


class MmsegZooEntry(SourceEntry):
    """A model of mmsegmentation's zoo; it is the source that its config and its downloaded weights are.

    The weights are downloaded when they are first needed, and the hash in their name is checked. A mirror is used if
    the environment variable ``SEG_TRANSFER_MMSEG_URL`` names one in place of ``https://download.openmmlab.com``.

    Attributes:
        mmseg: Name of the model's config, such as ``fcn_hr48_4xb2-160k_cityscapes-512x1024``.
    """

    kind: ClassVar[str] = "mmseg_zoo"
    marker: ClassVar[str] = "mmseg"
    supports_scores_only: ClassVar[bool] = True
    supports_weights_key: ClassVar[bool] = True

    mmseg: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]

    def local(self) -> MmsegEntry:
        """Return the entry of the config and the weights, which are downloaded if they are not in the cache."""
        common = {field: getattr(self, field) for field in SourceEntry.model_fields}
        return MmsegEntry(**common, config=self._model.config, checkpoint=download_weights(self._model.url))

    def key(self, *, memo: Path | None = None) -> Key:
        """Compute the key of the config and the weights, the same as for an entry that names these two files."""
        return self.local().key(memo=memo)

    def load(self, *, device: str = "cpu") -> SourceModel:
        """Build the network from its config and load its weights."""
        return self.local().load(device=device)

    def network(self, *, memo: Path | None = None) -> ModelConfig | None:
        """Return the config without auxiliary heads; None if only scores are read."""
        return self.local().network(memo=memo)

    @property
    def config_file(self) -> Path:
        """The config in the installed package."""
        return self._model.config

    @property
    def known_dataset(self) -> str | None:
        """The dataset in the name."""
        return dataset_in(self.mmseg)

    @property
    def _model(self) -> ZooModel:
        return find_model(self.mmseg, f"source {self.name}")


ENTRY = MmsegZooEntry
