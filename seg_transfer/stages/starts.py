"""What a training starts from: a network with a new last layer, and how a source card describes it.

Networks of mmsegmentation are trained as their configs say, with the losses of their own heads; what does not depend on
the number of classes keeps its weights. All others are trained on the cross entropy of their class scores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from seg_transfer.data.manifest import SCRATCH, DatasetManifest
from seg_transfer.errors import ConfigError
from seg_transfer.models.adapters.mmseg import MmsegEntry
from seg_transfer.models.compat import require_mmengine
from seg_transfer.models.configs import ModelConfig, with_classes, with_normalization
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.heads import with_new_head
from seg_transfer.models.loading import as_source_model, trained_spec
from seg_transfer.models.networks import (
    build_network,
    class_dependent,
    load_backbone,
    load_weights_except_classifiers,
)
from seg_transfer.models.normalization import Normalization
from seg_transfer.models.reading import read_network
from seg_transfer.models.source_model import SourceModel
from seg_transfer.models.trained import KIND
from seg_transfer.stages.base import Item
from seg_transfer.store.content_key import sha256_of_file
from seg_transfer.study.networks import (
    init_checkpoint_of,
    initialization_key,
    loadable_source,
    own_entry,
    target_network,
)
from seg_transfer.study.run import Run
from seg_transfer.training.schedule import Schedule


@dataclass(frozen=True)
class Start:
    """A network as training starts, which changes it in place.

    Attributes:
        network: An mmseg segmentor or a `SegmentationTask`.
        model: Its description in a source card, from which it can be built again.
        config: Its name in a source card.
        initialization: "random", or the key or sha256 of its weights.
        source: The network as a source; None for an mmseg segmentor.
    """

    network: nn.Module
    model: ModelConfig
    config: str
    initialization: str
    source: SourceModel | None = None

    def head(self, schedule: Schedule) -> frozenset[str] | None:
        """Return the names of the new parameters of an mmseg segmentor; None where training finds them itself."""
        return class_dependent(self.model) if self.source is None and schedule.distinguishes_head else None

    def trained(self) -> SourceModel:
        """Return the network as a source, in evaluation mode."""
        if self.source is None:
            return as_source_model(self.network, self.model)
        self.network.eval()
        return self.source


def start_of(run: Run, item: Item) -> Start:
    """Return what a fine-tuning starts from: the source of a pair, or the study's own network for scratch.

    Raises:
        CheckpointError: The source is not trained yet, or its weights are missing, unsafe or do not fit.
        ConfigError: The network cannot be built, or has no layer that could be replaced.
    """
    seed = item.seed or 0
    if item.source == SCRATCH:
        return own_start(run, item.target, seed)
    named, manifest = run.study.source(item.source), run.manifests[item.target]
    entry = loadable_source(run, named)
    config = run.study.model_name if named.kind == "study" else named.network_name or ""
    return replace(_start_from(run, entry, manifest, seed), config=config)


def own_start(run: Run, dataset: str, seed: int) -> Start:
    """Return the study's own network for a dataset, with its common initialization.

    Raises:
        ConfigError: The study names no model, or the network cannot be built.
        CheckpointError: The weights that it starts from are missing, unsafe or do not fit.
    """
    entry = own_entry(run)
    if entry is not None:
        start = _start_from(run, entry.local(), run.manifests[dataset], seed)
        return replace(start, config=run.study.model_name, initialization=str(initialization_key(run)))
    model = target_network(run, dataset)
    network = build_network(model, seed=seed)
    return Start(network, model, run.study.model_name, _load_common_initialization(run, network))


def _start_from(run: Run, entry: SourceEntry, manifest: DatasetManifest, seed: int) -> Start:
    """Return the start from a source that exists; its name in a card is left to the caller."""
    segmentor = _segmentor(run, entry, manifest, seed) if isinstance(entry, MmsegEntry) else None
    if segmentor is not None:
        return segmentor
    tuned = _with_head(entry, manifest, seed)
    if run.study.normalisation == "target":
        order = tuned.normalization.channel_order
        tuned = replace(tuned, normalization=Normalization(manifest.mean, manifest.std, order))
    require_mmengine("training")
    from seg_transfer.training.task import SegmentationTask

    task = SegmentationTask(tuned, manifest.ignore_index)
    return Start(task, _description(entry, tuned), "", str(entry.key(memo=run.memo)), tuned)


def _load_common_initialization(run: Run, network: nn.Module) -> str:
    """Load the study's ImageNet weights, if it names any, into a backbone; returns "random" or their sha256."""
    checkpoint = init_checkpoint_of(run)
    if checkpoint is None:
        return "random"
    load_backbone(network, checkpoint)
    return sha256_of_file(checkpoint)


def _segmentor(run: Run, entry: MmsegEntry, manifest: DatasetManifest, seed: int) -> Start | None:
    """Return the start of a network of mmsegmentation; None for one of another kind that was trained here."""
    model, weights = entry.resolved(memo=run.memo)
    if KIND in model:
        return None
    model = with_classes(model, len(manifest.classes))
    if run.study.normalisation == "target":
        model = with_normalization(model, manifest.mean, manifest.std)
    network = build_network(model, seed=seed)
    if weights is None:
        raise ConfigError(f"source {entry.name}: field checkpoint is missing; name the weights to fine-tune")
    load_weights_except_classifiers(network, weights, model, entry.weights_key)
    return Start(network, model, entry.config.name, sha256_of_file(weights, run.memo))


def _with_head(entry: SourceEntry, manifest: DatasetManifest, seed: int) -> SourceModel:
    """Load a source and give it a new last layer, or a linear one on its features where it has none."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # of weights that the entry does not provide
        loaded = entry.load()
        if entry.scores_only:
            # A new layer can be put on the maps that its network computes.
            loaded = read_network(loaded.network, loaded.normalization, features="stages", n_classes=loaded.n_classes)
        return with_new_head(loaded, len(manifest.classes), seed)


def _description(entry: SourceEntry, source: SourceModel) -> dict[str, Any]:
    """Describe a network with a new last layer; one that was trained here before keeps its own description."""
    card = entry.resolved()[0] if isinstance(entry, MmsegEntry) else {}
    if KIND not in card:
        return trained_spec(entry, source, source.n_classes, source.normalization)
    mean, std, order = source.normalization
    return {**card, "n_classes": source.n_classes, "mean": list(mean), "std": list(std), "channel_order": order}
