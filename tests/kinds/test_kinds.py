"""Every kind of model from what its library saves to label maps: scored, fine-tuned, interrupted, kept, predicted.

Models have random weights and tiny sizes. What a source is read as is compared with what the library's own network
answers, without the code that reads sources.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from kinds.kind import Answer, Kind
from kinds.listing import KINDS
from kinds.targets import IDS, SIZES, TUNED
from kinds.way import METRICS, SOURCE, STEPS, Way, call
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from seg_transfer.store.source_card import read_source_card
from seg_transfer.training.crops import TrainingCrops, as_tensors

pytestmark = pytest.mark.filterwarnings("ignore:Was asked to gather along dimension 0")


@pytest.fixture(params=KINDS)
def way(request: pytest.FixtureRequest, way_of: Callable[[str], Way]) -> Way:
    return way_of(request.param)


# Scored


def fitted(kind: Kind, images: Tensor) -> Tensor:
    """Normalize and fit images (B, 3, H, W) of 0 to 255 as the description of the kind says."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in kind.normalization)
    normal = (images.float() / 255 - mean) / std
    if kind.fixed:
        return F.interpolate(normal, size=kind.fixed, mode="bilinear", align_corners=False, antialias=True)
    height, width = (math.ceil(side / kind.multiple) * kind.multiple for side in images.shape[2:])
    if kind.square:
        height = width = max(height, width)
    padded = torch.zeros(len(images), 3, height, width)
    padded[:, :, : images.shape[2], : images.shape[3]] = normal
    return padded


def at_pixels(one: Tensor, kind: Kind, size: tuple[int, int], rows: list[int], columns: list[int]) -> Tensor:
    """Enlarge a map (1, D, h, w) to the size of the fitted image, and take it at pixels: (n, D)."""
    whole = size if kind.fixed else tuple(fitted(kind, torch.zeros(1, 3, *size)).shape[2:])
    return F.interpolate(one, size=whole, mode="bilinear", align_corners=False)[0, :, rows, columns].T


def answers_at_sample(way: Way, target: str) -> tuple[Tensor | None, Tensor | None]:
    """The features and class probabilities of the library's own network at the sampled pixels of a target."""
    sample = pq.read_table(way.folder / "run" / "samples" / f"{target}.parquet").to_pandas()
    features, probabilities = [], []
    for image_id, pixels in sample.groupby("image_id", sort=False):
        image = np.array(Image.open(way.world / target / f"{image_id}.png"))
        assert image.shape[:2] == SIZES[target]
        answer: Answer = way.kind.answer(way.saved[1], fitted(way.kind, torch.from_numpy(image).permute(2, 0, 1)[None]))
        place = (way.kind, SIZES[target], pixels["row"].to_list(), pixels["column"].to_list())
        if answer.maps is not None:
            features.append(torch.cat([at_pixels(one, *place) for one in answer.maps], dim=1))
        if answer.scores is not None:
            probabilities.append(at_pixels(answer.scores, *place).softmax(dim=1))
    return torch.cat(features) if features else None, torch.cat(probabilities) if probabilities else None


def assert_close(found: np.ndarray, expected: Tensor) -> None:
    largest = float(expected.abs().max())
    torch.testing.assert_close(torch.tensor(found), expected, atol=1e-4 * largest, rtol=1e-3)


def test_features_and_probabilities_at_pixels_are_the_librarys_own(way: Way) -> None:
    assert way.scores.keys() == IDS.keys()
    for target, observed in zip(IDS, way.observed, strict=True):
        features, probabilities = answers_at_sample(way, target)
        has_features, has_scores = not way.entry.scores_only, probabilities is not None
        assert (observed.features is not None, observed.source_probs is not None) == (has_features, has_scores)
        if observed.features is not None:
            assert np.isfinite(observed.features).all()
            assert (np.ptp(observed.features, axis=0) > 0).mean() > 0.25
        if features is not None:
            assert_close(observed.features, features)
        if probabilities is not None:
            assert_close(observed.source_probs, probabilities)
            assert np.ptp(observed.source_probs, axis=0).max() > 1e-3
            np.testing.assert_allclose(observed.source_probs.sum(axis=1), 1, atol=1e-5)


def test_every_metric_that_can_be_computed_has_a_finite_score(way: Way) -> None:
    source = way.source
    without = [*([] if source.features_known else ["gbc", "nleep"]), *([] if source.scores_known else ["leep"])]
    for scores in way.scores.values():
        assert scores.keys() == set(METRICS) - set(without)
        assert all(map(math.isfinite, scores.values()))


# Fine-tuned


def loss_of_fixed_crops(way: Way, network: Any, crops: TrainingCrops) -> float:
    """The training loss of the same four crops, with the same random numbers for dropout."""
    given = crops if hasattr(network, "decode_head") else crops.packed(as_tensors)
    samples = [given[index] for index in range(4)]
    batch = {name: [sample[name] for sample in samples] for name in samples[0]}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        losses = network.train()(**network.data_preprocessor(batch, True), mode="loss")
    return float(network.parse_losses(losses)[0])


def test_fine_tuning_lowers_the_loss(way: Way) -> None:
    crops = TrainingCrops(way.run.low_shot(TUNED), way.run.manifests[TUNED], way.schedule, 0)
    start, trained = way.start(), way.start()
    trained.trained().network.load_state_dict(load_file(way.kept / "weights.safetensors"))
    before, after = (loss_of_fixed_crops(way, one.network, crops) for one in (start, trained))
    assert after < 0.98 * before


def test_an_interrupted_fine_tuning_ends_with_the_same_weights(way: Way) -> None:
    assert read_source_card(way.kept / "source.json").steps == STEPS
    files = [folder / "weights.safetensors" for folder in (way.kept, way.kept_after_interruption)]
    assert files[0].read_bytes() == files[1].read_bytes()


# Predicted


def test_label_maps_have_the_ids_of_the_target_and_the_quality_that_was_measured(way: Way) -> None:
    images, out = way.world / TUNED / "eval" / "images", way.folder / "out"
    assert call("predict", way.kept, "--images", images, "--out", out, "--threads", "1", "--no-overlay") == 0
    hits, unions = np.zeros(len(IDS[TUNED])), np.zeros(len(IDS[TUNED]))
    for file in sorted(images.iterdir()):
        found = np.array(Image.open(out / file.name))
        labels = np.array(Image.open(file.parents[1] / "labels" / file.name))
        assert found.shape == labels.shape
        assert set(np.unique(found)) <= set(IDS[TUNED])
        known = labels != 255
        for place, number in enumerate(IDS[TUNED]):
            hits[place] += (known & (found == number) & (labels == number)).sum()
            unions[place] += (known & ((found == number) | (labels == number))).sum()
    row = pq.read_table(
        way.folder / "run" / "performance" / SOURCE / f"{TUNED}.parquet", partitioning=None
    ).to_pylist()[0]
    assert row["miou"] == pytest.approx((hits / unions).mean(), abs=1e-12)
