"""The task of a network that can do several, as the tokens that it takes; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from seg_transfer.data.plain import read_json
from seg_transfer.errors import ConfigError, reason_of
from seg_transfer.models.compat import quiet

_TASK = "the task is semantic"
_TYPE = "oneformer"
_LONGEST = 1024


def takes_task(config: Mapping[str, Any]) -> bool:
    """Return whether the network of a config is a OneFormer."""
    return config.get("model_type") == _TYPE


def task_tokens(folder: Path, config: Mapping[str, Any]) -> list[int] | None:
    """Return the tokens of the task for a OneFormer, zeros after the last one; None for other networks.

    The vocabulary and the merges of the folder are data: the tokenizer is the library's.

    Raises:
        ConfigError: The files of the tokenizer are missing or wrong, or transformers is not installed.
    """
    if not takes_task(config):
        return None
    vocabulary, merges = _vocabulary_of(folder)
    length = config.get("task_seq_len", 77)
    if type(length) is not int or not 1 <= length <= _LONGEST:
        raise ConfigError(
            f"{folder}: config.json: field task_seq_len: {length!r:.80}: must be a number of tokens from 1 to "
            f"{_LONGEST}; copy it again"
        )
    try:
        with quiet():
            tokenizer: Any = import_module("transformers").CLIPTokenizer(vocab=vocabulary, merges=merges)
        found = tokenizer([_TASK], padding="max_length", max_length=length, truncation=True)
    except ImportError as error:
        raise ConfigError(
            f"{folder}: transformers cannot be imported ({reason_of(error)}); pip install 'seg_transfer[transformers]'"
        ) from error
    except Exception as error:  # the tokenizer raises whatever its files make it raise
        raise ConfigError(
            f"{folder}: the tokenizer cannot be built ({reason_of(error)}); copy its files again"
        ) from error
    return [token * mask for token, mask in zip(found["input_ids"][0], found["attention_mask"][0], strict=True)]


def _vocabulary_of(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Read tokenizer.json, or else vocab.json and merges.txt."""
    whole, vocabulary, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
    words: object
    if whole.is_file():
        source, model = whole, read_json(whole).get("model")
        words, pairs = (model.get("vocab"), model.get("merges")) if isinstance(model, dict) else (None, None)
    elif vocabulary.is_file() and merges.is_file():
        source, words = vocabulary, read_json(vocabulary)
        pairs = [line for line in _text(merges).splitlines() if not line.startswith("#version")]
    else:
        raise ConfigError(
            f"{folder}: has neither {whole.name} nor {vocabulary.name} and {merges.name}, which give the network its "
            "task; copy the files of the tokenizer there"
        )
    split = [pair.split(" ") if isinstance(pair, str) else pair for pair in pairs or [] if pair]
    is_vocabulary = isinstance(words, dict) and all(type(number) is int for number in words.values())
    if not is_vocabulary or not all(isinstance(pair, list) and len(pair) == 2 for pair in split):
        raise ConfigError(f"{source}: not the vocabulary and merges of a tokenizer; copy it again")
    assert isinstance(words, dict)
    return words, [(str(first), str(second)) for first, second in split]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({reason_of(error)}); copy it again") from error
