"""Networks of the transformers library that output logits per pixel, from a local folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from seg_transfer.models.adapters._transformers_folder import CONFIG, read_folder
from seg_transfer.models.entry import SourceEntry, StrictRGB, check_normalization
from seg_transfer.models.files import sha256_of_weights
from seg_transfer.models.libraries import Library
from seg_transfer.store.content_key import Key, content_key

if TYPE_CHECKING:
    from seg_transfer.models.source_model import SourceModel


class TransformersEntry(SourceEntry):
    """A model of ``AutoModelForSemanticSegmentation``: SegFormer, UPerNet, DPT, BEiT, MobileViT, MobileNetV2, ...

    Attributes:
        transformers: A folder that ``save_pretrained`` wrote.
        mean, std: RGB, fractions of 255; they replace those of the folder's preprocessor.
    """

    kind: ClassVar[str] = "transformers"
    marker: ClassVar[str] = "transformers"
    supports_scores_only: ClassVar[bool] = True
    libraries: ClassVar[tuple[Library, ...]] = (Library("transformers", "transformers"),)
    folder_hint: ClassVar[str] = f"a transformers {CONFIG}"

    transformers: Path
    mean: StrictRGB | None = None
    std: StrictRGB | None = None

    @model_validator(mode="after")
    def _usable_normalization(self) -> Self:
        check_normalization(self.name, self.mean, self.std)
        return self

    @classmethod
    def fields_in_folder(cls, folder: Path) -> dict[str, Any] | None:
        """Find a ``config.json`` in a folder, and check that it and the files it needs are readable."""
        if not (folder / CONFIG).exists():
            return None
        read_folder(folder)
        return {"transformers": folder}

    def key(self, *, memo: Path | None = None) -> Key:
        """Compute the key of the folder's config, weights and normalization."""
        contents = read_folder(self.transformers, self.mean, self.std)
        return content_key(
            kind=self.kind,
            model=contents.config,
            weights=[sha256_of_weights(file, memo) for file in contents.weights],
            mean=contents.mean,
            std=contents.std,
            channel_order=contents.channel_order,
            scores_only=self.scores_only,
        )

    def load(self, *, device: str = "cpu") -> SourceModel:
        """Load the network. Downloads nothing, and runs no code of the folder."""
        from seg_transfer.models.adapters._transformers_network import load_transformers

        contents = read_folder(self.transformers, self.mean, self.std)
        return load_transformers(self.transformers, contents, device=device, scores_only=self.scores_only)


ENTRY = TransformersEntry
