"""Networks of transformers whose queries have classes and masks, as sources of class scores and features."""

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers_kinds import N_CLASSES, N_QUERIES, TASK, detr, eomt, mask2former, maskformer, oneformer, saved
from transformers_nets import entry, images, normalized, refusal

from seg_transfer.errors import CheckpointError
from seg_transfer.models.adapters._transformers_task import task_tokens
from seg_transfer.models.compat import import_torchvision, quiet
from seg_transfer.models.heads import with_new_head
from seg_transfer.models.loading import build_trained, trained_spec
from seg_transfer.models.networks import to_device

# Of the library's tokenizer for the vocabulary of `save_tokenizer`: the start, the four words, and the end.
N_TOKENS = len(TASK) + 2


@pytest.fixture(scope="module")
def library() -> Any:
    import_torchvision()
    with quiet():
        return pytest.importorskip("transformers")


def answer(network: Any, pixels: Any, folder: Any) -> Any:
    """Return what the library's network says of normalized pixels."""
    tokens = task_tokens(folder, network.config.to_dict())
    options = {} if tokens is None else {"task_inputs": torch.tensor([tokens] * len(pixels))}
    with quiet(), torch.inference_mode():
        return network(pixels, **options)


@pytest.mark.parametrize(
    ("make", "size"),
    [(mask2former, (59, 75)), (maskformer, (59, 75)), (oneformer, (64, 45)), (eomt, (48, 48)), (detr, (64, 96))],
)
def test_scores_are_those_of_the_librarys_semantic_maps(tmp_path, library, make, size):
    """At one pixel, by hand: the sum over the queries of the class's probability times the mask's."""
    network = saved(tmp_path, library, make)
    source = entry(tmp_path).load()
    assert (source.n_classes, source.classifier_name) == (N_CLASSES, None)
    maps = source.feature_maps(images(2, *size))
    output = answer(network, normalized(images(2, *size)), tmp_path)
    is_detr = make is detr
    classes = output.logits if is_detr else output.class_queries_logits
    masks = output.pred_masks if is_detr else output.masks_queries_logits
    for image, row, column in ((0, 0, 0), (1, 5, 7)):
        by_class = torch.zeros(N_CLASSES)
        for query in range(N_QUERIES):
            exponentials = classes[image, query].exp()
            mask = 1 / (1 + (-masks[image, query, row, column]).exp())
            by_class += exponentials[:N_CLASSES] / exponentials.sum() * mask
        found = maps.scores[image, :, row, column].softmax(dim=0)
        torch.testing.assert_close(found, by_class / by_class.sum(), atol=1e-5, rtol=1e-4)
    assert maps.scores.shape == (2, N_CLASSES, *masks.shape[2:])
    assert maps.scores.softmax(dim=1).std() > 1e-3


def test_scores_agree_with_the_librarys_own_function(tmp_path, library):
    network = saved(tmp_path, library, maskformer)
    maps = entry(tmp_path, scores_only=True).load().feature_maps(images(1, 64, 96))
    output = answer(network, normalized(images(1, 64, 96)), tmp_path)
    expected = library.MaskFormerImageProcessor().post_process_semantic_segmentation(output, [(64, 96)])[0]
    # The library enlarges the masks to 362 x 362 pixels first, so that rims of segments may differ.
    enlarged = F.interpolate(maps.scores.exp(), size=(64, 96), mode="bilinear").argmax(dim=1)[0]
    assert (enlarged == expected).float().mean() > 0.95
    assert maps.features == ()


@pytest.mark.parametrize("make", [mask2former, oneformer])
def test_features_of_stages_are_the_maps_that_all_queries_share(tmp_path, library, make):
    network = saved(tmp_path, library, make)
    source = entry(tmp_path).load()
    assert [(layer.stride, layer.channels) for layer in source.layers] == [(4, 32), (8, 32), (16, 32), (32, 32)]
    maps = source.feature_maps(images(1, 64, 96))
    with quiet(), torch.inference_mode():
        level = network.model.pixel_level_module(normalized(images(1, 64, 96)))
    decoded = level.decoder_hidden_states if make is mask2former else level.decoder_features
    finest = level.decoder_last_hidden_state if make is mask2former else level.decoder_last_feature
    expected = [finest, *sorted(decoded[:3], key=lambda one: -one.shape[2])]
    for found, wanted in zip(maps.features, expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-3 * float(wanted.abs().max()), rtol=1e-3)


