"""Networks of mmsegmentation, from a config and a checkpoint, or from a ``source.json`` written by training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from seg_transfer.errors import CheckpointError, SegTransferError
from seg_transfer.models.configs import (
    ModelConfig,
    code_configs_among,
    resolve,
    source_key,
    with_stated_normalization,
)
from seg_transfer.models.entry import SourceEntry, StrictRGB
from seg_transfer.models.normalization import Normalization, check_normalization, normalization_of
from seg_transfer.models.trained import code_of, is_of_other_kind, read_trained
from seg_transfer.store.content_key import Key, content_key
from seg_transfer.store.source_card import FILE_NAME, read_source_card

if TYPE_CHECKING:
    from torch import nn

    from seg_transfer.models.source_model import SourceModel


class MmsegEntry(SourceEntry):
    """A network of mmsegmentation.

    Attributes:
        config: mmseg model config of the checkpoint, or a ``source.json``.
        checkpoint: Its weights; by default those beside a ``source.json``.
        mean, std: RGB, fractions of 255; by default those that the config states.
    """

    kind: ClassVar[str] = "mmseg"
    marker: ClassVar[str] = "config"
    supports_scores_only: ClassVar[bool] = True
    supports_weights_key: ClassVar[bool] = True
    folder_hint: ClassVar[str] = f"a {FILE_NAME}"
    stray_fields: ClassVar[Mapping[str, str]] = {
        "checkpoint": "has a checkpoint and no config; name the config it belongs to"
    }

    config: Path
    checkpoint: Path | None = None
    mean: StrictRGB | None = None
    std: StrictRGB | None = None

    @model_validator(mode="after")
    def _usable_normalization(self) -> Self:
        check_normalization(self.name, self.mean, self.std)
        return self

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
        """Compute the key of the config, the weights and the fields of the entry that change what is read.

        A config of unknown normalization is refused here already, so that no score of it is reused.
        """
        self.input_normalization(memo=memo)
        key = self.with_weights_key(source_key(self.config, self.checkpoint, memo=memo))
        given = {"mean": self.mean, "std": self.std, "scores_only": self.scores_only or None}
        fields = {name: value for name, value in given.items() if value is not None}
        return Key(content_key(source=key, **fields), key.parts | content_key(**fields).parts) if fields else key

    def resolved(self, *, memo: Path | None = None) -> tuple[ModelConfig, Path | None]:
        """Return the ``model`` dict with the entry's normalization, and the weights file; see `configs.resolve`."""
        model, weights = resolve(self.config, self.checkpoint, memo=memo)
        return with_stated_normalization(model, self.mean, self.std), weights

    def architecture(self) -> dict[str, Any]:
        """Return the ``model`` dict of the config, without the heads that are not read."""
        return self.resolved()[0]

    @classmethod
    def build(cls, architecture: dict[str, Any], origin: str) -> nn.Module:
        """Build the network; see `SourceEntry.build`."""
        from seg_transfer.models.networks import build_network

        return build_network(architecture, seed=0, origin=origin)

    def input_normalization(self, *, memo: Path | None = None) -> Normalization:
        """Return the entry's normalization, or else that of the config."""
        model, _ = self.resolved(memo=memo)
        if is_of_other_kind(model):
            described = read_trained(model, str(self.config))
            return Normalization(described.mean, described.std, described.channel_order)
        return normalization_of(model, str(self.config))

    def load(self, *, device: str = "cpu") -> SourceModel:
        """Build the network from its config and load its weights."""
        from seg_transfer.models.loading import load_source_model

        model, weights = self.resolved()
        return load_source_model(
            model,
            weights,
            device=device,
            scores_only=self.scores_only,
            features=self.features,
            weights_key=self.weights_key,
            origin=str(self.config),
            trust_code=True,  # `code` names it
        )

    def code(self) -> list[str]:
        """Name the config if it is a Python file from outside this package, or the factory that a card names."""
        if self.config.suffix == ".py":
            return [str(path) for path in code_configs_among([self.config])]
        try:
            return code_of(self.resolved()[0])
        except SegTransferError:  # whoever loads it reports this
            return []

    def network(self, *, memo: Path | None = None) -> ModelConfig | None:
        """Return the config without auxiliary heads; None if only scores are read, and for a network of other kinds."""
        if self.scores_only:
            return None
        model, _ = self.resolved(memo=memo)
        return None if is_of_other_kind(model) else model

    @property
    def network_kind(self) -> str:
        """The kind of the network that a ``source.json`` describes."""
        model = read_source_card(self.config).model if self.config.name == FILE_NAME else {}
        return str(model["kind"]) if is_of_other_kind(model) else self.kind

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
