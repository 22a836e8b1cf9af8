"""Computes the observations of a study's pairs, and caches what several pairs share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from seg_transfer.data.record import Record
from seg_transfer.errors import SegTransferError
from seg_transfer.features.extract import extract_readings
from seg_transfer.features.images import TargetImages, refuse_constant_images
from seg_transfer.features.store import read_features, to_float16, write_features
from seg_transfer.models.devices import chosen_device, decoding_threads, require_precision, within_device_memory
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.family import family_of
from seg_transfer.models.network_costs import network_costs
from seg_transfer.models.reading import with_features
from seg_transfer.models.source_model import SourceModel
from seg_transfer.observations import Observations, PixelSample
from seg_transfer.stages import score_keys
from seg_transfer.stages.failures import catch_failures
from seg_transfer.stages.pipeline import InFlight
from seg_transfer.stages.sample_keys import sample_key
from seg_transfer.stages.sampling import class_pixels, pixel_sample
from seg_transfer.store.content_key import Key
from seg_transfer.store.network_costs import read_costs, write_costs
from seg_transfer.store.results import needs_source_images
from seg_transfer.study.networks import loadable_source, weights_key
from seg_transfer.study.run import Run


@dataclass
class TargetContext:
    """The data that all pairs of one target share."""

    run: Run
    name: str
    batch_size: int
    memory_bytes: int
    threads: int

    @cached_property
    def records(self) -> list[Record]:
        """The records of its low-shot train split."""
        return self.run.low_shot(self.name)

    @cached_property
    def sample_key(self) -> Key:
        """The content key of its pixel sample."""
        return sample_key(self.run, self.name, self.records)

    @cached_property
    def sample(self) -> PixelSample:
        """Its pixel sample, which is stored once it is drawn."""
        return pixel_sample(self.run, self.name, self.records)

    @cached_property
    def class_pixels(self) -> npt.NDArray[np.int64]:
        """The labeled pixels of every class of its manifest in all its label maps."""
        return class_pixels(self.run, self.name, self.records)

    @cached_property
    def images(self) -> TargetImages:
        """Its images, in the form that networks take."""
        short_side = min(self.run.manifests[self.name].crop_size)
        return TargetImages(
            self.records,
            short_side,
            batch_size=self.batch_size,
            memory_bytes=self.memory_bytes,
            threads=self.threads,
        )


@dataclass
class ScoringContext:
    """Caches what pairs share: the current target, the networks that fit in memory, and the sources' own images.

    Attributes:
        run: The study.
        device: Torch device of the networks.
        batch_size: Images of one size per forward pass; None means 8 on CUDA and 1 on the CPU.
        memory_bytes: Memory budget: a quarter holds the decoded images of one target, half holds loaded networks, and
            a quarter observations that wait to be scored.
        warned_sources: Names of sources of which the user was warned.
        in_flight: Counts the pairs that are scored while others are observed.
    """

    run: Run
    device: str
    batch_size: int | None
    memory_bytes: int
    warned_sources: set[str] = field(default_factory=set)
    in_flight: InFlight = field(default_factory=InFlight)
    _target: TargetContext | None = None
    _sources: dict[str, SourceModel] = field(default_factory=dict)
    _source_keys: dict[str, Key] = field(default_factory=dict)
    _source_datasets: dict[str, TargetContext] = field(default_factory=dict)
    _source_images: dict[str, Observations | SegTransferError] = field(default_factory=dict)
    _unavailable: dict[str, str] = field(default_factory=dict)
    _other_readings: dict[str, Observations] = field(default_factory=dict)

    @classmethod
    def for_run(
        cls, run: Run, device: str = "cpu", batch_size: int | None = None, memory_gb: float = 8.0
    ) -> ScoringContext:
        """Create the context of a run from the settings of a stage; `device` may be "auto"."""
        return cls(run, chosen_device(device), batch_size, int(memory_gb * 2**30))

    def __post_init__(self) -> None:
        require_precision(self.run.study.precision, self.device)
        self._images_per_pass = self.batch_size or (8 if self.device.startswith("cuda") else 1)

    @property
    def features_on_device(self) -> bool:
        """Whether features stay where the network is, and metrics compute there."""
        return self.device.startswith("cuda")

    @property
    def scores_beside(self) -> bool:
        """Whether pairs are scored while the network observes others.

        Without features on a device, scoring keeps the cores busy itself. TF32 is a setting of the whole process, and
        would apply to the metrics.
        """
        study = self.run.study
        return self.features_on_device and not study.keep_features and study.precision != "tf32"

    def target(self, name: str) -> TargetContext:
        """Return a target by name; only the last one stays in memory."""
        if self._target is None or self._target.name != name:
            self._target = self._target_context(name, self.memory_bytes // 4)
            self._other_readings.clear()
        return self._target

    def _target_context(self, name: str, memory_bytes: int) -> TargetContext:
        return TargetContext(self.run, name, self._images_per_pass, memory_bytes, decoding_threads(self.device))

    def source(self, entry: SourceEntry) -> SourceModel:
        """Return a source's network, which is loaded only once if it fits in memory."""
        if entry.name not in self._sources:
            shared = next((self._sources[e.name] for e in self.other_readings(entry) if e.name in self._sources), None)
            if shared is not None:
                reading = with_features(shared, entry.features)
                _keep_costs(self, entry, reading)
                return reading
            loaded = loadable_source(self.run, entry).load(device=self.device)
            _keep_costs(self, entry, loaded)
            if sum(map(_n_bytes, self._sources.values())) + _n_bytes(loaded) > self.memory_bytes // 2:
                return loaded
            self._sources[entry.name] = loaded
        return self._sources[entry.name]

    def other_readings(self, entry: SourceEntry) -> list[SourceEntry]:
        """Return the study's other sources that read other features of the same network."""
        return [other for other in self.run.study.sources if other is not entry and other.reads_same_network(entry)]

    def source_key(self, entry: SourceEntry) -> Key:
        """Return the key of a source's network and weights; raises CheckpointError if it is not trained."""
        if entry.name not in self._source_keys:
            self._source_keys[entry.name] = weights_key(self.run, entry)
        return self._source_keys[entry.name]

    def source_dataset(self, entry: SourceEntry) -> TargetContext:
        """Return the source's own dataset as a target; its images are used once and not cached."""
        if entry.dataset not in self._source_datasets:
            self._source_datasets[entry.dataset] = self._target_context(entry.dataset, 0)
        return self._source_datasets[entry.dataset]

    def source_images(self, entry: SourceEntry) -> Observations | SegTransferError:
        """Return the observations of the source's own images, or the error that prevents them; tried only once."""
        if entry.name not in self._source_images:
            self._source_images |= catch_failures(partial(self._observe_source_images, entry), entry.name)
        return self._source_images[entry.name]

    def _observe_source_images(self, entry: SourceEntry) -> None:
        observations = observe(self, entry, self.source_dataset(entry))
        self._source_images[entry.name] = observations.subsample(
            score_keys.SOURCE_OBSERVATIONS, self.run.study.sampling.seed
        )

    def has_room_for(self, source: SourceModel, target: TargetContext) -> bool:
        """Whether the observations of one more reading may be kept until their turn comes."""
        return self.in_flight.n_bytes <= self._room_beside(source, target)

    def wait_for_room(self, source: SourceModel, target: TargetContext) -> None:
        """Wait until enough pairs are scored that their observations and those of one more pair fit into memory."""
        self.in_flight.wait_until(self._room_beside(source, target))

    def _room_beside(self, source: SourceModel, target: TargetContext) -> int:
        """The bytes that pairs in flight may have beside the observations of one more; negative if there is no room."""
        kept = sum(map(n_bytes_of, self._other_readings.values()))
        limit = within_device_memory(self.memory_bytes, self.device) // 4
        return limit - kept - 4 * len(target.sample.labels) * (source.n_features + source.n_classes)

    def keep_for_later(self, key: Key, observations: Observations) -> None:
        """Keep observations of the current target until they are asked for."""
        self._other_readings[key] = observations

    def observed_before(self, key: Key) -> Observations | None:
        """Return observations that were kept, once."""
        return self._other_readings.pop(key, None)

    def unavailable(self, entry: SourceEntry) -> str:
        """Return the reason why a source's own images cannot be read, or "" if they can."""
        if entry.dataset not in self._unavailable:
            self._unavailable[entry.dataset] = score_keys.source_data_unavailable_reason(self.run, entry)
        return self._unavailable[entry.dataset]

    def available_metrics(self, entry: SourceEntry) -> list[str]:
        """Return the study's metrics that can be computed for this source."""
        return score_keys.available_metrics(self.run, entry, self.unavailable)

    def score_key(self, entry: SourceEntry, observations: Key, metric: str) -> Key:
        """Return the key of a valid score, given the key of its observations; "" if no score is possible."""
        uses_source_images = needs_source_images(metric) and not self.unavailable(entry)
        return score_keys.score_key(
            observations, metric, self.source_dataset(entry).sample_key if uses_source_images else None
        )

    def observations_key(self, entry: SourceEntry, target: TargetContext) -> Key:
        """Return the content key of the observations of a source on a dataset."""
        return score_keys.observations_key(self.run, entry, self.source_key(entry), target.sample_key)


