"""Dataset manifests: one YAML file per dataset, with its classes, its files and the encoding of its label maps."""

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeVar

import regex
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    PrivateAttr,
    Strict,
    model_validator,
)

from seg_transfer.data.encodings import Labels
from seg_transfer.data.fields import (
    Block,
    Deviation,
    Expression,
    Files,
    Fraction,
    Globs,
    InsidePath,
    Integer,
    Line,
    Positive,
    Text,
    ignore_index,
    refuse_duplicates,
)
from seg_transfer.data.record import Columns, ImageReading
from seg_transfer.data.scene_tiles import Tiles
from seg_transfer.data.validation import load_yaml
from seg_transfer.errors import ConfigError
from seg_transfer.resources import find

MAX_CLASSES = 4096
SCRATCH = "scratch"
"""Reserved source name of the control: fine-tuning from the common initialization, without a source."""

_ENCODINGS_OF_CELLS = ("id", "id16", "palette", "rgb")
SplitName = Literal["train", "eval", "source_train"]
Model = TypeVar("Model", bound=BaseModel)


def _is_name(name: str) -> str:
    if not re.fullmatch("[a-z0-9][a-z0-9_-]{0,63}", name):
        raise ValueError(
            "must have 1 to 64 characters of a-z, 0-9, '_' and '-', and begin with a letter or digit; choose another"
        )
    if name == SCRATCH:
        raise ValueError("the name is reserved for training without a source; choose another")
    return name


class Split(Block):
    """The files of a split: globs for images and labels, or list files with lines ``image label``.

    All paths are relative to the root of the dataset.

    Attributes:
        images: Globs of images.
        labels: Globs of label maps.
        lists: List files, instead of the globs.
        stems: List files, as in VOC, that restrict the images found by the globs. Each line begins with a file name
            without suffix, or with a path.
        exclude: Globs of images and label maps to leave out.
        count: Number of pairs in a complete download; None if unknown.
        unpaired: Whether images without a label map, and label maps without an image, are an error or left out.
    """

    optional: ClassVar[frozenset[str]] = frozenset({"stems", "unpaired"})

    images: Globs = ()
    labels: Globs = ()
    lists: Files = ()
    stems: Files = ()
    exclude: Globs = ()
    count: Positive | None = None
    unpaired: Literal["error", "ignore"] = "error"

    @model_validator(mode="after")
    def _globs_or_lists(self) -> Self:
        globs = bool(self.images) + bool(self.labels)
        if globs != (0 if self.lists else 2):
            raise ValueError("a split needs either 'images' and 'labels', or 'lists' alone; remove the others")
        if self.stems and self.lists:
            raise ValueError("'stems' select from 'images', but 'lists' name the images themselves; remove one of them")
        return self


class Pairing(Block):
    """Regular expressions to search in paths below the root; an image and a label with equal groups form a pair."""

    image: Expression
    label: Expression

    @model_validator(mode="after")
    def _same_groups(self) -> Self:
        image, label = regex.compile(self.image).groups, regex.compile(self.label).groups
        if image != label:
            raise ValueError(
                f"pairing.image has {image} groups and pairing.label {label}; give both the same number of groups"
            )
        return self


class LowShot(Block):
    """The low-shot subset of ``train``.

    Attributes:
        limit: Number of images.
        seed: Seed of their selection.
    """

    limit: Positive = 150
    seed: Integer = 0


