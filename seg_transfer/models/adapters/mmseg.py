"""Networks of mmsegmentation, from a config and a checkpoint, or from a ``source.json`` written by training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from seg_transfer.errors import CheckpointError
from seg_transfer.models.configs import ModelConfig, code_configs_among, resolve, source_key
from seg_transfer.models.entry import SourceEntry
from seg_transfer.store.content_key import Key, content_key
from seg_transfer.store.source_card import FILE_NAME, read_source_card

if TYPE_CHECKING:
    from seg_transfer.models.source_model import SourceModel


class MmsegEntry(SourceEntry):
    """A network of mmsegmentation.

    Attributes:
        config: mmseg model config of the checkpoint, or a ``source.json``.
        checkpoint: Its weights; by default those beside a ``source.json``.
    """

    kind: ClassVar[str] = "mmseg"
    marker: ClassVar[str] = "config"
    supports_scores_only: ClassVar[bool] = True
    folder_hint: ClassVar[str] = f"a {FILE_NAME}"
    stray_fields: ClassVar[Mapping[str, str]] = {
        "checkpoint": "has a checkpoint and no config; name the config it belongs to"
    }

    config: Path
    checkpoint: Path | None = None

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        if self.checkpoint is None and self.config.name != FILE_NAME:
            raise ValueError(f"source {self.name!r} has a config and no checkpoint; name its weights")
        return self

    @classmethod
    def fields_in_folder(cls, folder: Path) -> dict[str, Any] | None:
        """Find a ``source.json`` in a folder, and check that it and its weights are readable."""
        card = folder / FILE_NAME
        if not card.exists():
            return None
        weights = read_source_card(card).weights_file(folder)
        if not weights.is_file():
            raise CheckpointError(f"{weights}: no such checkpoint file, although {card} names it; copy it there")
        return {"config": card}

    def key(self, *, memo: Path | None = None) -> Key:
        """Compute the key of the config and the weights."""
        key = self.with_weights_key(source_key(self.config, self.checkpoint, memo=memo))
        if not self.scores_only:
            return key
        return Key(content_key(source=key, scores_only=True), {**key.parts, "scores_only": "true"})

    def load(self, *, device: str = "cpu") -> SourceModel:
        """Build the network from its config and load its weights."""
        from seg_transfer.models.loading import load_source_model

        return load_source_model(
            self.config,
            self.checkpoint,
            device=device,
            scores_only=self.scores_only,
            features=self.features,
            weights_key=self.weights_key,
        )

    def code(self) -> list[str]:
        """Name the config if it is a Python file from outside this package."""
        return [str(path) for path in code_configs_among([self.config])]

    def network(self, *, memo: Path | None = None) -> ModelConfig | None:
        """Return the config without auxiliary heads; None if only scores are read."""
        return None if self.scores_only else resolve(self.config, self.checkpoint, memo=memo)[0]

    @property
    def config_file(self) -> Path:
        """The config, or the ``source.json``."""
        return self.config

    @property
    def weights_file(self) -> Path | None:
        """The checkpoint, if the entry names one."""
        return self.checkpoint

    @property
    def known_dataset(self) -> str | None:
        """The dataset in a ``source.json``."""
        return read_source_card(self.config).dataset if self.config.name == FILE_NAME else None


ENTRY = MmsegEntry
