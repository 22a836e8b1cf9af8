"""Lines of a manifest that state the same as options, and what a manifest states."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data.corpus.cases import Given, inspected
from data.corpus.files import gray8, made, write_oriented
from data.corpus.scenes import colors, shapes

from seg_transfer.data.audit import audit
from seg_transfer.data.inspection import Answers
from seg_transfer.data.inspection.stated import manifest_line, stated_answers
from seg_transfer.data.manifest import DatasetManifest, load_manifest
from seg_transfer.store.content_key import manifest_key

Manifest = Callable[..., DatasetManifest]


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("--exif ignore", "images.exif: ignore"),
        ("--range 0,4095", "images.range: [0, 4095]"),
        ("--bands 3,2,1", "images.bands: [3, 2, 1]"),
        ("--unlisted nearest", "labels.unlisted: nearest"),
        ("--unlisted class", "labels.unlisted: error"),
        ("--ignore none", "labels.ignore: []"),
        ("--ignore 0,255", "labels.ignore: [0, 255]"),
        ("--labels-are colors", "labels.encoding: rgb"),
        ("anything else", "anything else"),
    ],
)
def test_the_line_of_an_option(option: str, line: str) -> None:
    assert manifest_line(option) == line


@pytest.mark.parametrize(
    ("fields", "answers"),
    [
        ({}, Answers()),
        ({"labels": {"encoding": "id", "unlisted": "error"}}, Answers(unlisted="class")),
        ({"labels": {"encoding": "id", "unlisted": "nearest"}}, Answers(unlisted="nearest")),
        ({"images": {"exif": "ignore"}}, Answers(exif="ignore")),
        ({"images": {"bands": [3, 2, 1], "range": [0.0, 9.0]}}, Answers(bands=(3, 2, 1), range=(0, 9))),
    ],
)
def test_a_file_states_what_was_stated_and_no_more(
    fields: dict[str, Any], answers: Answers, manifest: Manifest, tmp_path: Path
) -> None:
    mine = manifest(**fields)
    assert stated_answers(mine) == answers
    file = tmp_path / "mine.yaml"
    file.write_text(mine.as_yaml(), encoding="utf-8")
    again = load_manifest(file)
    assert stated_answers(again) == answers
    assert again == mine
    assert manifest_key(again) == manifest_key(mine)


def test_answers_to_an_inspection_are_no_doubts_of_the_audit(tmp_path: Path) -> None:
    """What ``inspect --exif ignore --unlisted class`` writes is stated; without answers, the same doubt stays."""
    for stem in "ab":
        write_oriented(tmp_path / f"images/{stem}.jpg", colors(30, 44, 1), 3)
        gray8(made(tmp_path / f"labels/{stem}.png"), shapes(30, 44))
    stated = audited_again(tmp_path, {"exif": "ignore", "unlisted": "class"})
    assert stated == []
    assert audited_again(tmp_path, {}) == ["exif"]


def audited_again(here: Path, answers: dict[str, str]) -> list[str]:
    """Write the manifest of an inspection, and audit it."""
    found = inspected(Given(here / "images", here / "labels", None, answers))
    file = here / "mine.yaml"
    file.write_text(found.manifest.as_yaml(), encoding="utf-8")
    return [doubt.kind for doubt in audit(load_manifest(file), found.root).doubts]
