"""Observing the pixel samples of a study through its sources, with what is reused from pair to pair."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial

from seg_transfer.data.records import Record
from seg_transfer.errors import SegTransferError
from seg_transfer.features.extract import extract
from seg_transfer.features.images import TargetImages
from seg_transfer.features.store import read_features, to_float16, write_features
from seg_transfer.models.devices import chosen_device
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.source_model import SourceModel
from seg_transfer.observations import Observations, PixelSample
from seg_transfer.stages import score_keys
from seg_transfer.stages.failures import failures_of
from seg_transfer.stages.sample_keys import sample_key
from seg_transfer.stages.sampling import pixel_sample
from seg_transfer.store.content_key import Key
from seg_transfer.store.results import needs_source_images
from seg_transfer.study.networks import loadable_source, weights_key
from seg_transfer.study.run import Run


@dataclass
class TargetContext:
    """What all pairs of one target share."""

    run: Run
    name: str
    batch_size: int
    memory_bytes: int

    @cached_property
    def records(self) -> list[Record]:
        """Its low-shot train split."""
        return self.run.low_shot(self.name)

    @cached_property
    def sample_key(self) -> Key:
        """Key of all that decides its pixel sample."""
        return sample_key(self.run, self.name, self.records)

    @cached_property
    def sample(self) -> PixelSample:
        """Its pixel sample, stored when it is drawn."""
        return pixel_sample(self.run, self.name, self.records)

    @cached_property
    def images(self) -> TargetImages:
        """Its images, as networks take them."""
        short_side = min(self.run.manifests[self.name].crop_size)
        return TargetImages(self.records, short_side, batch_size=self.batch_size, memory_bytes=self.memory_bytes)


@dataclass
class ScoringContext:
    """What is reused from pair to pair: the current target, networks that fit in memory, sources' own images.

    ``device``: where networks run. ``batch_size``: images of one size per forward pass; None: 8 on CUDA, 1 on the CPU.
    ``memory_bytes``: a quarter is for the decoded images of one target, half for networks that stay loaded.
    """

    run: Run
    device: str
    batch_size: int | None
    memory_bytes: int
    _target: TargetContext | None = None
    _sources: dict[str, SourceModel] = field(default_factory=dict)
    _source_keys: dict[str, Key] = field(default_factory=dict)
    _source_datasets: dict[str, TargetContext] = field(default_factory=dict)
    _source_images: dict[str, Observations | SegTransferError] = field(default_factory=dict)
    _unavailable: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run, device: str = "cpu", batch_size: int | None = None, memory_gb: float = 8.0) -> ScoringContext:
        """The context of a run for the settings of a stage; the device may be "auto"."""
        return cls(run, chosen_device(device), batch_size, int(memory_gb * 2**30))

    def __post_init__(self) -> None:
        self._images_per_pass = self.batch_size or (8 if self.device.startswith("cuda") else 1)

    def target(self, name: str) -> TargetContext:
        """The dataset whose pairs are scored; only the last one stays in memory."""
        if self._target is None or self._target.name != name:
            self._target = TargetContext(self.run, name, self._images_per_pass, self.memory_bytes // 4)
        return self._target

    def source(self, entry: SourceEntry) -> SourceModel:
        """A source's network, loaded once where it fits in memory."""
        if entry.name not in self._sources:
            loaded = loadable_source(self.run, entry).load(device=self.device)
            if sum(map(_bytes_of, self._sources.values())) + _bytes_of(loaded) > self.memory_bytes // 2:
                return loaded
            self._sources[entry.name] = loaded
        return self._sources[entry.name]

    def source_key(self, entry: SourceEntry) -> Key:
        """Key of a source's network and weights; raises CheckpointError where it is not trained."""
        if entry.name not in self._source_keys:
            self._source_keys[entry.name] = weights_key(self.run, entry)
        return self._source_keys[entry.name]

    def source_dataset(self, entry: SourceEntry) -> TargetContext:
        """The source's own dataset as a target; its images are used once, so none is kept."""
        if entry.dataset not in self._source_datasets:
            self._source_datasets[entry.dataset] = TargetContext(self.run, entry.dataset, self._images_per_pass, 0)
        return self._source_datasets[entry.dataset]

    def source_images(self, entry: SourceEntry) -> Observations | SegTransferError:
        """The source's own images as the metrics use them, or why they cannot be observed; tried once."""
        if entry.name not in self._source_images:
            self._source_images |= failures_of(partial(self._observe_source_images, entry), entry.name)
        return self._source_images[entry.name]

    def _observe_source_images(self, entry: SourceEntry) -> None:
        observations = observe(self, entry, self.source_dataset(entry))
        self._source_images[entry.name] = observations.subsample(
            score_keys.SOURCE_OBSERVATIONS, self.run.study.sampling.seed
        )

    def unavailable(self, entry: SourceEntry) -> str:
        """Why a source's own images cannot be read; "" when they can."""
        if entry.dataset not in self._unavailable:
            self._unavailable[entry.dataset] = score_keys.source_data_unavailable_reason(self.run, entry)
        return self._unavailable[entry.dataset]

    def available_metrics(self, entry: SourceEntry) -> list[str]:
        """The study's metrics that this source can have."""
        return score_keys.available_metrics(self.run, entry, self.unavailable)

    def score_key(self, entry: SourceEntry, observations: Key, metric: str) -> Key:
        """The key that a valid score has, given that of its observations; "" where there can be no score."""
        has_own = needs_source_images(metric) and not self.unavailable(entry)
        return score_keys.score_key(observations, metric, self.source_dataset(entry).sample_key if has_own else None)

    def observations_key(self, entry: SourceEntry, target: TargetContext) -> Key:
        """Key of all that decides the observations of a source and a dataset."""
        return score_keys.observations_key(self.run, entry, self.source_key(entry), target.sample_key)


def observe(context: ScoringContext, entry: SourceEntry, target: TargetContext) -> Observations:
    """A dataset's pixel sample as a source sees it: from the feature store, or by one forward pass per image."""
    run, manifest = context.run, context.run.manifests[target.name]
    file, key = run.features_file(entry.name, target.name), context.observations_key(entry, target)
    is_stored = run.study.keep_features and not entry.scores_only
    stored = read_features(file, key) if is_stored else None
    if stored is not None:
        return stored
    own = run.study.normalisation == "model"
    observations = extract(
        context.source(entry),
        target.images,
        target.sample,
        mean=None if own else manifest.mean,
        std=None if own else manifest.std,
    )
    if not is_stored:
        return observations
    kept = to_float16(observations)
    write_features(file, kept, key)
    return kept


def _bytes_of(source: SourceModel) -> int:
    return sum(tensor.nbytes for tensor in source.network.state_dict().values())