def test_features_of_a_vit_with_queries_end_before_the_queries(tmp_path, library):
    saved(tmp_path, library, eomt)
    source = entry(tmp_path).load()
    assert [(layer.name, layer.stride) for layer in source.layers] == [(f"model.layers.{n}", 8) for n in range(3)]
    assert source.sizes.fixed == (48, 48)


# The task of OneFormer


def test_the_task_is_tokenized_as_the_library_does(tmp_path, library):
    network = saved(tmp_path, library, oneformer)
    tokens = task_tokens(tmp_path, network.config.to_dict())
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    words = [vocabulary[f"{word}</w>"] for word in TASK]
    assert tokens == [0, *words, 1, *[0] * (network.config.task_seq_len - N_TOKENS)]
    with quiet():
        tokenizer = library.CLIPTokenizer.from_pretrained(tmp_path)
        processor = library.OneFormerProcessor.__new__(library.OneFormerProcessor)
    processor.tokenizer = tokenizer
    expected = library.OneFormerProcessor._preprocess_text(processor, ["the task is semantic"], max_length=77)
    assert [tokens] == expected.tolist()
    tokenizer.save_pretrained(tmp_path)  # tokenizer.json
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).unlink()
    assert (tmp_path / "tokenizer.json").exists()
    assert task_tokens(tmp_path, network.config.to_dict()) == tokens


def test_another_tokenizer_changes_key_and_scores(tmp_path, library):
    saved(tmp_path, library, oneformer)
    before, scores = entry(tmp_path).key(), entry(tmp_path).load().feature_maps(images(1)).scores
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    words = list(vocabulary)
    words[2:] = words[:1:-1]  # the same words in reverse order
    (tmp_path / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    assert entry(tmp_path).key() != before
    assert not torch.allclose(entry(tmp_path).load().feature_maps(images(1)).scores, scores)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"vocab.json": None}, "has neither tokenizer.json nor vocab.json and merges.txt"),
        ({"vocab.json": '{"the": "one"}'}, "vocab.json: not the vocabulary and merges of a tokenizer"),
        ({"merges.txt": "a b c\n"}, "not the vocabulary and merges of a tokenizer"),
        ({"merges.txt": "x y\n"}, "the tokenizer cannot be built"),
        ({"tokenizer.json": "{}"}, "tokenizer.json: not the vocabulary and merges of a tokenizer"),
    ],
)
def test_a_damaged_tokenizer_is_named(tmp_path, library, files, message):
    saved(tmp_path, library, oneformer)
    for name, text in files.items():
        if text is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_text(text)
    assert message in refusal(tmp_path)


# Fine-tuning


def test_a_new_class_predictor_learns_and_is_built_again(tmp_path, library):
    saved(tmp_path, library, mask2former)
    source = with_new_head(entry(tmp_path).load(), 3, seed=1)
    assert source.n_classes == 3
    assert source.network.model.class_predictor.out_features == 4
    pixels = normalized(images(2, 32, 32))
    labels = (torch.arange(32) // 11).expand(2, 32, 32)
    optimizer = torch.optim.Adam(source.network.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        scores, _ = source.class_scores(pixels)
        loss = F.cross_entropy(F.interpolate(scores, size=(32, 32), mode="bilinear"), labels)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
    spec = json.loads(json.dumps(trained_spec(entry(tmp_path), source, 3, source.normalization)))
    again, normalization, classifier = build_trained(spec, "source.json")
    to_device(again, "cpu").load_state_dict(source.network.state_dict())
    assert (normalization.mean, classifier) == (source.normalization.mean, None)
    with torch.inference_mode():
        assert torch.equal(again.eval()(pixels), source.network.eval()(pixels))


def test_new_classes_depend_on_the_seed_alone(tmp_path, library):
    saved(tmp_path, library, maskformer)
    first, again, other = (with_new_head(entry(tmp_path).load(), 3, seed).network for seed in (1, 1, 2))
    weights = [network.model.class_predictor.weight for network in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_weights_without_the_class_predictor_are_refused(tmp_path, library):
    saved(tmp_path, library, maskformer)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "id2label": {"0": "a"}, "label2id": {"a": 0}}))
    assert "weights" in refusal(tmp_path, CheckpointError)
