"""Networks of the transformers library, from a folder or the Hub: segmentation networks and backbones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from seg_transfer.data.plain import read_json
from seg_transfer.models.adapters._transformers_folder import CONFIG, image_size_of, read_folder, role_of
from seg_transfer.models.adapters._transformers_task import takes_task, task_tokens
from seg_transfer.models.entry import SourceEntry, StrictRGB
from seg_transfer.models.files import sha256_of_weights
from seg_transfer.models.hub import (
    MODEL_FILES,
    TOKENIZER_FILES,
    FolderOrRepository,
    Revision,
    check_revision,
    local_folder,
    revision_of,
)
from seg_transfer.models.libraries import Library
from seg_transfer.models.normalization import Normalization, check_normalization
from seg_transfer.store.content_key import Key, content_key

if TYPE_CHECKING:
    from torch import nn


class TransformersEntry(SourceEntry):
    """A network of the transformers library.

    Its ``config.json`` says what it is: one of ``AutoModelForSemanticSegmentation`` (SegFormer, UPerNet, DPT, BEiT,
    ...), one of ``AutoModelForUniversalSegmentation`` (Mask2Former, MaskFormer, OneFormer, EoMT, DETR), or anything
    else, of which the image encoder is used as a backbone without a head (DINOv2, ViT, Swin, ConvNeXt, CLIP, ...).

    Attributes:
        transformers: A folder that ``save_pretrained`` wrote; or ``org/name``, a repository of the Hugging Face Hub,
            whose config and safetensors are downloaded.
        revision: Branch, tag or commit of the repository; by default the main branch when it is first downloaded.
        mean, std: RGB, fractions of 255; they replace those of the folder's preprocessor.
    """

    kind: ClassVar[str] = "transformers"
    marker: ClassVar[str] = "transformers"
    supports_scores_only: ClassVar[bool] = True
    libraries: ClassVar[tuple[Library, ...]] = (Library("transformers", "transformers"),)
    folder_hint: ClassVar[str] = f"a transformers {CONFIG}"

    transformers: FolderOrRepository
    revision: Revision | None = None
    mean: StrictRGB | None = None
    std: StrictRGB | None = None

    @model_validator(mode="after")
    def _usable_entry(self) -> Self:
        check_normalization(self.name, self.mean, self.std)
        check_revision(self.name, self.transformers, self.revision)
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
        contents = read_folder(self._folder, self.mean, self.std)
        tokens = task_tokens(self._folder, contents.config)
        return content_key(
            kind=self.kind,
            model=contents.config,
            weights=[sha256_of_weights(file, memo) for file in contents.weights],
            mean=contents.mean,
            std=contents.std,
            channel_order=contents.channel_order,
            scores_only=self.scores_only,
            **({} if tokens is None else {"task_tokens": tokens}),
        )

    def architecture(self) -> dict[str, Any]:
        """Return the role of the network, the folder's config, and the task of a network that can do several."""
        config = self._config
        tokens = task_tokens(self._folder, config)
        return {"role": role_of(config), "config": config, **({} if tokens is None else {"task_tokens": tokens})}

    @classmethod
    def build(cls, architecture: dict[str, Any], origin: str) -> nn.Module:
        """Build the network. Downloads nothing, and runs no code but the library's."""
        from seg_transfer.models.adapters._transformers_network import build_transformers

        return build_transformers(architecture, origin)

    def load_weights(self, network: nn.Module) -> None:
        """Load the folder's weights, under their names in any version of the library."""
        from seg_transfer.models.adapters._transformers_network import load_weights
        from seg_transfer.models.checkpoints import load_checkpoint

        state = {name: tensor for file in self.weights_files() for name, tensor in load_checkpoint(file).items()}
        load_weights(network, self.architecture(), state, str(self._folder))

    def weights_files(self) -> tuple[Path, ...]:
        """Return the weights file, or its shards."""
        return read_folder(self._folder, self.mean, self.std).weights

    def input_normalization(self) -> Normalization:
        """Return what the folder's preprocessor says, or the entry."""
        contents = read_folder(self._folder, self.mean, self.std)
        return Normalization(contents.mean, contents.std, contents.channel_order)

    @property
    def has_scores(self) -> bool:
        """Whether the network is a segmentation network."""
        return role_of(self._config) != "backbone"

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width in the config."""
        return image_size_of(self._config)

    @property
    def weights_revision(self) -> str | None:
        """The commit of the repository."""
        return revision_of(self._folder)

    @property
    def _folder(self) -> Path:
        folder = local_folder(self.transformers, self.revision)
        if isinstance(self.transformers, Path) or not takes_task(read_json(folder / CONFIG)):
            return folder
        return local_folder(self.transformers, self.revision, (*MODEL_FILES, *TOKENIZER_FILES))

    @property
    def _config(self) -> dict[str, Any]:
        return read_folder(self._folder, self.mean, self.std).config


ENTRY = TransformersEntry
