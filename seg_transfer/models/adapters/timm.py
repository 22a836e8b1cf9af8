"""Networks of timm: backbones without a head, and backbones with a linear head."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from seg_transfer.data.plain import read_json
from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.models.adapters._weights import has_linear_head, n_classes_in
from seg_transfer.models.entry import SourceEntry, StrictRGB
from seg_transfer.models.files import sha256_of_weights
from seg_transfer.models.hub import (
    RepositoryName,
    Revision,
    check_revision,
    is_repository_name,
    local_folder,
    revision_of,
)
from seg_transfer.models.libraries import Library
from seg_transfer.models.normalization import IMAGENET, Normalization, check_normalization
from seg_transfer.store.content_key import Key, content_key

if TYPE_CHECKING:
    from torch import nn

CONFIG, WEIGHTS = "config.json", ("model.safetensors", "pytorch_model.bin")
_HEAD = "classifier.weight"
_HUB = "hf-hub:"
_NAME = re.compile(r"[A-Za-z0-9_.]+")
# Of a repository's pretrained_cfg, what decides how the network is built and what it takes; the rest says where its
# weights come from.
_PRETRAINED_FIELDS = ("input_size", "fixed_input_size", "mean", "std", "num_classes", "pool_size", "first_conv")
FOREIGN_ARGUMENTS = {
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "model_name"),
    *("num_classes", "features_only", "out_indices", "feature_location"),
}
"""Arguments of `timm.create_model` that have nothing to do with the architecture, or that are decided here."""


def _folder_or_name(value: object) -> object:
    """Turn a path into one; names of networks have no slash."""
    is_path = isinstance(value, str) and "/" in value and ":" not in value
    return Path(str(value)) if is_path else value


def _repository_of(value: str | Path) -> RepositoryName | None:
    name = str(value).removeprefix(_HUB)
    return RepositoryName(name) if name != str(value) and is_repository_name(name) else None


def _usable_name(value: str | Path) -> str | Path:
    if isinstance(value, str) and not (_NAME.fullmatch(value) or _repository_of(value)):
        raise ValueError(f"{value!r}: must be the name of a network in timm, a folder, or {_HUB}ORG/NAME; correct it")
    return value


class TimmEntry(SourceEntry):
    """A network of timm (see `adapters._timm_network`).

    Its maps are its features. Where the weights have names ``backbone.*`` and ``classifier.*``, a linear layer on the
    maps gives class scores.

    Attributes:
        timm: Name of the network in timm, such as ``convnext_tiny`` or ``vit_small_patch14_dinov2.lvd142m``; a folder
            with the ``config.json`` and the weights that timm writes for the Hugging Face Hub; or ``hf-hub:org/name``,
            a repository there.
        weights: State dict of the network, with or without its classification head, or with names ``backbone.*`` and
            ``classifier.*``; by default those in the folder or the repository.
        revision: Branch, tag or commit of the repository; by default the main branch when it is first downloaded.
        mean, std: RGB, fractions of 255; by default those that the folder or timm states for the network.
    """

    kind: ClassVar[str] = "timm"
    marker: ClassVar[str] = "timm"
    supports_weights_key: ClassVar[bool] = True
    libraries: ClassVar[tuple[Library, ...]] = (Library("timm", "timm"),)
    folder_hint: ClassVar[str] = f"a timm {CONFIG}"

    timm: Annotated[str | Path, BeforeValidator(_folder_or_name), AfterValidator(_usable_name)]
    weights: Path | None = None
    revision: Revision | None = None
    mean: StrictRGB | None = None
    std: StrictRGB | None = None

    @model_validator(mode="after")
    def _usable_entry(self) -> Self:
        check_normalization(self.name, self.mean, self.std)
        repository = _repository_of(self.timm)
        check_revision(self.name, repository or self.timm, self.revision)
        if self.weights is None and isinstance(self.timm, str) and repository is None:
            raise ValueError(f"source {self.name!r}: field weights is missing; a timm source needs it")
        return self

    @classmethod
    def fields_in_folder(cls, folder: Path) -> dict[str, Any] | None:
        """Find a ``config.json`` of timm in a folder."""
        file = folder / CONFIG
        if not file.exists() or "architecture" not in read_json(file):
            return None
        if not any((folder / name).is_file() for name in WEIGHTS):
            raise CheckpointError(f"{folder}: has neither {' nor '.join(WEIGHTS)}; copy the weights there")
        return {"timm": folder}

    def key(self, *, memo: Path | None = None) -> Key:
        """Compute the key of the network's description, the weights and the normalization, if it is given.

        Where it is not, it follows from the description and the version of timm.
        """
        files = [sha256_of_weights(file, memo) for file in self.weights_files()]
        if self._is_hrnet:  # as before there were other networks
            mean, std = self.mean or IMAGENET.mean, self.std or IMAGENET.std
            key = content_key(kind=self.kind, model=self.timm, weights=files[0], mean=mean, std=std)
        else:
            key = content_key(kind=self.kind, model=self._description(), weights=files, mean=self.mean, std=self.std)
        return self.with_weights_key(key)

    def architecture(self) -> dict[str, Any]:
        """Return the network's name in timm and its arguments, and the number of classes if it has a head."""
        if not self.has_scores:
            return self._description()
        return {**self._description(), "n_classes": n_classes_in(self._weights, _HEAD, self.weights_key)}

    @classmethod
    def build(cls, architecture: dict[str, Any], origin: str) -> nn.Module:
        """Build the network with random weights. Downloads nothing."""
        from seg_transfer.models.adapters._timm_network import build_timm

        return build_timm(architecture, origin)

    def load_weights(self, network: nn.Module) -> None:
        """Load the weights; those of a classification head that the network lacks are ignored."""
        from seg_transfer.models.adapters._timm_network import IGNORED_WEIGHTS
        from seg_transfer.models.checkpoints import load_files

        load_files(
            network,
            self.weights_files(),
            ignored=() if self.has_scores else IGNORED_WEIGHTS,
            weights_key=self.weights_key,
        )

    def weights_files(self) -> tuple[Path, ...]:
        """Return the weights file."""
        return (self._weights,)

    def input_normalization(self) -> Normalization:
        """Return the given mean and std, or else those that the folder or timm states."""
        from seg_transfer.models.adapters._timm_network import normalization_of_timm

        if self.mean and self.std:
            return Normalization(self.mean, self.std)
        stated = normalization_of_timm(self._description(), f"source {self.name}")
        return Normalization(self.mean or stated.mean, self.std or stated.std)

    @property
    def has_scores(self) -> bool:
        """Whether the weights include a linear head."""
        return has_linear_head(self._weights)

    @property
    def classifier_name(self) -> str | None:
        """The linear head."""
        return "classifier" if self.has_scores else None

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the images that the network was trained on."""
        from seg_transfer.models.adapters._timm_network import image_size_of_timm

        return image_size_of_timm(self._description(), f"source {self.name}")

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
        """The folder with the description of the network; None for the name of a network."""
        if isinstance(self.timm, Path):
            return self.timm
        repository = _repository_of(self.timm)
        return None if repository is None else local_folder(repository, self.revision)

    @property
    def _is_hrnet(self) -> bool:
        return isinstance(self.timm, str) and self.timm.startswith("hrnet_")

    @property
    def _weights(self) -> Path:
        if self.weights is not None:
            return self.weights
        assert self._folder is not None
        files = [self._folder / name for name in WEIGHTS]
        return next((file for file in files if file.is_file()), files[0])

    def _description(self) -> dict[str, Any]:
        """Return the network as plain data, without its head."""
        if self._folder is None:
            return {"kind": self.kind, "model": self.timm}
        file = self._folder / CONFIG
        config = read_json(file)
        arguments, stated = (config.get(field) or {} for field in ("model_args", "pretrained_cfg"))
        for field, value in (("model_args", arguments), ("pretrained_cfg", stated)):
            if not isinstance(value, dict):
                raise ConfigError(f"{file}: field {field}: {value!r:.80}: must be a mapping; copy the file again")
        return {
            "kind": self.kind,
            "model": str(config.get("architecture")),
            "arguments": {name: value for name, value in arguments.items() if name not in FOREIGN_ARGUMENTS},
            "pretrained_cfg": {name: stated[name] for name in _PRETRAINED_FIELDS if name in stated},
        }


ENTRY = TimmEntry
