"""Source cards: read back exactly, refused when damaged, and confined to their folder."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from seg_transfer.errors import CheckpointError
from seg_transfer.store.source_card import FILE_NAME, SourceCard, read_source_card, write_source_card

CARD = {
    "source": "camvid",
    "dataset": "camvid",
    "classes": ["sky", "Straße"],
    "config": "hrnetv2_tiny.py",
    "model": {"type": "EncoderDecoder", "decode_head": {"in_channels": [4, 8], "num_classes": 2}},
    "weights": "weights.safetensors",
    "sha256": "ab" * 32,
    "initialisation": "random",
    "seed": 3,
    "steps": 10,
    "schedule": {"steps": 10, "scale_range": [0.5, 2.0], "crop_size": None},
    "n_train_images": 5,
    "miou": 0.1 + 0.2,
    "class_iou": [0.6, None],
    "absent_classes": ["Straße"],
    "n_eval_images": 2,
    "seconds": 1.5,
    "content_key": "cd" * 32,
    "key_parts": {"seed": "3", "train": "sha256:0123456789abcdef"},
    "seg_transfer_version": "0.1.0",
    "created_utc": "2024-01-01T00:00:00+00:00",
}


def refusal(file: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_source_card(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    return message


def test_a_card_is_read_back_exactly(tmp_path):
    card = SourceCard.model_validate(CARD)
    write_source_card(card, tmp_path / "sources" / "camvid")
    file = tmp_path / "sources" / "camvid" / FILE_NAME
    assert read_source_card(file) == card
    assert json.loads(file.read_text("utf-8")) == CARD


def test_a_missing_card_is_reported_with_advice(tmp_path):
    assert "no such source; run `seg-transfer train-sources` first" in refusal(tmp_path / FILE_NAME)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff{}", json.dumps(CARD).encode()[:-40]])
def test_a_damaged_card_is_refused(tmp_path, content):
    (tmp_path / FILE_NAME).write_bytes(content)
    assert "not a readable source card" in refusal(tmp_path / FILE_NAME)


@pytest.mark.parametrize("field", sorted(CARD.keys() - {"key_parts"}))
def test_every_field_is_required(tmp_path, field):
    (tmp_path / FILE_NAME).write_text(json.dumps({name: CARD[name] for name in CARD if name != field}))
    assert "not a readable source card" in refusal(tmp_path / FILE_NAME)


def test_a_card_may_lack_the_parts_of_its_key(tmp_path):
    (tmp_path / FILE_NAME).write_text(json.dumps({name: CARD[name] for name in CARD if name != "key_parts"}))
    assert read_source_card(tmp_path / FILE_NAME).key_parts == {}


def test_an_unknown_field_is_refused(tmp_path):
    (tmp_path / FILE_NAME).write_text(json.dumps({**CARD, "colour": "red"}))
    assert "not a readable source card" in refusal(tmp_path / FILE_NAME)


def test_a_card_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        SourceCard.model_validate(CARD).miou = 1.0


@pytest.mark.parametrize("weights", ["weights.safetensors", "../../weights.safetensors", "/etc/weights.safetensors"])
def test_the_weights_lie_beside_the_card(tmp_path, weights):
    card = SourceCard.model_validate({**CARD, "weights": weights})
    assert card.weights_file(tmp_path) == tmp_path / "weights.safetensors"