def observe(
    context: ScoringContext, entry: SourceEntry, target: TargetContext, others: Sequence[SourceEntry] = ()
) -> Observations:
    """Return the observations of a source on a dataset, from the feature store or by one forward pass per image.

    Args:
        context: What pairs share.
        entry: The source.
        target: The dataset.
        others: Other readings of its network, observed in the same passes and kept until they are asked for.
    """
    run = context.run
    file, key = run.features_file(entry.name, target.name), context.observations_key(entry, target)
    is_stored = run.study.keep_features and not entry.scores_only
    stored = read_features(file, key) if is_stored else None
    if stored is not None:
        return stored
    observations = context.observed_before(key) or _observe_together(context, entry, target, others)
    if not is_stored:
        return observations
    rounded = to_float16(observations.in_numpy())
    write_features(file, rounded, key)
    return rounded


def _keep_costs(context: ScoringContext, entry: SourceEntry, source: SourceModel) -> None:
    """Keep what the network of a source costs, unless it is known: rankings show it without loading the network."""
    folder, key = context.run.folder, context.source_key(entry)
    known, family = read_costs(folder, entry.name, key), family_of(loadable_source(context.run, entry), source)
    if known is None or known.family != family:
        costs = replace(network_costs(source), revision=entry.weights_revision, family=family)
        write_costs(folder, entry.name, key, costs)