class DatasetManifest(Block):
    """The description of a dataset.

    Attributes:
        name: Its name in studies and results.
        title: Its title.
        domain: Its domain, such as "driving".
        classes: Class names, in the order of class indices.
        labels: Encoding of its label maps.
        images: How its images are read.
        tiles: Which images are used as tiles; None if none are.
        columns: Columns of images and label maps, if the files of all splits are Parquet files that hold both.
        root: Its folder, relative to the data root; all other paths are relative to it.
        train: Files of the train split.
        eval: Files of the eval split; None if no network is evaluated on the dataset.
        source_train: Files that a source model is trained on; None means ``train``.
        pairing: Rule that pairs images and labels; None pairs files with equal names, ignoring suffixes.
        low_shot: The low-shot subset.
        mean: Mean of R, G, B, as fractions of 255.
        std: Standard deviation of R, G, B, as fractions of 255.
        crop_size: (height, width), in pixels.
        trust_mtime: Whether content keys use the size and modification time of a file instead of its content.
        licence: License of the dataset.
        citation: Publication that describes it.
        obtain: How to obtain it; messages quote this if the dataset is missing.
        notes: Remarks.
    """

    optional: ClassVar[frozenset[str]] = frozenset({"images", "tiles", "columns"})

    name: Annotated[str, AfterValidator(_is_name)]
    title: Text
    domain: Text
    classes: Annotated[tuple[Text, ...], Field(min_length=2, max_length=MAX_CLASSES)]
    labels: Labels
    images: ImageReading = ImageReading()
    tiles: Tiles | None = None
    columns: Columns | None = None
    root: InsidePath
    train: Split
    eval: Split | None = None
    source_train: Split | None = None
    pairing: Pairing | None = None
    low_shot: LowShot = LowShot()
    mean: tuple[Fraction, Fraction, Fraction]
    std: tuple[Deviation, Deviation, Deviation]
    crop_size: tuple[Positive, Positive]
    trust_mtime: Annotated[bool, Strict()] = False
    licence: str | None = None
    citation: str | None = None
    obtain: Line | None = None
    notes: str | None = None

    # Set for folders that the user has named in this process; a file cannot state it.
    _follows_links: bool = PrivateAttr(default=False)

    @model_validator(mode="after")
    def _labels_fit_classes(self) -> Self:
        refuse_duplicates("classes", self.classes)
        self.labels.check(len(self.classes))
        return self

    @model_validator(mode="after")
    def _containers_pair_by_themselves(self) -> Self:
        encoding = self.labels.encoding
        if self.columns is not None and encoding not in _ENCODINGS_OF_CELLS:
            raise ValueError(
                f"'columns' need label maps that are images, but labels.encoding is {encoding}; choose one of "
                f"{', '.join(_ENCODINGS_OF_CELLS)}, or remove 'columns'"
            )
        if self.columns is not None or self.labels.describes_many:
            splits = [split for split in (self.train, self.eval, self.source_train) if split is not None]
            if self.pairing or any(split.lists or split.stems for split in splits):
                kind = f"labels.encoding {encoding}" if self.columns is None else "'columns'"
                raise ValueError(f"with {kind}, files pair by themselves; remove 'pairing', 'lists' and 'stems'")
        return self

    def split(self, name: SplitName) -> Split:
        """Return the files of a split; ``source_train`` defaults to ``train``.

        Raises:
            ConfigError: The split is ``eval``, but the manifest has no eval split.
        """
        splits = {"train": self.train, "eval": self.eval, "source_train": self.source_train or self.train}
        split = splits[name]
        if split is None:
            raise ConfigError(
                f"manifest {self.name}: field eval is missing; name the images that networks are evaluated on"
            )
        return split

    @property
    def follows_links(self) -> bool:
        """Whether links may lead out of the root."""
        return self._follows_links

    def following_links(self) -> Self:
        """Return the same dataset, whose links may lead out of its root: for folders that the user has named."""
        manifest = self.model_copy()
        manifest._follows_links = True
        return manifest

    def with_limit(self, limit: int | None) -> Self:
        """Return the same dataset with another number of low-shot images; None changes nothing."""
        if limit is None:
            return self
        return self.model_copy(update={"low_shot": self.low_shot.model_copy(update={"limit": limit})})

    @property
    def ignore_index(self) -> int:
        """The class index of ignored pixels: 255 with up to 255 classes, otherwise 65535."""
        return ignore_index(len(self.classes))

    def as_yaml(self) -> str:
        """Return the manifest as a YAML file has it."""
        # JSON's form would turn the raw values in labels.map into text.
        fields = self.model_dump(exclude_none=True)
        # What a file states is not doubted, and what it leaves to a default is: dumps do not tell these two apart.
        if "exif" in self.images.model_fields_set:
            fields["images"] = {"exif": self.images.exif} | fields.get("images", {})
        if "unlisted" not in self.labels.model_fields_set:
            fields["labels"].pop("unlisted", None)
        return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)

    def raw_classes(self) -> dict[int, int]:
        """Return the class index, or `ignore_index`, of every listed raw value; a color is R + 256 G + 65536 B."""
        return self.labels.raw_classes(len(self.classes))


def load_manifest(path: Path) -> DatasetManifest:
    """Read one manifest.

    Args:
        path: A file, or the name of a shipped manifest: ``camvid`` is the paper's dataset, ``small/camvid`` its small
            version.

    Raises:
        ConfigError: The file cannot be read, or a field breaks a rule.
    """
    return load_yaml(find("manifest", path), DatasetManifest)


def load_manifests(folder: Path) -> dict[str, DatasetManifest]:
    """Read every ``*.yaml`` file directly in a folder.

    Returns:
        Name of the dataset -> its manifest, in alphabetical order.

    Raises:
        ConfigError: A manifest is invalid, two have the same name, or there is none.
    """
    path_of: dict[str, Path] = {}
    manifests = {}
    for path in sorted(folder.glob("*.yaml")):
        manifest = load_manifest(path)
        if manifest.name in path_of:
            raise ConfigError(f"{path}: name: {manifest.name!r} is used by {path_of[manifest.name]}; choose another")
        path_of[manifest.name] = path
        manifests[manifest.name] = manifest
    if not manifests:
        raise ConfigError(f"{folder}: no manifest here; name a folder that holds *.yaml files")
    return dict(sorted(manifests.items()))
