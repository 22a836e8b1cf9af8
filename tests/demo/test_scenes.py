"""Scenes of the demo world: what they show, and what the domains of a family share."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from seg_transfer.data.fields import IGNORE
from seg_transfer.demo import scene as scene_module
from seg_transfer.demo.domains import DOMAINS, render
from seg_transfer.demo.scene import Domain, Scene, random_stream

SIZE = (64, 96)
SPLITS = ("train", "source_train", "eval")
PARTNERS = [("day_street", "dusk_street"), ("cells_light", "cells_dark")]

each_domain = pytest.mark.parametrize("domain", list(DOMAINS))


def scenes(domain: str, count: int, split: str = "train") -> list[tuple[np.ndarray, np.ndarray]]:
    return [render(domain, split, index, size=SIZE) for index in range(count)]


def drawn(domain: Domain, key: str) -> Scene:
    scene = Scene(random_stream(key), domain, SIZE)
    domain.draw(scene)
    return scene


def by_structure(domain: Domain) -> Domain:
    """The same domain with every structure as a class of its own."""
    parts = {structure: (structure, domain.parts[structure][1]) for structure in sorted(domain.parts)}
    return dataclasses.replace(domain, parts=parts)


@each_domain
@pytest.mark.parametrize("size", [(48, 64), (64, 96), (75, 131), (128, 96)])
def test_image_and_label_have_the_requested_size(domain: str, size: tuple[int, int]) -> None:
    image, label = render(domain, "train", 0, size=size)
    assert (image.shape, image.dtype) == ((*size, 3), np.uint8)
    assert (label.shape, label.dtype) == (size, np.uint8)


@each_domain
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("size", [(48, 64), (64, 96), (128, 96)])
def test_every_split_shows_exactly_the_classes_and_ignored_pixels(
    domain: str, split: str, size: tuple[int, int]
) -> None:
    counts: Counter[int] = Counter()
    for index in range(4):
        counts.update(render(domain, split, index, size=size)[1].ravel().tolist())
    assert set(counts) == {*range(len(DOMAINS[domain].classes)), IGNORE}
    assert min(counts.values()) > 40


@each_domain
def test_the_border_and_a_few_spots_are_unlabeled(domain: str) -> None:
    for _, label in scenes(domain, 5):
        border = np.ones(SIZE, dtype=bool)
        border[1:-1, 1:-1] = False
        assert (label[border] == IGNORE).all()
        assert 0 < (label[~border] == IGNORE).mean() < 0.02


def test_all_scenes_differ() -> None:
    images = [
        render(domain, split, index, size=SIZE, seed=seed)[0].tobytes()
        for domain in DOMAINS
        for split in SPLITS
        for index in range(3)
        for seed in (0, 1)
    ]
    assert len(set(images)) == len(images) == 4 * 3 * 3 * 2


@pytest.mark.parametrize(("first", "second", "name"), [(*PARTNERS[0], "sky"), (*PARTNERS[1], "nucleus")])
def test_the_domains_of_a_family_draw_different_scenes(first: str, second: str, name: str) -> None:
    for (_, one), (_, other) in zip(scenes(first, 5), scenes(second, 5), strict=True):
        here, there = one == DOMAINS[first].classes.index(name), other == DOMAINS[second].classes.index(name)
        assert (here & there).sum() < 0.95 * (here | there).sum()


def color_accuracy(domain: str) -> float:
    """Balanced accuracy of the nearest class mean color, learned on 12 scenes, on 6 others."""
    images, labels = (np.stack(arrays) for arrays in zip(*scenes(domain, 18), strict=True))
    classes = range(len(DOMAINS[domain].classes))
    means = np.stack([images[:12][labels[:12] == index].mean(axis=0) for index in classes])
    distance = ((images[12:, ..., None, :].astype(float) - means) ** 2).sum(axis=-1)
    return float(np.mean([(distance[labels[12:] == index].argmin(axis=-1) == index).mean() for index in classes]))


@each_domain
def test_color_does_not_identify_the_classes(domain: str) -> None:
    assert color_accuracy(domain) < 2 / len(DOMAINS[domain].classes)


def test_color_would_identify_the_classes_if_it_were_not_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_module, "VARIETY", 0.0)
    assert min(color_accuracy(domain) * len(DOMAINS[domain].classes) for domain in DOMAINS) > 2


# Families


def test_there_are_two_families_of_two_domains() -> None:
    assert Counter(domain.family for domain in DOMAINS.values()) == {"street": 2, "cells": 2}


@pytest.mark.parametrize(("first", "second"), PARTNERS)
def test_a_family_shares_its_drawing_under_different_class_lists(first: str, second: str) -> None:
    one, other = DOMAINS[first], DOMAINS[second]
    seen: set[tuple[str, str]] = set()
    for index in range(10):
        a, b = drawn(one, f"{index}").classes, drawn(other, f"{index}").classes
        seen |= {(one.classes[i], other.classes[j]) for i, j in np.unique(np.stack([a.ravel(), b.ravel()]), axis=1).T}
    assert seen == {(one.parts[structure][0], other.parts[structure][0]) for structure in one.parts}
    assert set(one.classes) != set(other.classes)


def test_families_share_no_structure() -> None:
    assert not set(DOMAINS["day_street"].parts) & set(DOMAINS["cells_light"].parts)


def roughness(domain: Domain) -> dict[str, float]:
    """Median step in brightness to the right-hand neighbour, by structure, in units of the image's deviation."""
    domain = by_structure(domain)
    steps: dict[str, list[np.ndarray]] = {name: [] for name in domain.classes}
    for index in range(12):
        scene = drawn(domain, f"roughness {index}")
        bright = scene.image.mean(axis=-1)
        step = np.abs(np.diff(bright, axis=1)) / bright.std()
        same = scene.classes[:, 1:] == scene.classes[:, :-1]
        for position, name in enumerate(domain.classes):
            steps[name].append(step[same & (scene.classes[:, 1:] == position)])
    return {name: float(np.median(np.concatenate(parts))) for name, parts in steps.items()}


@pytest.mark.parametrize(("first", "second"), PARTNERS)
def test_a_family_shares_its_textures(first: str, second: str) -> None:
    one, other = roughness(DOMAINS[first]), roughness(DOMAINS[second])
    assert np.corrcoef(list(one.values()), list(other.values()))[0, 1] > 0.95
    assert max(one.values()) > 5 * min(one.values())


def test_the_light_differs_within_a_family() -> None:
    for bright, dark in PARTNERS:
        means = [np.mean([image.mean() for image, _ in scenes(domain, 10)]) for domain in (bright, dark)]
        assert means[0] > 1.4 * means[1]