def _observe_together(
    context: ScoringContext, entry: SourceEntry, target: TargetContext, others: Sequence[SourceEntry]
) -> Observations:
    manifest, by_model = context.run.manifests[target.name], context.run.study.normalisation == "model"
    source = context.source(entry)
    context.wait_for_room(source, target)
    readings = {entry.name: source}
    for other in others:
        with suppress(SegTransferError):  # reported when its own turn comes
            reading = with_features(source, other.features)
            if reading.sizes == source.sizes and context.has_room_for(reading, target):
                readings[other.name] = reading
                _keep_costs(context, other, reading)
    observations = extract_readings(
        list(readings.values()),
        refuse_constant_images(target.images, target.name),
        target.sample,
        mean=None if by_model else manifest.mean,
        std=None if by_model else manifest.std,
        precision=context.run.study.precision,
        in_numpy=not context.features_on_device,
    )
    for name, one in list(zip(readings, observations, strict=True))[1:]:
        context.keep_for_later(context.observations_key(context.run.study.source(name), target), one)
    return observations[0]


def n_bytes_of(observations: Observations) -> int:
    """Return the bytes of features and probabilities."""
    arrays = (observations.features, observations.source_probs)
    return sum(array.nbytes for array in arrays if array is not None)


def _n_bytes(source: SourceModel) -> int:
    return sum(tensor.nbytes for tensor in source.network.state_dict().values())
