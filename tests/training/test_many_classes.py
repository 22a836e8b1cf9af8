"""Above 255 classes, 255 is a class and 65535 is ignored: in crops, in the loss, in predictions and in the mIoU."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seg_transfer.models.configs import heads, read_model_config, with_classes, with_normalization
from seg_transfer.models.networks import build_network
from seg_transfer.models.sizes import WHOLE
from seg_transfer.resources import shipped
from seg_transfer.training import evaluate
from seg_transfer.training.crops import as_mmseg, random_crop
from seg_transfer.training.evaluate import _best_class
from seg_transfer.training.iou import confusion_counts, segmentation_quality
from seg_transfer.training.schedule import Schedule

TINY = shipped("configs/models/hrnetv2_tiny.py")
SCHEDULE = Schedule(steps=1, batch_size=1, learning_rate=0.1, scale_range=(0.4, 2.5))


@pytest.mark.parametrize("seed", range(6))
def test_a_crop_of_wide_labels_is_that_of_narrow_ones(seed):
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (30, 44, 3), np.uint8)
    narrow = generator.integers(0, 200, (30, 44), np.uint8)
    crops = [
        random_crop(image, label, (32, 32), SCHEDULE, np.random.default_rng(seed))
        for label in (narrow, narrow.astype(np.uint16) + 20_000)
    ]
    (pixels, ids), (wide_pixels, wide_ids) = crops
    assert (ids.dtype, wide_ids.dtype) == (np.uint8, np.uint16)
    np.testing.assert_array_equal(pixels, wide_pixels)
    np.testing.assert_array_equal(np.where(ids == 255, 65535, ids.astype(int) + 20_000), wide_ids)


@pytest.mark.parametrize("n_classes", [255, 256, 300])
def test_a_config_names_the_ignored_index_only_above_255_classes(n_classes):
    model = with_normalization(with_classes(read_model_config(TINY), n_classes), (0.4,) * 3, (0.2,) * 3)
    expected = None if n_classes == 255 else 65535
    assert {head.get("ignore_index") for head in heads(model)} == {expected}
    assert model["data_preprocessor"]["seg_pad_val"] == (expected or 255)


def test_the_loss_counts_class_255_and_leaves_out_65535():
    model = with_normalization(with_classes(read_model_config(TINY), 300), (0.4,) * 3, (0.2,) * 3)
    network = build_network(model, seed=2).train()
    generator = np.random.default_rng(4)
    image = generator.integers(0, 256, (2, 32, 32, 3), np.uint8)
    label = generator.choice([3, 255, 256, 299, 65535], size=(2, 32, 32)).astype(np.uint16)
    samples = [as_mmseg(one, ids, TINY) for one, ids in zip(image, label, strict=True)]
    batch = {key: [sample[key] for sample in samples] for key in samples[0]}
    found = network.loss(**network.data_preprocessor(batch, training=True))["decode.loss_ce"]

    pixels = (torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255 - 0.4) / 0.2
    scores = F.interpolate(build_network(model, seed=2).train()(pixels), size=(32, 32), mode="bilinear")
    logs, ids = scores.log_softmax(dim=1), torch.from_numpy(label.astype(np.int64))
    known = ids != 65535
    by_hand = -logs.gather(1, ids.clamp(max=299)[:, None])[:, 0][known].mean()
    torch.testing.assert_close(found, by_hand, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_classes", [7, 256, 257, 700])
def test_the_best_of_many_classes_is_the_first_of_the_highest(n_classes, monkeypatch):
    generator = torch.Generator().manual_seed(n_classes)
    # Few values, so that classes of several blocks tie at many pixels.
    scores = torch.randint(0, 12, (1, n_classes, 5, 6), generator=generator).float()
    found = _best_class(scores, WHOLE, (10, 12))
    monkeypatch.setattr(evaluate, "_CLASSES_AT_ONCE", 10_000)
    assert torch.equal(found, _best_class(scores, WHOLE, (10, 12)))


def test_iou_of_many_classes_by_hand():
    labels = np.array([255, 255, 256, 299, 65535], np.uint16)
    predictions = np.array([255, 0, 256, 255, 299])
    quality = segmentation_quality(confusion_counts(labels, predictions, 300, 65535), n_images=1)
    assert {i: value for i, value in enumerate(quality.class_iou) if value is not None} == {255: 1 / 3, 256: 1, 299: 0}
    assert quality.miou == pytest.approx(4 / 9)
