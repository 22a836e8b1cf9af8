"""How images are read: EXIF orientation, range, bands."""

from typing import Any

import pytest
from data.inspection.masks import blocks, seen

from seg_transfer.data.inspection.answers import Answers
from seg_transfer.data.inspection.conclusions import Conclusion, conclude
from seg_transfer.data.inspection.evidence import ImageEvidence, MaskEvidence
from seg_transfer.errors import DataError

MASK = seen(blocks(0, 1))  # 8 x 16


def image(**changes: Any) -> ImageEvidence:
    fields = {"file": "i.png", "format": "PNG", "size": (8, 16), "mode": "RGB", "bits": 8, "n_bands": 3}
    return ImageEvidence(**fields | changes)


def of(*images: ImageEvidence, masks: list[MaskEvidence] | None = None, **answers: Any) -> Conclusion:
    return conclude(masks or [MASK] * len(images), images, None, Answers(**answers))


def line(conclusion: Conclusion) -> str:
    (doubt,) = conclusion.doubts
    return doubt.line


def test_usual_images_need_no_block() -> None:
    conclusion = of(image(is_constant=False), image(mode="L", n_bands=1))
    assert (conclusion.images, conclusion.notes, conclusion.doubts) == ({}, (), ())


@pytest.mark.parametrize(("size", "reading"), [((8, 16), "ignore"), ((16, 8), "apply")])
def test_sizes_decide_about_the_orientation(size: tuple[int, int], reading: str) -> None:
    conclusion = of(image(size=size, orientation=6), image(orientation=3))
    assert conclusion.images == {"exif": reading}
    assert conclusion.doubts == ()
    assert conclusion.notes[0].startswith(
        "2 images, such as i.png, with an EXIF orientation: label maps have the size of"
    )


def test_sizes_that_contradict_each_other() -> None:
    with pytest.raises(
        DataError, match=r"a\.jpg: its label map fits the picture turned by EXIF, but that of b\.jpg fits it"
    ):
        of(image(file="a.jpg", size=(16, 8), orientation=8), image(file="b.jpg", orientation=8))


@pytest.mark.parametrize(("size", "orientation"), [((8, 16), 3), ((8, 8), 6)])
def test_an_orientation_that_sizes_leave_open(size: tuple[int, int], orientation: int) -> None:
    mask = seen(blocks(0, 1)[:, 8 - size[1] // 2 : 8 + size[1] // 2])
    turned = image(size=size, orientation=orientation)
    assert line(of(turned, masks=[mask])) == (
        f"i.png: EXIF orientation {orientation} (1 of 1 image); state --exif apply (label maps were drawn on the "
        "upright picture) or --exif ignore (label maps were drawn on the stored pixels)"
    )
    assert of(turned, masks=[mask], exif="apply").images == {"exif": "apply"}


@pytest.mark.parametrize(("highest", "top"), [(900, 1023), (1023, 1023), (1024, 2047), (4000, 4095), (30, 255)])
def test_bits_that_are_not_used(highest: int, top: int) -> None:
    deep = image(mode="I;16", bits=16, n_bands=1, lowest=0, highest=highest)
    options = [option for option, _ in of(deep).doubts[0].readings]
    assert (of(deep).doubts[0].kind, options) == ("range", [f"--range 0,{top}", "--range 0,65535"])
    stated = of(deep, range=(0.0, 4095.0))
    assert (stated.images, stated.doubts) == ({"range": [0.0, 4095.0]}, ())


def test_the_brightest_image_decides() -> None:
    dark, bright = (image(mode="I;16", bits=16, n_bands=1, lowest=3, highest=high) for high in (900, 32768))
    conclusion = of(dark, bright)
    assert (conclusion.images, conclusion.doubts) == ({}, ())
    assert conclusion.notes == ("values from 3 to 32768 in 2 images of 16 bits: 0 is black and 65535 white",)


@pytest.mark.parametrize(
    "changes",
    [{"is_float": True, "lowest": -0.5, "highest": 1.5}, {"lowest": -0.5, "highest": 1.5}],
)
def test_floats_and_negative_values_need_a_range(changes: dict[str, Any]) -> None:
    deep = image(bits=32, n_bands=1, **changes)
    assert line(of(deep)).endswith("; state --range -0.5,1.5 (those become black and white)")


@pytest.mark.parametrize(("n_bands", "first"), [(2, "--bands 1,1,1"), (4, "--bands 1,2,3"), (5, "--bands 1,2,3")])
def test_bands(n_bands: int, first: str) -> None:
    doubt = of(image(n_bands=n_bands, mode="uint8")).doubts[0]
    assert (doubt.kind, doubt.seen, doubt.readings[0][0]) == ("bands", f"i.png: {n_bands} bands", first)
    assert of(image(n_bands=n_bands, mode="uint8"), bands=(n_bands, 2, 1)).images == {"bands": [n_bands, 2, 1]}


def test_a_band_that_an_image_lacks() -> None:
    with pytest.raises(DataError, match=r"b\.tif: has 4 bands, but --bands names band 5; name bands"):
        of(image(n_bands=5), image(file="b.tif", n_bands=3, has_alpha=True), bands=(5, 2, 1))


def test_a_mask_of_another_size_than_its_image() -> None:
    with pytest.raises(DataError, match=r"8 x 16 \(height x width\), but its image b\.png is 8 x 17"):
        of(image(), image(file="b.png", size=(8, 17)))


def test_alpha_and_cmyk_are_no_further_bands() -> None:
    assert of(image(mode="RGBA", has_alpha=True), image(mode="CMYK")).doubts == ()


def test_images_that_hold_one_color() -> None:
    flat = image(is_constant=True)
    with pytest.raises(DataError, match=r"i\.png: all 2 images hold one color each"):
        of(flat, flat)
    assert of(flat, image(is_constant=False)).doubts == ()


def test_no_range_fits_images_of_8_and_more_bits() -> None:
    deep = image(file="deep.png", mode="I;16", bits=16, n_bands=1, lowest=0, highest=4000)
    with pytest.raises(
        DataError, match=r"deep\.png: has 16 bits and needs a --range, but i\.png has 8 bits, which none"
    ):
        of(image(), deep)
    with pytest.raises(DataError, match=r"i\.png: has 8 bits, so --range 0,4095 would make it dark; leave out"):
        of(image(), deep, range=(0.0, 4095.0))
    assert of(image(), deep, range=(0.0, 255.0)).images == {"range": [0.0, 255.0]}
    full = image(mode="I;16", bits=16, n_bands=1, lowest=0, highest=60000)
    assert (of(image(), full).doubts, of(image(), full).images) == ((), {})
